import keras
import numpy as np
import pytest
from scipy.signal import convolve2d

from keras_fcn.layers import EmptyBorder, Surround

PADDING = 99
KERNELS = np.random.default_rng(0).normal(size=(2, 3, 3))


def block(image):
    """Two convolutions with bias, zeros at the edges, and a pool of 2 that rounds up, by SciPy."""
    for kernel in KERNELS:
        image = convolve2d(image, kernel, mode="same") + 1.5
    image = np.pad(image, [(0, size % 2) for size in image.shape], constant_values=-np.inf)
    return image.reshape(image.shape[0] // 2, 2, image.shape[1] // 2, 2).max(axis=(1, 3))


def as_batch(maps, data_format):
    axis = -1 if data_format == "channels_last" else 1
    return np.expand_dims(np.stack(maps), axis).astype("float32")


@pytest.mark.parametrize(
    ("size", "margin", "data_format"),
    [
        *((size, None, "channels_last") for size in ((1, 2), (8, 9), (30, 31))),
        *((size, 5, "channels_last") for size in ((1, 2), (8, 9), (30, 31))),
        ((8, 9), 5, "channels_first"),
    ],
)
def test_equals_the_map_of_the_whole_padded_image(size, margin, data_format):
    images = np.random.default_rng(1).normal(size=(2, *size))
    whole = as_batch([block(np.pad(image, PADDING)) for image in images], data_format)
    windows = as_batch([block(np.pad(image, 5)) for image in images], data_format)
    image = as_batch(images, data_format)
    empty = EmptyBorder(PADDING, stride=2, size=16, data_format=data_format)(image)
    border = as_batch([block(np.squeeze(keras.ops.convert_to_numpy(empty)))], data_format)
    layer = Surround(PADDING, stride=2, reach=2, origin=47, margin=margin, data_format=data_format)
    joined = layer([windows, border, image])

    assert layer.start == (0 if margin is None else 42)
    if margin is not None:
        rows, columns = (slice(42, -(-(PADDING + length + 2) // 2) + margin) for length in size)
        whole = whole[
            (..., rows, columns)
            if data_format == "channels_first"
            else (slice(None), rows, columns)
        ]
    shapes = [array.shape for array in (windows, border, image)]
    assert layer.compute_output_shape(shapes) == tuple(joined.shape)
    np.testing.assert_allclose(keras.ops.convert_to_numpy(joined), whole, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("size", "remainder"), [(1, 7), (2, 0), (10, 0), (11, 1)])
def test_the_empty_border_rounds_as_the_padded_image(size, remainder):
    layer = EmptyBorder(PADDING, stride=8, size=64, data_format="channels_last")
    border = keras.ops.convert_to_numpy(layer(np.ones((3, size, 2, 3), "float32")))
    np.testing.assert_array_equal(border, np.zeros((1, 64 + remainder, 64, 3)))
    assert layer.compute_output_shape((3, size, None, 3)) == (1, 64 + remainder, None, 3)


def test_unknown_sizes_stay_unknown():
    image = keras.Input((None, 7, 3))
    border = EmptyBorder(PADDING, stride=2, size=16, data_format="channels_last")(image)
    layer = Surround(PADDING, stride=2, reach=2, origin=47, data_format="channels_last")
    assert layer([keras.Input((None, None, 3)), border, image]).shape == (None, None, 103, 3)


@pytest.mark.parametrize(
    "layer",
    [
        EmptyBorder(99, 8, 64, data_format="channels_first", name="empty"),
        Surround(99, 2, 2, 47, 5, data_format="channels_first", name="surround"),
    ],
    ids=["EmptyBorder", "Surround"],
)
def test_config_makes_the_same_layer(layer):
    assert type(layer).from_config(layer.get_config()).get_config() == layer.get_config()
