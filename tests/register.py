"""An image into which its label map is painted: whether both move together."""

import cv2
import numpy as np
import tensorflow as tf

# One colour per class, far from each other and from black, the padding.
COLOURS = np.array(
    [(250, 20, 20), (20, 250, 20), (20, 20, 250), (250, 250, 20), (20, 250, 250), (250, 20, 250)]
)


def blocks(height, width, side=12, seed=0):
    """Label map of flat blocks, and the image that it is painted into."""
    rows, columns = -(-height // side), -(-width // side)
    label_map = np.random.default_rng(seed).integers(0, len(COLOURS), (rows, columns))
    label_map = label_map.repeat(side, axis=0).repeat(side, axis=1)[:height, :width]
    return COLOURS[label_map].astype("uint8"), label_map.astype("int32")


def nearest_class(image):
    """Class whose colour is nearest; 255 for black, the padding."""
    colours = np.concatenate([COLOURS, [(0, 0, 0)]])
    distance = ((image[..., None, :].astype(int) - colours) ** 2).sum(axis=-1)
    return np.array([*range(len(COLOURS)), 255])[distance.argmin(axis=-1)]


def inside(label_map, margin):
    """Pixels whose neighbours as far as `margin` all have their label."""
    smallest = cv2.erode(label_map.astype("uint8"), np.ones((2 * margin + 1,) * 2, "uint8"))
    largest = cv2.dilate(label_map.astype("uint8"), np.ones((2 * margin + 1,) * 2, "uint8"))
    return smallest == largest


def assert_in_register(image, label_map, margin, erases=False):
    """Away from the borders of blocks the image shows the label's colour; 0 is everywhere.

    What a transform erases is ignored, and has any colour.
    """
    away = inside(label_map, margin) if margin else np.ones(label_map.shape, bool)
    if erases:
        away &= label_map != 255
    assert away.mean() > 0.3
    np.testing.assert_array_equal(nearest_class(image)[away], label_map[away])


def run(transform, image, label_map, seed=(0, 0)):
    image, label_map = transform(tf.constant(image), tf.constant(label_map), tf.constant(seed))
    assert (image.dtype, label_map.dtype) == (tf.uint8, tf.int32)
    return image.numpy(), label_map.numpy()
