import keras
import numpy as np
import pytest

from keras_fcn.layers import PadToStride


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_zeros_fill_both_sides_up_to_the_next_multiple(data_format):
    images = np.random.default_rng(0).normal(size=(2, 5, 8, 3)).astype("float32")
    # 5 + 2 * 1 and 8 + 2 * 1 pixels become 8 and 12.
    expected = np.pad(images, ((0, 0), (1, 2), (1, 3), (0, 0)))
    if data_format == "channels_first":
        images, expected = images.transpose(0, 3, 1, 2), expected.transpose(0, 3, 1, 2)
    layer = PadToStride(4, padding=1, data_format=data_format)
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(layer(images)), expected)
    assert layer.compute_output_shape(images.shape) == expected.shape
    assert PadToStride.from_config(layer.get_config()).get_config() == layer.get_config()


@pytest.mark.parametrize(("stride", "padding"), [(0, 0), (2.5, 0), (32, -1)])
def test_bad_arguments_are_named(stride, padding):
    with pytest.raises(ValueError, match="must be an integer of at least"):
        PadToStride(stride, padding)
