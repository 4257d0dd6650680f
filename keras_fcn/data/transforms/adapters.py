"""Makes transforms of augmentation that others wrote: functions, Albumentations, Keras's layers."""

import copy
import inspect
import sys
import threading
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from keras_fcn.arguments import MOST_CLASSES, integer
from keras_fcn.data.transforms.geometric import Transform


def as_transform(
    augmenter: Callable[..., Any],
    *,
    ignore_class: int | None = None,
    num_classes: int | None = None,
) -> Transform:
    """Makes a transform of a function of NumPy arrays, of Albumentations or of a layer of Keras.

    What `augmenter` may be, and whether its runs repeat:

    - A function of (image, label_map) that returns both: uint8 (height, width, channels) and int32
      (height, width). If it has a parameter `rng`, it gets a `numpy.random.Generator` that is
      seeded for each example: a run repeats, in any number of threads. Without `rng`, it repeats
      only if it draws no random numbers. Such a function is called by one thread at a time, one
      with `rng` by several.
    - An object that is called as `augmenter(image=..., mask=...)` and returns a dictionary of
      both, such as a transform or `Compose` of Albumentations. If it has `set_random_seed`, as in
      Albumentations 2, it is seeded for each example, each thread has a copy of it, and a run
      repeats. Without, it is called by one thread at a time and does not repeat. Albumentations
      fills new pixels of the label map with 0, which is a class: pass `fill_mask=ignore_class` to
      its transforms.
    - A layer of Keras that is called with {"images", "segmentation_masks"}, such as
      `keras.layers.RandomRotation`, or a `keras.layers.Pipeline` of them. All seeds that it keeps
      are set for each example, so that a run repeats on one backend; another backend draws other
      numbers. It computes on Keras's backend, on the CPU, one example at a time. Keras reads label
      maps at the nearest pixel in most layers, but has one `fill_value` for image and label map:
      `fill_mode="constant", fill_value=255` makes new pixels white and ignored. Layers that mix a
      batch, such as `CutMix`, get a batch of one.

    Whatever comes back is checked: types, sizes, and that every label is one of those that went in
    or `ignore_class`, since a label map that was interpolated holds other values.

    Args:
        augmenter: As above.
        ignore_class: Label that new pixels may have.
        num_classes: Labels 0 to `num_classes` - 1 may come back, too, for an augmenter that pastes
            objects of other classes.

    Returns:
        A transform. It computes in Python, so that it is slower than those of this package.

    Raises:
        ValueError: If `augmenter` cannot be called in one of these ways.
        tensorflow.errors.InvalidArgumentError: While iterating, if what comes back is not as
            described; the message names the augmenter.

    Examples:
        >>> def upside_down(image, label_map):
        ...     return image[::-1], label_map[::-1]
        >>> transform = as_transform(upside_down)
        >>> _, label_map = transform(tf.zeros((2, 1, 3), tf.uint8), tf.constant([[1], [2]]), (0, 0))
        >>> label_map.numpy().tolist()
        [[2], [1]]
    """
    allowed = [] if ignore_class is None else [integer("ignore_class", ignore_class)]
    if num_classes is not None:
        allowed += range(integer("num_classes", num_classes, 1, MOST_CLASSES))
    name = getattr(augmenter, "__name__", type(augmenter).__name__)
    call = _call_of(augmenter, name)

    def augment(image, label_map, seed):
        # TensorFlow owns the arrays that it passes.
        result = call(image.copy(), label_map.copy(), np.asarray(seed).astype("uint64").tolist())
        return _checked(name, result, image, label_map, allowed)

    def transform(image, label_map, seed):
        arguments = [image, tf.cast(label_map, tf.int32), seed]
        types = [tf.as_dtype(image.dtype), tf.int32]
        new_image, new_label_map = tf.numpy_function(augment, arguments, types)
        return (
            tf.ensure_shape(new_image, (None, None, image.shape[-1])),
            tf.ensure_shape(new_label_map, (None, None)),
        )

    transform.__name__ = name
    return transform


def _call_of(augmenter, name):
    """Returns a function of (image, label_map, two integers): what the augmenter returns."""
    # There is no layer where Keras was not imported.
    keras = sys.modules.get("keras")
    if keras is not None and isinstance(augmenter, keras.layers.Layer):
        return _call_of_layer(augmenter, keras)
    if not callable(augmenter):
        raise ValueError(f"`augmenter` must be callable. Received: {augmenter!r}.")
    try:
        parameters = inspect.signature(augmenter).parameters.values()
    except ValueError:  # Written in C, such as `max`.
        raise ValueError(
            "`augmenter` must show its parameters: write a function that calls it. Received: "
            f"{augmenter!r}."
        ) from None
    names = [p.name for p in parameters]
    positional = [
        p.name
        for p in parameters
        if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) and p.name != "rng"
    ]
    if len(positional) >= 2:
        return _call_of_function(augmenter, "rng" in names)
    if {"image", "mask"} <= set(names) or any(p.kind == p.VAR_KEYWORD for p in parameters):
        return _call_by_keyword(augmenter)
    raise ValueError(
        "`augmenter` must take (image, label_map), or image= and mask=. "
        f"Received: {name}({', '.join(names)})."
    )


def _call_of_function(function, takes_rng):
    if takes_rng:
        return lambda image, label_map, seed: function(
            image, label_map, rng=np.random.default_rng(seed)
        )
    lock = threading.Lock()

    def call(image, label_map, seed):
        with lock:
            return function(image, label_map)

    return call


def _call_by_keyword(augmenter):
    if not hasattr(augmenter, "set_random_seed"):
        return _call_of_function(lambda image, mask: augmenter(image=image, mask=mask), False)
    of_thread = threading.local()

    def call(image, label_map, seed):
        if not hasattr(of_thread, "copy"):
            of_thread.copy = copy.deepcopy(augmenter)
        of_thread.copy.set_random_seed(_integers(seed, 1)[0])
        return of_thread.copy(image=image, mask=label_map)

    return call


def _call_of_layer(layer, keras):
    layers, lock = _layers_of(layer, keras), threading.Lock()
    if any(isinstance(part, keras.layers.RandomElasticTransform) for part in layers):
        raise ValueError(
            "`augmenter` must not hold RandomElasticTransform, which draws other displacements for "
            "the label map than for the image in Keras 3.15. Albumentations' ElasticTransform "
            "keeps both in register."
        )

    def call(image, label_map, seed):
        pixels, labels = image.astype("float32"), label_map[..., None].astype("float32")
        with lock, keras.device("cpu"):
            states = [v for v in layer.variables if v.path.endswith("seed_generator_state")]
            numbers = iter(_integers(seed, 2 * len(states)))
            for state in states:
                state.assign([next(numbers), next(numbers)])
            both = map(keras.ops.convert_to_tensor, (pixels, labels))
            for part in layers:
                both = _applied(part, *both, keras)
            new_image, new_label_map = map(keras.ops.convert_to_numpy, both)
        if image.dtype == np.uint8:
            new_image = np.clip(np.round(new_image), 0, 255)
        return new_image.astype(image.dtype), new_label_map

    return call


def _layers_of(layer, keras):
    """Returns a layer as a list, or those that a `Pipeline` or `Sequential` applies in turn."""
    if isinstance(layer, keras.layers.Pipeline | keras.Sequential):
        return [part for outer in layer.layers for part in _layers_of(outer, keras)]
    return [layer]


def _applied(layer, image, label_map, keras):
    """Returns image and label map, both changed by a layer."""
    data = {"images": image, "segmentation_masks": label_map}
    if not hasattr(layer, "get_random_transformation"):
        data = layer(data, training=True)
        return data["images"], data["segmentation_masks"]
    # Not by calling the layer: on PyTorch, Keras 3.15's affine_transform writes into the matrix
    # with which it rotates the image, and rotates the label map otherwise.
    transformation = layer.get_random_transformation(data, training=True)
    for_label_map = keras.tree.map_structure(
        lambda value: keras.ops.copy(value) if keras.ops.is_tensor(value) else value, transformation
    )
    return (
        layer.transform_single_image(image, transformation),
        layer.transform_single_segmentation_mask(label_map, for_label_map),
    )


def _integers(seed, count):
    """Returns integers of 31 bits, which every generator takes."""
    return [int(n) for n in np.random.SeedSequence(seed).generate_state(count) >> np.uint32(1)]


def _checked(name, result, image, label_map, allowed):
    """Returns what an augmenter returned, as arrays for TensorFlow, or raises a ValueError."""
    if isinstance(result, Mapping):
        result = result.get("image"), result.get("mask")
    try:
        new_image, new_label_map = map(np.asarray, result)
    except (TypeError, ValueError):
        raise ValueError(
            f"{name} must return an image and its label map. Received: {type(result).__name__}."
        ) from None
    if new_label_map.ndim == 3 and new_label_map.shape[-1] == 1:
        new_label_map = new_label_map[..., 0]
    shape = (*new_label_map.shape, image.shape[-1])
    if new_label_map.ndim != 2 or new_image.shape != shape:
        raise ValueError(
            f"{name} must return an image (height, width, {image.shape[-1]}) and a label map "
            f"of the same size. Received shapes: {new_image.shape} and {new_label_map.shape}."
        )
    if new_image.dtype != image.dtype:
        raise ValueError(
            f"{name} must return images in {image.dtype}, as it gets them: preprocessing is the "
            f"first layer of the model. Received: {new_image.dtype}."
        )
    known = np.union1d(label_map, np.array(allowed, "int64"))
    unknown = np.setdiff1d(new_label_map, known)
    if len(unknown):
        raise ValueError(
            f"{name} must return labels of the label map that it gets, or `ignore_class`. "
            f"Received: {', '.join(f'{value:g}' for value in unknown[:5])}. Label maps must be "
            "read at the nearest pixel, never interpolated, and new pixels filled with the "
            "`ignore_class` that is passed to `as_transform`."
        )
    return np.ascontiguousarray(new_image), np.ascontiguousarray(new_label_map.astype("int32"))
