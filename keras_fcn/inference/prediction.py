"""Predicts the label map and the class probabilities of an image of any size."""

import dataclasses
import functools
import itertools
import threading
from collections.abc import Iterable, Iterator, Sequence

import keras
import numpy as np
from keras import ops

from keras_fcn.arguments import boolean, integer, wrong
from keras_fcn.backends.host_memory import return_freed_memory
from keras_fcn.inference.checks import (
    check_batch,
    check_images,
    check_scores,
    checked_scales,
    image_layout,
)
from keras_fcn.models.base import BaseFCN
from keras_fcn.models.prediction_memory import check_prediction_memory


@dataclasses.dataclass(frozen=True, eq=False)
class Prediction:
    """What a model predicts for an image; `predict` returns it.

    Args:
        scores: Logits or probabilities, (height, width, num_classes).
        is_logits: Whether `scores` are logits.
    """

    scores: np.ndarray
    is_logits: bool

    @functools.cached_property
    def label_map(self) -> np.ndarray:
        """Class ids, (height, width), int32."""
        return self.scores.argmax(axis=-1).astype("int32")

    @functools.cached_property
    def probabilities(self) -> np.ndarray:
        """Probabilities of the classes, (height, width, num_classes), float32."""
        if not self.is_logits:
            return self.scores
        exponents = np.exp(self.scores - self.scores.max(axis=-1, keepdims=True))
        exponents /= exponents.sum(axis=-1, keepdims=True)
        return exponents

    @property
    def confidence(self) -> np.ndarray:
        """Probability of the predicted class, (height, width), float32."""
        return self.probabilities.max(axis=-1)

    @property
    def entropy(self) -> np.ndarray:
        """Entropy of the class probabilities in nats, (height, width), float32.

        0 where one class is certain, log(num_classes) where all are equally likely.
        """
        p = self.probabilities
        return -(p * np.log(np.maximum(p, np.finfo(p.dtype).tiny))).sum(axis=-1)

    @property
    def class_shares(self) -> np.ndarray:
        """Fraction of the pixels that is predicted as each class, (num_classes,), float64."""
        counts = np.bincount(self.label_map.ravel(), minlength=self.scores.shape[-1])
        return counts / self.label_map.size


def predict(
    model: keras.Model,
    image: np.ndarray,
    *,
    scales: Sequence[float] = (1.0,),
    flip: bool = False,
) -> Prediction:
    """Predicts label map, class probabilities and confidence of an image.

    Args:
        model: An FCN, see `keras_fcn.models.fcn`, or another `keras.Model` from images to logits or
            probabilities of the same height and width, such as a wrapped FCN.
        image: RGB in [0, 255], (height, width, 3), also for a `channels_first` model.
        scales: See `predict_label_maps`.
        flip: See `predict_label_maps`.

    Returns:
        `Prediction`. With several views, its probabilities are the mean of theirs.

    Raises:
        ValueError: If `image` does not have three axes, and as `predict_label_maps`.

    Examples:
        >>> prediction = predict(FCN8s(2, fc_units=4), np.zeros((5, 9, 3), "uint8"))
        >>> prediction.label_map.shape, prediction.probabilities.shape
        ((5, 9), (5, 9, 2))
        >>> np.unique(prediction.confidence).tolist()  # New score layers are zero.
        [0.5]
    """
    return next(_predict_batch(model, [image], scales, flip))


def predict_images(
    model: keras.Model,
    images: Iterable[np.ndarray],
    *,
    batch_size: int = 1,
    scales: Sequence[float] = (1.0,),
    flip: bool = False,
) -> Iterator[Prediction]:
    """Predicts images of any sizes, as `predict` does, and reads them one after the other.

    Args:
        model: As in `predict`.
        images: Images as in `predict`.
        batch_size: Largest number of successive images of equal size that are predicted as one
            batch, which needs as many times the memory.
        scales: See `predict_label_maps`.
        flip: See `predict_label_maps`.

    Yields:
        `Prediction` of each image, in their order.

    Raises:
        ValueError: If `batch_size` is less than 1, and as `predict`.

    Examples:
        >>> photos = [np.zeros((5, 9, 3)), np.zeros((5, 9, 3)), np.zeros((7, 4, 3))]
        >>> predictions = predict_images(FCN8s(2, fc_units=4), photos, batch_size=8)
        >>> [prediction.label_map.shape for prediction in predictions]
        [(5, 9), (5, 9), (7, 4)]
    """
    batch_size = integer("batch_size", batch_size, least=1)
    if not isinstance(images, Iterable):
        raise wrong("images", "a sequence or an iterator of images", images)
    argument = "Each of `images`"
    for _, of_one_shape in itertools.groupby(images, np.shape):
        while batch := list(itertools.islice(of_one_shape, batch_size)):
            yield from _predict_batch(model, batch, scales, flip, argument)


def predict_called(argument: str, model: keras.Model, image: np.ndarray) -> Prediction:
    """Returns `predict(model, image)`; errors call the image `argument`."""
    return next(_predict_batch(model, [image], argument=argument))


def _predict_batch(model, images, scales=(1.0,), flip=False, argument="`image`"):
    """Yields the `Prediction` of each of a list of images of one shape."""
    if np.ndim(images[0]) != 3:
        shape = np.shape(images[0])
        raise ValueError(f"{argument} must be (height, width, channels). Received: shape={shape}.")
    images = np.stack(images)
    is_first = image_layout(model) == "channels_first"
    images = images.transpose(0, 3, 1, 2) if is_first else images
    scores, is_single = _scores_of_views(model, images, scales, flip, argument)
    is_logits = is_single and _is_logits(model, scores, 1 if is_first else -1)
    scores = scores.transpose(0, 2, 3, 1) if is_first else scores
    for scores_of_image in scores:
        yield Prediction(scores_of_image, is_logits)


def predict_label_map(
    model: keras.Model,
    image: np.ndarray,
    *,
    scales: Sequence[float] = (1.0,),
    flip: bool = False,
) -> np.ndarray:
    """Returns `predict(...).label_map`: class ids, (height, width), int32.

    Examples:
        >>> predict_label_map(FCN8s(2, fc_units=4), np.zeros((5, 9, 3), "uint8")).shape
        (5, 9)
    """
    return predict(model, image, scales=scales, flip=flip).label_map


def predict_label_maps(
    model: keras.Model,
    images: np.ndarray,
    *,
    scales: Sequence[float] = (1.0,),
    flip: bool = False,
) -> np.ndarray:
    """Predicts the class of every pixel of a batch in the model's data format.

    Several `scales` and `flip` are test-time augmentation: the class probabilities of all resized
    and mirrored views are averaged.

    Args:
        model: See `predict`.
        images: RGB in [0, 255], (batch, height, width, 3).
        scales: Factors by which the images are resized.
        flip: Whether to add the horizontally mirrored views.

    Returns:
        Class ids, (batch, height, width), int32.

    Raises:
        ValueError: If there is no scale, or one is not a finite number greater than 0; if the
            number of channels is wrong; if an image has no pixels, or values that are no real
            numbers, NaN or infinite; if the output does not have the height and width of the
            images or is NaN; if a resized image has 2**31 pixels a side; or, on CPUs, if the
            prediction needs more memory than is free.
    """
    check_batch(images)
    class_axis = 1 if image_layout(model) == "channels_first" else -1
    scores, _ = _scores_of_views(model, images, scales, flip, "`images`")
    return scores.argmax(axis=class_axis).astype("int32")


def _scores_of_views(model, images, scales, flip, argument):
    """Returns the scores of the images, and whether they are the model's output for one view.

    Those of several views are the mean of their probabilities. Errors call the images `argument`.
    """
    scales, flip = checked_scales(scales), boolean("flip", flip)
    check_images(model, images, argument)
    first = 2 if image_layout(model) == "channels_first" else 1
    height, width = images.shape[first : first + 2]
    check_prediction_memory(model, height, width, num_images=len(images), scale=max(scales))
    is_single = scales == (1.0,) and not flip
    _return_memory_of_another_size(images.shape)
    if is_single:
        scores = _scores(model, images)
    else:
        views = [(scale, mirrored) for scale in scales for mirrored in {False, flip}]
        scores = sum(_probabilities(model, images, *view) for view in views)
        scores /= len(views)
    check_scores(scores)
    return scores, is_single


def predict_scores(model: keras.Model, images: np.ndarray) -> np.ndarray:
    """Predicts the logits, or probabilities, of a batch in the model's data format.

    Args:
        model: As in `predict`.
        images: As in `predict_label_maps`.

    Returns:
        Output of the model: (batch, height, width, num_classes), or with the classes first.

    Raises:
        ValueError: If `images` is no batch of images that the model takes, or the output is not
            one map of the height and width of the images.
    """
    check_batch(images)
    check_images(model, images, "`images`")
    return _scores(model, images)


def _scores(model, images):
    data_format = image_layout(model)
    if not len(images):  # TensorFlow has no convolution for 0 images on CPUs.
        one = np.zeros((1, *images.shape[1:]), "float32")
        return _scores(model, one)[:0]
    scores = model.predict_on_batch(images)
    shape = getattr(scores, "shape", ())
    first = 2 if data_format == "channels_first" else 1
    if len(shape) != 4 or shape[first : first + 2] != images.shape[first : first + 2]:
        received = f"shape {tuple(shape)}" if shape else f"a {type(scores).__name__}"
        raise ValueError(
            "`model` must return one map of logits of the height and width of the images. "
            f"Received: an output of {received} for images of shape {images.shape}."
        )
    return ops.convert_to_numpy(scores)


def _is_logits(model, scores, class_axis):
    if isinstance(model, BaseFCN):
        return model.classifier_activation is None
    # Another model does not state its last activation; the values show it.
    sums = scores.sum(axis=class_axis)
    return scores.min(initial=0) < 0 or abs(sums - 1).max(initial=0) > 1e-2


_last_shape = threading.local()


def _return_memory_of_another_size(shape):
    # Only when the size changes: the next prediction of the same size needs the memory again.
    if getattr(_last_shape, "value", shape) != shape:
        return_freed_memory()
    _last_shape.value = shape


def _probabilities(model, images, scale, mirrored):
    """Returns class probabilities at the size of the images, from one resized or mirrored view."""
    data_format = image_layout(model)
    first, channels_last = (1, True) if data_format == "channels_last" else (2, False)
    size = images.shape[first : first + 2]
    options = {"interpolation": "bilinear", "antialias": True, "data_format": data_format}
    view = ops.convert_to_tensor(images, "float32")
    scaled_size = tuple(max(1, round(length * scale)) for length in size)
    if scaled_size != size:
        view = ops.image.resize(view, scaled_size, **options)
    if mirrored:
        view = ops.flip(view, axis=first + 1)
    scores = _scores(model, ops.convert_to_numpy(view))
    is_logits = _is_logits(model, scores, -1 if channels_last else 1)
    scores = ops.convert_to_tensor(scores)
    if is_logits:
        scores = ops.softmax(scores, axis=-1 if channels_last else 1)
    if mirrored:
        scores = ops.flip(scores, axis=first + 1)
    if scaled_size != size:
        scores = ops.image.resize(scores, size, **options)
    return ops.convert_to_numpy(scores)
