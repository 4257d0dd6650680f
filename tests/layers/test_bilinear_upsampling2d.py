"""Bilinear upsampling, compared with Pillow and with Keras's layer of a known size."""

import keras
import numpy as np
import pytest
from PIL import Image

from keras_fcn.layers import BilinearUpSampling2D


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (5, 4)])
@pytest.mark.parametrize("factor", [1, 2, 3, 4])
def test_values_are_those_of_pillow(size, factor):
    image = np.random.default_rng(0).uniform(0, 255, size).astype("float32")
    target = size[1] * factor, size[0] * factor
    expected = np.asarray(Image.fromarray(image).resize(target, Image.Resampling.BILINEAR))
    layer = BilinearUpSampling2D(factor, data_format="channels_last")
    found = keras.ops.convert_to_numpy(layer(image[None, :, :, None]))
    np.testing.assert_allclose(found[0, :, :, 0], expected, atol=1e-4)


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_values_are_those_of_keras(data_format):
    images = np.random.default_rng(0).uniform(0, 255, (2, 5, 6, 7)).astype("float32")
    theirs = keras.layers.UpSampling2D((2, 3), data_format, interpolation="bilinear")
    ours = BilinearUpSampling2D((2, 3), data_format)
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(ours(images)),
        keras.ops.convert_to_numpy(theirs(images)),
        atol=1e-4,
    )
    copy = BilinearUpSampling2D.from_config(ours.get_config())
    assert (copy.size, copy.data_format) == ((2, 3), data_format)


def test_integers_become_numbers_between_them():
    image = np.array([0, 4], "uint8").reshape(1, 1, 2, 1)
    found = BilinearUpSampling2D((1, 2), data_format="channels_last")(image)
    assert keras.ops.convert_to_numpy(found).ravel().tolist() == [0.0, 1.0, 3.0, 4.0]


def test_a_model_of_unknown_size_takes_every_size():
    inputs = keras.Input((None, None, 3))
    outputs = BilinearUpSampling2D(2, data_format="channels_last")(inputs)
    model = keras.Model(inputs, outputs)
    assert model.output_shape == (None, None, None, 3)
    for height, width in ((4, 5), (1, 9), (6, 2)):
        images = np.ones((1, height, width, 3), "float32")
        upsampled = model.predict(images, verbose=0)
        assert upsampled.shape == (1, 2 * height, 2 * width, 3)
        np.testing.assert_allclose(upsampled, 1, atol=1e-6)
