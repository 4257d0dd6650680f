"""How transforms read pixels at any place, and write them in the image's own type."""

import tensorflow as tf


def as_type(values: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    """Returns floating-point values in another type, rounded and clipped for integers."""
    if dtype.is_integer:
        return tf.saturate_cast(tf.round(values), dtype)
    return tf.cast(values, dtype)


def sampled(
    image: tf.Tensor, label_map: tf.Tensor, y: tf.Tensor, x: tf.Tensor, ignore_class: int
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns image and label map at other places of the same size.

    The image is interpolated bilinearly, the label map is that of the nearest pixel. Outside they
    are 0 and `ignore_class`.

    Args:
        image: (height, width, channels).
        label_map: (height, width).
        y: (height, width), rows; the centre of the first is 0.5.
        x: (height, width), columns.
        ignore_class: Class id of the pixels outside.
    """
    height, width = tf.unstack(tf.shape(label_map))
    last_row, last_column = tf.cast(height - 1, y.dtype), tf.cast(width - 1, x.dtype)
    inside = (y >= 0) & (y < last_row + 1) & (x >= 0) & (x < last_column + 1)

    def at(tensor, row, column):
        pixels = tf.reshape(tensor, tf.concat([[height * width], tf.shape(tensor)[2:]], axis=0))
        return tf.gather(pixels, tf.cast(row, tf.int32) * width + tf.cast(column, tf.int32))

    nearest = at(
        label_map,
        tf.clip_by_value(tf.floor(y), 0, last_row),
        tf.clip_by_value(tf.floor(x), 0, last_column),
    )
    labels = tf.where(inside, nearest, tf.cast(ignore_class, label_map.dtype))
    y, x = tf.clip_by_value(y - 0.5, 0, last_row), tf.clip_by_value(x - 0.5, 0, last_column)
    above, left = tf.floor(y), tf.floor(x)
    below, right = tf.minimum(above + 1, last_row), tf.minimum(left + 1, last_column)
    dy, dx = (y - above)[..., None], (x - left)[..., None]

    def row(number):
        first, second = (tf.cast(at(image, number, c), y.dtype) for c in (left, right))
        return first + dx * (second - first)

    first, second = row(above), row(below)
    values = tf.where(inside[..., None], first + dy * (second - first), 0)
    return (
        tf.ensure_shape(as_type(values, image.dtype), image.shape),
        tf.ensure_shape(labels, label_map.shape),
    )
