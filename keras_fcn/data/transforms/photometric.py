"""Transforms that change the values of an image and leave its label map in place."""

import math

import tensorflow as tf

from keras_fcn.arguments import integer, number, optional_integer
from keras_fcn.data.transforms.geometric import Transform
from keras_fcn.data.transforms.pixels import as_type


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
    largest = [
        number(name, value, least=0, most=0.5 if name == "hue" else 1)
        for name, value in limits.items()
    ]

    def jitter(image, label_map, seed):
        draws = tf.random.stateless_uniform((4,), seed, -1, 1) * largest
        changed = tf.cast(image, tf.float32) / 255 + draws[0]
        changed = tf.image.adjust_contrast(changed, 1 + draws[1])
        if saturation or hue:
            # HSV is defined on the unit interval only.
            changed = tf.clip_by_value(changed, 0, 1)
            changed = tf.image.adjust_saturation(changed, 1 + draws[2])
            changed = tf.image.adjust_hue(changed, draws[3])
        return as_type(changed * 255, image.dtype), label_map

    return jitter


def gaussian_noise(minimum: float, maximum: float) -> Transform:
    """Makes a transform that adds Gaussian noise to the image, each value for itself.

    Args:
        minimum: Smallest standard deviation as a fraction of 255.
        maximum: Largest standard deviation, at most 1. The standard deviation of an image is
            uniformly distributed between the two.

    Returns:
        A transform for uint8 images of any number of channels.

    Raises:
        ValueError: If the arguments are not as described.
    """
    minimum, maximum = number("minimum", minimum), number("maximum", maximum)
    if not 0 <= minimum <= maximum <= 1:
        raise ValueError(
            "`minimum` must be at least 0 and at most `maximum`, which must be at most 1. "
            f"Received: {minimum=}, {maximum=}."
        )

    def add_noise(image, label_map, seed):
        of_amount, of_pixels = tf.unstack(tf.random.split(seed, 2))
        deviation = tf.random.stateless_uniform((), of_amount) * (maximum - minimum) + minimum
        noise = tf.random.stateless_normal(tf.shape(image), of_pixels) * deviation * 255
        changed = as_type(tf.cast(image, tf.float32) + noise, image.dtype)
        return tf.ensure_shape(changed, image.shape), label_map

    return add_noise


def gaussian_blur(minimum: float, maximum: float) -> Transform:
    """Makes a transform that blurs the image with a Gaussian.

    Pixels beyond the border equal those at it. The window ends at three times the largest standard
    deviation.

    Args:
        minimum: Smallest standard deviation in pixels; 0 for no blur.
        maximum: Largest standard deviation in pixels. The standard deviation of an image is
            uniformly distributed between the two.

    Returns:
        A transform for images of any number of channels.

    Raises:
        ValueError: If the arguments are not as described.
    """
    minimum, maximum = number("minimum", minimum), number("maximum", maximum)
    if not 0 <= minimum <= maximum:
        raise ValueError(
            f"`minimum` must be at least 0 and at most `maximum`. Received: {minimum=}, {maximum=}."
        )
    radius = math.ceil(3 * maximum)
    offsets = tf.range(-radius, radius + 1)

    def blur(image, label_map, seed):
        deviation = tf.random.stateless_uniform((), seed) * (maximum - minimum) + minimum
        # The exponent of the next pixel underflows long before that of the middle is 0 / 0.
        scaled = tf.cast(offsets, tf.float32) / tf.maximum(deviation, 1e-3)
        weights = tf.nn.softmax(-(scaled**2) / 2)
        blurred = tf.cast(image, tf.float32)
        for axis in (0, 1):
            last = tf.shape(image)[axis] - 1
            places = tf.range(-radius, last + radius + 1)
            padded = tf.gather(blurred, tf.clip_by_value(places, 0, last), axis=axis)
            kernel = tf.reshape(weights, (-1, 1, 1, 1) if axis == 0 else (1, -1, 1, 1))
            kernel = tf.tile(kernel, (1, 1, image.shape[-1], 1))
            blurred = tf.nn.depthwise_conv2d(padded[None], kernel, (1, 1, 1, 1), "VALID")[0]
        return tf.ensure_shape(as_type(blurred, image.dtype), image.shape), label_map

    return blur


def cutout(
    height: int, width: int, *, number: int = 1, ignore_class: int | None = None
) -> Transform:
    """Makes a transform that erases rectangles of the image: they get its mean colour.

    The centre of a rectangle is any pixel, so that it may be cut off at the border.

    By default the label map stays. The network then learns to complete an object that something
    hides, from what it sees of it and around it. An object smaller than the rectangle can vanish as
    a whole, though, and its label is then one that nothing in the image supports. With
    `ignore_class` erased pixels count no more: the network learns to do without a part of the
    context, and no label is guessed.

    Args:
        height: Height of a rectangle in pixels.
        width: Width of a rectangle in pixels.
        number: How many rectangles are erased.
        ignore_class: Class id that erased pixels get, `None` for their own.

    Returns:
        A transform for images of any number of channels.

    Raises:
        ValueError: If an argument is not as described.

    References:
        - [DeVries and Taylor, 2017](https://arxiv.org/abs/1708.04552)
    """
    sides = integer("height", height, 1), integer("width", width, 1)
    number = integer("number", number, 1)
    new_label = optional_integer("ignore_class", ignore_class)

    def erase(image, label_map, seed):
        size = tf.shape(label_map)
        draws = tf.random.stateless_uniform((number, 2), seed, None, None, tf.int32)
        first = draws % size - [side // 2 for side in sides]
        in_rows, in_columns = (
            (first[:, axis, None] <= tf.range(size[axis]))
            & (tf.range(size[axis]) < first[:, axis, None] + sides[axis])
            for axis in (0, 1)
        )
        erased = tf.reduce_any(in_rows[:, :, None] & in_columns[:, None], axis=0)
        mean = tf.reduce_mean(tf.cast(image, tf.float32), axis=(0, 1))
        image = tf.where(erased[..., None], as_type(mean, image.dtype), image)
        if new_label is not None:
            label_map = tf.where(erased, tf.cast(new_label, label_map.dtype), label_map)
        return image, label_map

    return erase
