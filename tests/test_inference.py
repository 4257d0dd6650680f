import numpy as np
import pytest
from helpers import randomize
from PIL import Image

from keras_fcn import FCN8s
from keras_fcn.inference import predict_label_map


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_label_map_is_the_largest_logit_at_the_size_of_the_image(data_format):
    model = FCN8s(num_classes=4, fc_units=4, padding="same", data_format=data_format)
    randomize(model, seed=0)
    image = np.random.default_rng(0).integers(0, 256, (37, 22, 3), dtype="uint8")
    label_map = predict_label_map(model, image)
    batch = image[None].transpose(0, 3, 1, 2) if data_format == "channels_first" else image[None]
    logits = np.asarray(model.predict(batch, verbose=0))[0]
    expected = logits.argmax(0 if data_format == "channels_first" else -1)
    assert label_map.dtype == "int32"
    assert len(np.unique(label_map)) > 1
    np.testing.assert_array_equal(label_map, expected)


def softmax(logits):
    exponents = np.exp(logits - logits.max(-1, keepdims=True))
    return exponents / exponents.sum(-1, keepdims=True)


def resized(array, height, width):
    """Bilinear with Pillow, channel by channel in float32, smoothed where it shrinks."""
    channels = [
        Image.fromarray(array[..., channel].astype("float32")).resize(
            (width, height), Image.Resampling.BILINEAR
        )
        for channel in range(array.shape[-1])
    ]
    return np.stack([np.asarray(channel) for channel in channels], axis=-1)


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
class TestAveraging:
    @pytest.fixture
    def model(self, data_format):
        model = FCN8s(num_classes=4, fc_units=4, padding="same", data_format=data_format)
        randomize(model, seed=0)
        return model

    @pytest.fixture
    def image(self):
        coarse = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype="uint8")
        return coarse.repeat(8, 0).repeat(6, 1)

    def probabilities(self, model, image):
        if model.data_format == "channels_first":
            logits = model.predict(image.transpose(2, 0, 1)[None], verbose=0)
            return softmax(np.asarray(logits)[0].transpose(1, 2, 0))
        return softmax(np.asarray(model.predict(image[None], verbose=0))[0])

    def test_flips_average_the_probabilities_of_both_sides(self, model, image):
        expected = self.probabilities(model, image)
        expected = expected + self.probabilities(model, image[:, ::-1])[:, ::-1]
        label_map = predict_label_map(model, image, flip=True)
        np.testing.assert_array_equal(label_map, expected.argmax(-1))
        mirrored = predict_label_map(model, image[:, ::-1], flip=True)
        np.testing.assert_array_equal(mirrored[:, ::-1], label_map)

    def test_scales_average_the_probabilities_at_the_images_size(self, model, image):
        expected = self.probabilities(model, image)
        for height, width in ((24, 24), (72, 72)):
            scaled = self.probabilities(model, resized(image, height, width))
            expected = expected + resized(scaled, *image.shape[:2])
        label_map = predict_label_map(model, image, scales=(1.0, 0.5, 1.5))
        # Rounding decides where two classes are all but equal.
        assert np.mean(label_map == expected.argmax(-1)) > 0.995
        assert np.mean(label_map == self.probabilities(model, image).argmax(-1)) < 0.995


@pytest.mark.parametrize("scales", [(), (1.0, 0.0)])
def test_scales_that_are_none_are_refused(scales):
    model = FCN8s(2, fc_units=4, padding="same")
    with pytest.raises(ValueError, match="`scales` must be numbers greater than 0"):
        predict_label_map(model, np.zeros((4, 4, 3)), scales=scales)


def test_a_batch_is_refused():
    with pytest.raises(ValueError, match="`image` must be"):
        predict_label_map(FCN8s(2, fc_units=4, padding="same"), np.zeros((1, 4, 4, 3)))
