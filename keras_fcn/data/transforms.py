"""Data augmentation: pure functions that change an image and its label map together.

A transform is a function of (image, label_map, seed), all tensors: (height, width, 3), (height,
width) and two integers. It returns the image and the label map. The result depends only on the
arguments, so that a pipeline can run transforms in any number of threads and repeat them after a
restart. (Keras's preprocessing layers keep a counter instead of a seed per example: which example
gets which random numbers depends on the threads.) `random_flip` is a transform; the other functions
make one.

Label maps are never interpolated: a value is copied from the nearest pixel, or is `ignore_class`.
Pixel centres lie at one half, in the image and in the label map, so that both stay aligned.
"""

import operator
from collections.abc import Callable

import tensorflow as tf

from keras_fcn.data.arguments import integer_of_at_least

Transform = Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]
"""Function of (image, label_map, seed) that returns (image, label_map)."""


def random_flip(
    image: tf.Tensor, label_map: tf.Tensor, seed: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Flips image and label map horizontally with a probability of one half.

    Args:
        image: Tensor (height, width, channels).
        label_map: Tensor (height, width).
        seed: Two integers; the same seed gives the same result.

    Returns:
        (image, label_map), shapes and types unchanged.
    """
    flip = tf.random.stateless_uniform((), seed) < 0.5
    return tf.cond(
        flip,
        lambda: (tf.reverse(image, axis=[1]), tf.reverse(label_map, axis=[1])),
        lambda: (tf.identity(image), tf.identity(label_map)),
    )


def random_scale(minimum: float, maximum: float) -> Transform:
    """Makes a transform that resizes by a random factor, the same for height and width.

    The image is resized with bilinear interpolation, antialiased if it shrinks; the label map with
    nearest-neighbour interpolation.

    Args:
        minimum: Smallest factor, greater than 0.
        maximum: Largest factor. Factors are uniformly distributed between the two.

    Returns:
        A transform.

    Raises:
        ValueError: If the factors are not as described.

    Examples:
        >>> half = random_scale(0.5, 0.5)
        >>> image, _ = half(tf.zeros((6, 8, 3), tf.uint8), tf.zeros((6, 8), tf.int32), (0, 0))
        >>> tuple(image.shape)
        (3, 4, 3)
    """
    if not 0 < minimum <= maximum:
        raise ValueError(
            "`minimum` must be greater than 0 and at most `maximum`. "
            f"Received: {minimum=}, {maximum=}."
        )

    def scale(image, label_map, seed):
        factor = tf.random.stateless_uniform((), seed) * (maximum - minimum) + minimum
        return _resize(image, label_map, _scaled(tf.shape(label_map), factor))

    return scale


def resize_keeping_aspect(*, shorter: int | None = None, longer: int | None = None) -> Transform:
    """Makes a transform that resizes until the shorter or the longer side has a given length.

    Args:
        shorter: Length of the shorter side in pixels, or `None`.
        longer: Length of the longer side in pixels, or `None`; one of the two must be given.

    Returns:
        A transform; it does not use its seed.

    Raises:
        ValueError: If the arguments are not as described.

    Examples:
        >>> resize = resize_keeping_aspect(shorter=3)
        >>> image, _ = resize(tf.zeros((6, 8, 3), tf.uint8), tf.zeros((6, 8), tf.int32), (0, 0))
        >>> tuple(image.shape)
        (3, 4, 3)
    """
    if (shorter is None) == (longer is None):
        raise ValueError(
            f"One of `shorter` and `longer` must be given. Received: {shorter=}, {longer=}."
        )
    name, length = ("longer", longer) if shorter is None else ("shorter", shorter)
    length = integer_of_at_least(name, length, 1)

    def resize(image, label_map, seed):
        size = tf.shape(label_map)
        side = tf.reduce_min(size) if longer is None else tf.reduce_max(size)
        return _resize(image, label_map, _scaled(size, length / side))

    return resize


def random_crop(height: int, width: int, ignore_class: int) -> Transform:
    """Makes a transform that crops a window at a random position.

    An image smaller than the window is padded at the bottom and at the right: the image with 0, the
    label map with `ignore_class`.

    Args:
        height: Height of the window in pixels.
        width: Width of the window in pixels.
        ignore_class: Class id of the pixels that losses and metrics ignore.

    Returns:
        A transform.

    Raises:
        ValueError: If the arguments are not integers, or the window is empty.

    Examples:
        >>> crop = random_crop(2, 3, ignore_class=255)
        >>> _, label_map = crop(tf.zeros((2, 2, 3), tf.uint8), tf.zeros((2, 2), tf.int32), (0, 0))
        >>> label_map.numpy().tolist()
        [[0, 0, 255], [0, 0, 255]]
    """
    window = integer_of_at_least("height", height, 1), integer_of_at_least("width", width, 1)
    try:
        ignore_class = operator.index(ignore_class)
    except TypeError:
        raise ValueError(f"`ignore_class` must be an integer. Received: {ignore_class=}.") from None

    def crop(image, label_map, seed):
        missing = tf.maximum(window - tf.shape(label_map), 0)
        paddings = tf.stack([tf.zeros(2, tf.int32), missing], axis=1)
        image = tf.pad(image, tf.concat([paddings, [[0, 0]]], axis=0))
        label_map = tf.pad(
            label_map, paddings, constant_values=tf.cast(ignore_class, label_map.dtype)
        )
        places = tf.shape(label_map) - window + 1
        draws = tf.random.stateless_uniform((2,), seed, None, None, tf.int32)
        top, left = tf.unstack(draws % places)
        image = image[top : top + height, left : left + width]
        label_map = label_map[top : top + height, left : left + width]
        return (
            tf.ensure_shape(image, (*window, 3)),
            tf.ensure_shape(label_map, window),
        )

    return crop


def photometric_jitter(
    brightness: float = 0.2, contrast: float = 0.2, saturation: float = 0.2, hue: float = 0.02
) -> Transform:
    """Makes a transform that changes the colours of the image (colour jitter), not the label map.

    Args:
        brightness: Largest shift of all values, up or down, as a fraction of 255.
        contrast: Largest relative change of the distance of a pixel to the mean of its channel.
        saturation: Largest relative change of the saturation in HSV.
        hue: Largest shift of the hue in HSV, as a fraction of the full circle, up to 0.5.

    Returns:
        A transform for uint8 RGB images.

    Raises:
        ValueError: If an argument is less than 0 or more than 1, or 0.5 for `hue`.
    """
    limits = {"brightness": brightness, "contrast": contrast, "saturation": saturation, "hue": hue}
    for name, value in limits.items():
        most = 0.5 if name == "hue" else 1
        if not 0 <= value <= most:
            raise ValueError(f"`{name}` must be from 0 to {most}. Received: {name}={value}.")

    def jitter(image, label_map, seed):
        draws = tf.random.stateless_uniform((4,), seed, -1, 1) * list(limits.values())
        changed = tf.cast(image, tf.float32) / 255 + draws[0]
        changed = tf.image.adjust_contrast(changed, 1 + draws[1])
        if saturation or hue:
            # HSV is defined on the unit interval only.
            changed = tf.clip_by_value(changed, 0, 1)
            changed = tf.image.adjust_saturation(changed, 1 + draws[2])
            changed = tf.image.adjust_hue(changed, draws[3])
        return tf.saturate_cast(tf.round(changed * 255), image.dtype), label_map

    return jitter


def _scaled(size, factor):
    scaled = tf.round(tf.cast(size, tf.float64) * tf.cast(factor, tf.float64))
    return tf.maximum(tf.cast(scaled, tf.int32), 1)


def _resize(image, label_map, size):
    resized = tf.image.resize(image, size, method="bilinear", antialias=True)
    if image.dtype.is_integer:
        resized = tf.saturate_cast(tf.round(resized), image.dtype)
    label_map = tf.image.resize(label_map[..., None], size, method="nearest")[..., 0]
    return tf.cast(resized, image.dtype), label_map
