import keras
import numpy as np
import pytest

from keras_fcn.layers import VGGPreprocessing

IMAGE = np.array([[[[10, 20, 30], [255, 0, 7]]]])
BGR_MINUS_1_2_3 = np.array([[[[29, 18, 7], [6, -2, 252]]]])


@pytest.mark.parametrize("dtype", ["uint8", "int32", "int64", "float32", "float64"])
def test_rgb_of_any_dtype_becomes_bgr_minus_mean(dtype):
    layer = VGGPreprocessing(mean=(1, 2, 3), data_format="channels_last")
    np.testing.assert_array_equal(
        keras.ops.convert_to_numpy(layer(IMAGE.astype(dtype))), BGR_MINUS_1_2_3
    )


def test_channels_first():
    layer = VGGPreprocessing(mean=(1, 2, 3), data_format="channels_first")
    outputs = keras.ops.convert_to_numpy(layer(IMAGE.transpose(0, 3, 1, 2).astype("uint8")))
    np.testing.assert_array_equal(outputs, BGR_MINUS_1_2_3.transpose(0, 3, 1, 2))


def test_equals_keras_applications_for_their_mean():
    image = np.random.default_rng(0).uniform(0, 255, (1, 4, 5, 3)).astype("float32")
    layer = VGGPreprocessing(mean=(103.939, 116.779, 123.68), data_format="channels_last")
    expected = keras.applications.vgg16.preprocess_input(image.copy(), data_format="channels_last")
    np.testing.assert_allclose(keras.ops.convert_to_numpy(layer(image)), expected, atol=1e-4)


def test_half_precision_rounds_only_the_result():
    layer = VGGPreprocessing(mean=(104.00699, 0, 0), dtype="mixed_bfloat16")
    image = np.full((1, 1, 1, 3), 104.0, "float32")
    outputs = keras.ops.convert_to_numpy(keras.ops.cast(layer(image), "float32"))
    assert outputs.ravel()[0] == pytest.approx(104 - 104.00699, rel=0.01)


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_other_channels_keep_their_order(data_format):
    layer = VGGPreprocessing(mean=(1, 2, 3, 4), data_format=data_format)
    shape = (1, 1, 1, 4) if data_format == "channels_last" else (1, 4, 1, 1)
    found = keras.ops.convert_to_numpy(layer(np.array([10, 20, 30, 40]).reshape(shape)))
    assert found.shape == shape
    assert found.ravel().tolist() == [9, 18, 27, 36]


def test_mean_must_have_a_value_per_channel():
    with pytest.raises(ValueError, match="`mean` must have one value per channel"):
        VGGPreprocessing(mean=())


@pytest.mark.parametrize("mean", [(1, float("nan"), 3), 5, "123", ["1", "2", "3"]])
def test_mean_must_hold_finite_numbers(mean):
    with pytest.raises(ValueError, match="`mean` must hold finite numbers"):
        VGGPreprocessing(mean=mean)


@pytest.mark.parametrize(("channels", "mean"), [(1, (1, 2, 3)), (4, (1, 2, 3)), (3, (1,))])
def test_images_must_have_the_channels_of_the_mean(channels, mean):
    """NumPy's rules would make three channels of one, or subtract one mean from three."""
    with pytest.raises(ValueError, match=f"must have the {len(mean)} channels of mean="):
        VGGPreprocessing(mean=mean, data_format="channels_last")(np.zeros((1, 2, 2, channels)))
