"""Pure functions that change an image and its label map together."""

import tensorflow as tf


def random_flip(
    image: tf.Tensor, label_map: tf.Tensor, seed: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Mirrors image and label map left to right, or neither, with a probability of one half.

    Args:
        image: Tensor (height, width, channels).
        label_map: Tensor (height, width).
        seed: Two integers that alone decide; the same seed gives the same result.

    Returns:
        (image, label_map), shapes and types unchanged.
    """
    flip = tf.random.stateless_uniform((), seed) < 0.5
    return tf.cond(
        flip,
        lambda: (tf.reverse(image, axis=[1]), tf.reverse(label_map, axis=[1])),
        lambda: (tf.identity(image), tf.identity(label_map)),
    )
