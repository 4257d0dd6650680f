"""What the tests of the release's networks share: an image, OpenCV's reader, a comparison."""

import cv2
import keras
import numpy as np
from caffe import write_caffemodel

SIZE = (61, 44)
IMAGE = np.random.default_rng(0).integers(0, 256, (1, *SIZE, 3)).astype("float32")


def opencv(folder, text, layers, images, output="logits"):
    """What OpenCV makes of preprocessed images by the names of the network's inputs."""
    write_caffemodel(folder / "net.caffemodel", layers)
    (folder / "net.prototxt").write_text(text)
    net = cv2.dnn.readNetFromCaffe(str(folder / "net.prototxt"), str(folder / "net.caffemodel"))
    for name, image in images.items():
        net.setInput(np.ascontiguousarray(image.transpose(0, 3, 1, 2), "float32"), name)
    return net.forward(output).transpose(0, 2, 3, 1)


def assert_close(logits, expected):
    expected = np.asarray(expected)
    assert np.ptp(expected) > 0.1
    logits = keras.ops.convert_to_numpy(logits)
    np.testing.assert_allclose(logits, expected, atol=1e-4 * np.abs(expected).max())
