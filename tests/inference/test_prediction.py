import keras
import numpy as np
import pytest
import scipy.special
import scipy.stats
from helpers import NARROW_FILTERS, randomize
from PIL import Image

from keras_fcn import FCN8s
from keras_fcn.inference import (
    Prediction,
    predict,
    predict_images,
    predict_label_map,
    predict_label_maps,
    predict_scores,
    predict_tiles,
)
from keras_fcn.training.evaluate import evaluate

# Coarse, and of odd sides.
IMAGE = np.random.default_rng(0).integers(0, 256, (5, 4, 3), dtype="uint8")
IMAGE = IMAGE.repeat(8, axis=0).repeat(6, axis=1)[:37, :23]


@pytest.fixture(scope="module", params=["channels_last", "channels_first"])
def model(request):
    model = FCN8s(4, filters=NARROW_FILTERS, fc_units=4, padding="same", data_format=request.param)
    randomize(model, seed=0)
    return model


def logits_of(model, image):
    """Logits of one image, with the classes on the last axis."""
    if model.data_format == "channels_first":
        return np.asarray(model.predict(image.transpose(2, 0, 1)[None], verbose=0))[0].transpose(
            1, 2, 0
        )
    return np.asarray(model.predict(image[None], verbose=0))[0]


def probabilities(model, image):
    logits = logits_of(model, image)
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


def batch_for(model, image):
    """A batch of one image in the data format of the model."""
    return (image.transpose(2, 0, 1) if model.data_format == "channels_first" else image)[None]


def label_map_for(image):
    return np.empty(image.shape[:2], "uint8")


def test_label_map_is_the_largest_logit_at_the_size_of_the_image(model):
    label_map = predict_label_map(model, IMAGE)
    assert label_map.dtype == "int32"
    assert label_map.shape == (37, 23)
    assert len(np.unique(label_map)) > 1
    np.testing.assert_array_equal(label_map, logits_of(model, IMAGE).argmax(-1))


class TestPrediction:
    def test_probabilities_are_the_softmax_of_the_logits(self, model):
        prediction = predict(model, IMAGE)
        expected = scipy.special.softmax(logits_of(model, IMAGE).astype("float64"), axis=-1)
        np.testing.assert_allclose(prediction.probabilities, expected, atol=1e-5)
        assert prediction.probabilities.dtype == "float32"
        np.testing.assert_allclose(prediction.confidence, expected.max(-1), atol=1e-5)
        entropy = scipy.stats.entropy(expected, axis=-1)
        np.testing.assert_allclose(prediction.entropy, entropy, atol=1e-4)
        np.testing.assert_array_equal(prediction.label_map, predict_label_map(model, IMAGE))

    def test_views_average_their_probabilities(self, model):
        prediction = predict(model, IMAGE, flip=True)
        mirrored = probabilities(model, IMAGE[:, ::-1])[:, ::-1]
        expected = (probabilities(model, IMAGE) + mirrored) / 2
        np.testing.assert_allclose(prediction.probabilities, expected, atol=1e-5)

    def test_a_softmax_in_the_model_is_not_taken_twice(self):
        options = {"filters": NARROW_FILTERS, "fc_units": 4, "padding": "same"}
        model = FCN8s(4, **options)
        randomize(model, seed=0)
        ready = FCN8s(4, **options, classifier_activation="softmax")
        ready.set_weights(model.get_weights())
        found = predict(ready, IMAGE).probabilities
        np.testing.assert_allclose(found, probabilities(model, IMAGE), atol=1e-5)

    def test_shares_count_pixels(self, model):
        prediction = predict(model, IMAGE)
        counted = [np.mean(prediction.label_map == label) for label in range(4)]
        np.testing.assert_allclose(prediction.class_shares, counted)

    def test_a_certain_pixel_has_no_entropy(self):
        scores = np.array([[[200.0, -200.0], [0.0, 0.0]]], "float32")
        prediction = Prediction(scores, is_logits=True)
        np.testing.assert_allclose(prediction.entropy, [[0.0, np.log(2)]], atol=1e-6)


class TestStreamsOfImages:
    IMAGES = (IMAGE, IMAGE[::-1], 255 - IMAGE, IMAGE[:20], IMAGE[:, ::-1])

    def test_successive_images_of_equal_size_are_one_batch(self, model, monkeypatch):
        batch_sizes, predict_on_batch = [], model.predict_on_batch

        def counted(images):
            batch_sizes.append(len(images))
            return predict_on_batch(images)

        with monkeypatch.context() as patch:
            patch.setattr(model, "predict_on_batch", counted)
            predictions = list(predict_images(model, self.IMAGES, batch_size=2))
        assert batch_sizes == [2, 1, 1, 1]
        for prediction, image in zip(predictions, self.IMAGES, strict=True):
            np.testing.assert_allclose(
                prediction.probabilities, probabilities(model, image), atol=1e-5
            )

    @pytest.mark.any_backend
    def test_no_more_images_are_read_than_are_predicted(self, model):
        read = []

        def images():
            for image in self.IMAGES:
                read.append(image)
                yield image

        predictions = predict_images(model, images(), batch_size=2)
        next(predictions)
        next(predictions)
        assert len(read) == 2

    @pytest.mark.any_backend
    def test_a_batch_of_none_is_refused(self, model):
        with pytest.raises(ValueError, match="`batch_size` must be an integer of at least 1"):
            next(predict_images(model, self.IMAGES, batch_size=0))


class TestAveraging:
    def test_flips_average_the_probabilities_of_both_sides(self, model):
        expected = probabilities(model, IMAGE)
        expected = expected + probabilities(model, IMAGE[:, ::-1])[:, ::-1]
        label_map = predict_label_map(model, IMAGE, flip=True)
        np.testing.assert_array_equal(label_map, expected.argmax(-1))
        mirrored = predict_label_map(model, IMAGE[:, ::-1], flip=True)
        np.testing.assert_array_equal(mirrored[:, ::-1], label_map)

    def test_scales_average_the_probabilities_at_the_images_size(self, model):
        expected = probabilities(model, IMAGE)
        # 18.5, 11.5, 55.5 and 34.5 are rounded to even.
        for height, width in ((18, 12), (56, 34)):
            scaled = probabilities(model, resized(IMAGE, height, width))
            expected = expected + resized(scaled, 37, 23)
        label_map = predict_label_map(model, IMAGE, scales=(1.0, 0.5, 1.5))
        # Rounding decides where two classes are all but equal.
        assert np.mean(label_map == expected.argmax(-1)) > 0.995
        assert np.mean(label_map == probabilities(model, IMAGE).argmax(-1)) < 0.995


@pytest.mark.parametrize(
    "scales", [(), (1.0, 0.0), [float("inf")], [float("nan")], 1.0, "1", ["1"], None]
)
def test_scales_that_are_none_are_refused(model, scales):
    with pytest.raises(ValueError, match="`scales` must be finite numbers greater than 0"):
        predict_label_map(model, np.zeros((4, 4, 3)), scales=scales)


@pytest.mark.parametrize("dtype", [object, complex, "U1", "datetime64[s]"])
def test_values_that_are_no_real_numbers_are_refused(model, dtype):
    with pytest.raises(ValueError, match=r"`image` must hold real numbers\. Received: dtype "):
        predict_label_map(model, np.zeros((4, 4, 3)).astype("int64").astype(dtype))


@pytest.mark.parametrize("value", [np.nan, np.inf, -1e39])
def test_values_beyond_float32_are_refused(model, value):
    image = np.zeros((4, 4, 3))
    image[1, 2, 0] = value
    with pytest.raises(ValueError, match="`image` must hold finite values, in the range of float"):
        predict_label_map(model, image)


@pytest.mark.parametrize("images", [np.zeros((4, 4, 3)), [np.zeros((4, 4, 3))], None])
def test_what_is_no_batch_is_refused(model, images):
    with pytest.raises(ValueError, match=r"`images` must be an array, \(batch, height, width"):
        predict_label_maps(model, images)


def test_a_batch_is_refused(model):
    with pytest.raises(ValueError, match="`image` must be"):
        predict_label_map(model, np.zeros((1, 4, 4, 3)))


class TestModelsAroundAnFCN:
    @pytest.mark.parametrize("softmax", [False, True])
    def test_predict_as_the_fcn_does(self, model, softmax):
        inputs = keras.Input(model.input_shape[1:])
        axis = 1 if model.data_format == "channels_first" else -1
        outputs = model(inputs)
        if softmax:
            outputs = keras.layers.Softmax(axis=axis)(outputs)
        around = keras.Model(inputs, outputs)
        for options in ({}, {"flip": True}):
            np.testing.assert_array_equal(
                predict_label_map(around, IMAGE, **options),
                predict_label_map(model, IMAGE, **options),
            )

    def test_a_sequential_model_predicts_as_the_fcn_does(self, model):
        around = keras.Sequential([keras.Input(model.input_shape[1:]), model])
        expected = predict_label_map(model, IMAGE)
        np.testing.assert_array_equal(predict_label_map(around, IMAGE), expected)
        in_tiles = np.empty(IMAGE.shape[:2], "uint8")
        predict_tiles(around, IMAGE, in_tiles)
        np.testing.assert_array_equal(in_tiles, expected)

    def test_a_subclassed_model_is_refused(self):
        class Subclassed(keras.Model):
            def call(self, images):
                return images

        with pytest.raises(ValueError, match=r"functional keras.Model.*Received: a Subclassed"):
            predict(Subclassed(), IMAGE)
        with pytest.raises(
            ValueError, match=r"keras.Model, functional or Seq.*Received: Subclassed"
        ):
            predict_tiles(Subclassed(), IMAGE, np.empty(IMAGE.shape[:2], "uint8"))
        with pytest.raises(ValueError, match="Received: a Sequential"):
            predict(keras.Sequential([keras.layers.Conv2D(2, 1)]), IMAGE)

    def test_an_output_that_is_no_map_is_refused(self, model):
        around = keras.Model(model.input, model.get_layer("fc7").output)
        with pytest.raises(ValueError, match="must return one map of logits of the height"):
            predict_label_map(around, IMAGE)

    def test_several_outputs_are_refused(self, model):
        doubled = keras.layers.Rescaling(2.0, name="doubled")(model.output)
        two = keras.Model(model.input, [model.output, doubled])
        with pytest.raises(ValueError, match=r"one map of logits .* Received: an output of a l"):
            predict_label_map(two, IMAGE)
        with pytest.raises(ValueError, match=r"one map of logits. Received: .* head, doubled; "):
            predict_tiles(two, IMAGE, np.empty(IMAGE.shape[:2], "uint8"))


@pytest.mark.parametrize("views", [{}, {"scales": (0.5, 1.0), "flip": True}], ids=str)
def test_no_image_has_no_label_map(model, views):
    is_first = model.data_format == "channels_first"
    softmax = keras.layers.Softmax(axis=1 if is_first else -1)(model.output)
    none = np.zeros((0, 3, 9, 8) if is_first else (0, 9, 8, 3), "uint8")
    for each in (model, keras.Model(model.input, softmax)):
        found = predict_label_maps(each, none, **views)
        assert (found.shape, found.dtype) == ((0, 9, 8), "int32")
    assert list(predict_images(model, [])) == []


@pytest.mark.parametrize("flip", ["False", None, 1])
def test_what_is_neither_true_nor_false_does_not_flip(model, flip):
    with pytest.raises(ValueError, match="`flip` must be True or False"):
        predict_label_map(model, IMAGE, flip=flip)


def test_scores_of_images_of_other_channels_are_refused(model):
    images = np.zeros((1, 8, 9, 2) if model.data_format == "channels_last" else (1, 2, 8, 9))
    with pytest.raises(ValueError, match="`images` must have the 3 channels that the model takes"):
        predict_scores(model, images)


def test_a_layer_is_no_model_and_a_number_no_images(model):
    with pytest.raises(ValueError, match=r"`model` must be a functional keras\.Model"):
        predict_label_map(keras.layers.Conv2D(2, 1), IMAGE)
    with pytest.raises(ValueError, match="`images` must be a sequence or an iterator"):
        list(predict_images(model, 5))


def test_an_image_of_four_channels_is_refused(model):
    with pytest.raises(ValueError, match=r"`image` .* 3 channels .*: \(9, 8, 4\) as height"):
        predict_label_map(model, np.zeros((9, 8, 4)))


class TestImagesThatAreRefused:
    @pytest.mark.any_backend
    @pytest.mark.parametrize(
        ("called", "function"),
        [
            ("`image`", lambda model, image: predict(model, image)),
            ("`image`", lambda model, image: predict_label_map(model, image)),
            ("Each of `images`", lambda model, image: next(predict_images(model, [image]))),
            ("`images`", lambda model, image: predict_label_maps(model, batch_for(model, image))),
            ("`source`", lambda model, image: predict_tiles(model, image, label_map_for(image))),
        ],
        ids=["predict", "label_map", "images", "label_maps", "tiles"],
    )
    def test_errors_name_the_argument(self, model, called, function):
        wrong = {"finite": IMAGE.astype("float32"), "real": IMAGE.astype(complex)}
        wrong["finite"][0, 0] = np.nan
        if called != "`source`":  # Its shape is checked before there are windows.
            wrong |= {"pixels": IMAGE[:0], "channels": IMAGE.repeat(2, axis=2)}
        for word, image in wrong.items():
            with pytest.raises(ValueError, match=f"^{called} must .*{word}"):
                function(model, image)

    @pytest.mark.any_backend
    def test_scores_are_of_a_batch(self, model):
        with pytest.raises(ValueError, match=r"^`images` must be an array, .* Received: ndarray"):
            predict_scores(model, IMAGE)

    @pytest.mark.parametrize("shape", [(0, 23, 3), (37, 0, 3)])
    def test_an_image_without_pixels(self, model, shape):
        with pytest.raises(ValueError, match=f"height={shape[0]}, width={shape[1]}"):
            predict(model, np.zeros(shape, "uint8"))

    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_the_image_and_not_the_weights_are_blamed_for_values_that_are_not_finite(
        self, model, value
    ):
        image = IMAGE.astype("float32")
        image[3, 4] = value
        with pytest.raises(ValueError, match="`image` must hold finite values"):
            predict(model, image)


class TestScoresThatAreNotFinite:
    """The class of a pixel is then unknown: the largest of NaN is the first class."""

    @staticmethod
    def make_model(bias):
        model = FCN8s(3, filters=NARROW_FILTERS, fc_units=4, padding="same")
        randomize(model, seed=0)
        layer = model.get_layer("score_fr")
        layer.bias.assign([0.0, bias, 0.0])
        return model

    @pytest.mark.parametrize("bias", [np.nan, np.inf])
    @pytest.mark.parametrize("views", [{}, {"flip": True}])
    def test_they_are_an_error(self, bias, views):
        model = self.make_model(bias)
        message = r"must return finite scores. Received: .* of .* are NaN or infinite"
        with pytest.raises(ValueError, match=message):
            predict(model, IMAGE, **views)
        with pytest.raises(ValueError, match=message):
            evaluate(model, [(IMAGE[None], np.zeros((1, *IMAGE.shape[:2])))], num_classes=3)

    def test_tiles_are_an_error(self):
        image, label_map = np.zeros((400, 20, 3), "uint8"), np.zeros((400, 20), "uint8")
        with pytest.raises(ValueError, match="must return finite scores"):
            predict_tiles(self.make_model(np.nan), image, label_map, tile=320)

    def test_minus_infinity_rules_a_class_out(self):
        inputs = keras.Input((None, None, 3))
        outputs = keras.layers.Conv2D(3, 1, bias_initializer=lambda *_, **__: [0, -np.inf, 1])(
            inputs
        )
        prediction = predict(keras.Model(inputs, outputs), IMAGE * 0)
        assert (prediction.label_map == 2).all()
        assert not prediction.probabilities[..., 1].any()
