"""Transforms that move the pixels of an image and of its label map alike."""

import math
from collections.abc import Callable, Sequence

import tensorflow as tf

from keras_fcn.arguments import integer, integers, number
from keras_fcn.data.transforms.pixels import as_type, sampled

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
    minimum, maximum = number("minimum", minimum), number("maximum", maximum)
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
    length = integer(name, length, 1)

    def resize(image, label_map, seed):
        size = tf.shape(label_map)
        side = tf.reduce_min(size) if longer is None else tf.reduce_max(size)
        return _resize(image, label_map, _scaled(size, length / side))

    return resize


def random_crop(
    height: int,
    width: int,
    ignore_class: int,
    *,
    classes: Sequence[int] = (),
    share: float = 1 / 3,
) -> Transform:
    """Makes a transform that crops a window at a random position.

    An image smaller than the window is padded at the bottom and at the right: the image with 0, the
    label map with `ignore_class`.

    Small and rare objects are in few windows. With `classes`, a share of the windows is drawn
    around a pixel of one of them: first the class, evenly among those that the label map holds, so
    that the rarest is as frequent as the others; then one of its pixels; then one of the windows
    that hold this pixel. nnU-Net draws a third of its patches around a foreground class. A label
    map without any of the classes is cropped anywhere.

    Args:
        height: Height of the window in pixels.
        width: Width of the window in pixels.
        ignore_class: Class id of the pixels that losses and metrics ignore.
        classes: Class ids of which a share of the windows holds at least one pixel.
        share: Probability of such a window, from 0 to 1. Other windows may hold the classes, too.

    Returns:
        A transform.

    Raises:
        ValueError: If the arguments are not integers, the window is empty, or `share` is no
            probability.

    Examples:
        >>> crop = random_crop(2, 3, ignore_class=255)
        >>> _, label_map = crop(tf.zeros((2, 2, 3), tf.uint8), tf.zeros((2, 2), tf.int32), (0, 0))
        >>> label_map.numpy().tolist()
        [[0, 0, 255], [0, 0, 255]]

    References:
        - [Isensee et al., 2021](https://doi.org/10.1038/s41592-020-01008-z), nnU-Net
    """
    window = integer("height", height, 1), integer("width", width, 1)
    ignore_class = integer("ignore_class", ignore_class)
    rare = integers("classes", classes, least=0)
    share = number("share", share, least=0, most=1)

    def crop(image, label_map, seed):
        channels = image.shape[-1]
        missing = tf.maximum(window - tf.shape(label_map), 0)
        paddings = tf.stack([tf.zeros(2, tf.int32), missing], axis=1)
        image = tf.pad(image, tf.concat([paddings, [[0, 0]]], axis=0))
        label_map = tf.pad(
            label_map, paddings, constant_values=tf.cast(ignore_class, label_map.dtype)
        )
        places = tf.shape(label_map) - window + 1
        draws = tf.random.stateless_uniform((2,), seed, None, None, tf.int32)
        place = draws % places
        if rare:
            place = _place_of_class(label_map, window, seed, rare, share, place)
        top, left = tf.unstack(place)
        image = image[top : top + height, left : left + width]
        label_map = label_map[top : top + height, left : left + width]
        return (
            tf.ensure_shape(image, (*window, channels)),
            tf.ensure_shape(label_map, window),
        )

    return crop


def random_resized_crop(
    height: int,
    width: int,
    *,
    smallest_area: float = 0.25,
    largest_area: float = 1.0,
    stretch: float = 4 / 3,
) -> Transform:
    """Makes a transform that resizes a random part of the image to one size.

    Unlike `random_scale` and `random_crop` in turn, it never pads, and it stretches. Sides longer
    than the image's are cut to them.

    Args:
        height: Height of the result in pixels.
        width: Width of the result in pixels.
        smallest_area: Smallest part as a fraction of the image's area, greater than 0.
        largest_area: Largest part, at most 1. Fractions are uniformly distributed between the two.
        stretch: Largest factor, at least 1, by which the aspect ratio of the part is greater or
            less than `width` / `height`. Factors are uniformly distributed in their logarithm.

    Returns:
        A transform.

    Raises:
        ValueError: If the arguments are not as described.

    Examples:
        >>> crop = random_resized_crop(2, 3)
        >>> image, _ = crop(tf.zeros((6, 8, 3), tf.uint8), tf.zeros((6, 8), tf.int32), (0, 0))
        >>> tuple(image.shape)
        (2, 3, 3)

    References:
        - [Szegedy et al., 2015](https://arxiv.org/abs/1409.4842), section 6
    """
    window = integer("height", height, 1), integer("width", width, 1)
    smallest_area = number("smallest_area", smallest_area)
    largest_area = number("largest_area", largest_area)
    if not 0 < smallest_area <= largest_area <= 1:
        raise ValueError(
            "`smallest_area` must be greater than 0 and at most `largest_area`, which must be at "
            f"most 1. Received: {smallest_area=}, {largest_area=}."
        )
    stretch = number("stretch", stretch, least=1)

    def crop(image, label_map, seed):
        size = tf.shape(label_map)
        area, aspect, *place = tf.unstack(tf.random.stateless_uniform((4,), seed))
        area = area * (largest_area - smallest_area) + smallest_area
        area *= tf.cast(tf.reduce_prod(size), tf.float32)
        aspect = width / height * tf.exp((2 * aspect - 1) * math.log(stretch))
        sides = tf.round(tf.stack([tf.sqrt(area / aspect), tf.sqrt(area * aspect)]))
        sides = tf.clip_by_value(tf.cast(sides, tf.int32), 1, size)
        # Places 0 to size - sides, all equally likely.
        first = tf.cast(tf.stack(place) * tf.cast(size - sides + 1, tf.float32), tf.int32)
        (top, left), (part_height, part_width) = map(tf.unstack, (first, sides))
        image = image[top : top + part_height, left : left + part_width]
        label_map = label_map[top : top + part_height, left : left + part_width]
        image, label_map = _resize(image, label_map, window)
        return (
            tf.ensure_shape(image, (*window, image.shape[-1])),
            tf.ensure_shape(label_map, window),
        )

    return crop


def random_rotation(minimum: float, maximum: float, ignore_class: int) -> Transform:
    """Makes a transform that rotates around the centre by a random angle; the size stays.

    The image is sampled with bilinear interpolation, the label map at the nearest pixel. Pixels
    that come from outside are 0 in the image and `ignore_class` in the label map.

    Args:
        minimum: Smallest angle in degrees, counterclockwise, at least -180.
        maximum: Largest angle, at most 180. Angles are uniformly distributed between the two.
        ignore_class: Class id of the pixels that losses and metrics ignore.

    Returns:
        A transform.

    Raises:
        ValueError: If the arguments are not as described.

    Examples:
        >>> rotate = random_rotation(90, 90, ignore_class=255)
        >>> image, label_map = tf.zeros((2, 2, 3), tf.uint8), tf.constant([[1, 2], [3, 4]])
        >>> _, label_map = rotate(image, label_map, (0, 0))
        >>> label_map.numpy().tolist()
        [[2, 4], [1, 3]]
    """
    minimum, maximum = number("minimum", minimum), number("maximum", maximum)
    if not -180 <= minimum <= maximum <= 180:
        raise ValueError(
            "`minimum` must be at least -180 and at most `maximum`, which must be at most 180. "
            f"Received: {minimum=}, {maximum=}."
        )
    ignore_class = integer("ignore_class", ignore_class)

    def rotate(image, label_map, seed):
        angle = tf.random.stateless_uniform((), seed) * (maximum - minimum) + minimum
        angle = angle * math.pi / 180
        height, width = tf.unstack(tf.cast(tf.shape(label_map), tf.float32))
        # Pixel centres, seen from the centre of the image.
        y = tf.range(0.5, height)[:, None] - height / 2
        x = tf.range(0.5, width)[None] - width / 2
        return sampled(
            image,
            label_map,
            tf.cos(angle) * y + tf.sin(angle) * x + height / 2,
            tf.cos(angle) * x - tf.sin(angle) * y + width / 2,
            ignore_class,
        )

    return rotate


def _place_of_class(label_map, window, seed, classes, share, otherwise):
    """Returns the first row and column of a window: around a pixel of a class, or `otherwise`."""
    around, *seeds = tf.unstack(tf.random.split(seed, 4))
    present = tf.stack([tf.reduce_any(label_map == class_id) for class_id in classes])

    def place():
        numbers = [tf.random.stateless_uniform((), s, None, None, tf.int32) for s in seeds[:2]]
        candidates = tf.boolean_mask(tf.constant(classes, label_map.dtype), present)
        class_id = candidates[numbers[0] % tf.size(candidates)]
        pixels = tf.where(label_map == class_id)
        pixel = tf.cast(pixels[numbers[1] % tf.shape(pixels)[0]], tf.int32)
        low = tf.maximum(pixel - window + 1, 0)
        high = tf.minimum(pixel, tf.shape(label_map) - window)
        draws = tf.random.stateless_uniform((2,), seeds[2], None, None, tf.int32)
        return low + draws % (high - low + 1)

    wanted = tf.random.stateless_uniform((), around) < share
    return tf.cond(tf.logical_and(wanted, tf.reduce_any(present)), place, lambda: otherwise)


def _scaled(size, factor):
    scaled = tf.round(tf.cast(size, tf.float64) * tf.cast(factor, tf.float64))
    return tf.maximum(tf.saturate_cast(scaled, tf.int32), 1)


def _resize(image, label_map, size):
    # Without a side that shrinks, antialiasing changes rounding only and takes five times as long.
    resized = tf.cond(
        tf.reduce_any(size < tf.shape(label_map)),
        lambda: tf.image.resize(image, size, method="bilinear", antialias=True),
        lambda: tf.image.resize(image, size, method="bilinear"),
    )
    label_map = tf.image.resize(label_map[..., None], size, method="nearest")[..., 0]
    return as_type(resized, image.dtype), label_map
