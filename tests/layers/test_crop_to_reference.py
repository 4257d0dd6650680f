import keras
import numpy as np
import pytest

from keras_fcn.layers import CropToReference


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_window_starts_at_the_offset_and_has_the_size_of_the_reference(data_format):
    feature_map = np.arange(2 * 9 * 10 * 3).reshape(2, 9, 10, 3).astype("float32")
    expected = feature_map[:, 2:6, 2:9]
    reference = np.zeros((2, 4, 7, 1), "float32")
    if data_format == "channels_first":
        feature_map, reference = feature_map.transpose(0, 3, 1, 2), reference.transpose(0, 3, 1, 2)
        expected = expected.transpose(0, 3, 1, 2)
    layer = CropToReference(2, data_format=data_format)
    cropped = keras.ops.convert_to_numpy(layer([feature_map, reference]))
    np.testing.assert_array_equal(cropped, expected)


def test_unknown_sizes_stay_unknown():
    feature_map = keras.Input((None, None, 5))
    reference = keras.Input((None, 7, 2))
    crop = CropToReference(3, data_format="channels_last")([feature_map, reference])
    assert crop.shape == (None, None, 7, 5)


def test_window_ends_with_the_feature_map():
    layer = CropToReference(3, data_format="channels_last")
    feature_map, reference = np.zeros((1, 10, 20, 1)), np.zeros((1, 8, 8, 1))
    assert tuple(layer([feature_map, reference]).shape) == (1, 7, 8, 1)
    assert layer.compute_output_shape([feature_map.shape, reference.shape]) == (1, 7, 8, 1)


@pytest.mark.parametrize("tensor", [keras.Input, lambda shape: np.zeros((1, *shape))])
def test_offset_beyond_the_feature_map_is_refused(tensor):
    with pytest.raises(ValueError, match="must be larger than 10 pixels"):
        CropToReference(10, data_format="channels_last")([tensor((10, 20, 1)), tensor((8, 8, 1))])


@pytest.mark.parametrize("offset", [-1, 1.5])
def test_offset_must_be_a_natural_number(offset):
    with pytest.raises(ValueError, match="`offset` must be"):
        CropToReference(offset)


def test_config_makes_the_same_layer():
    layer = CropToReference(4, data_format="channels_first", name="crop")
    assert CropToReference.from_config(layer.get_config()).get_config() == layer.get_config()
