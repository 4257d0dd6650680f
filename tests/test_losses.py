"""Keras's sparse categorical cross-entropy, the package's loss, with pixels to ignore.

These tests hold what the documentation says about it: ignored pixels give no loss and no gradient,
and the default reduction is the mean over the other pixels of the batch.
"""

import keras
import numpy as np
import pytest
from keras.losses import SparseCategoricalCrossentropy

import keras_fcn

IGNORED = 255
CHANNELS, NUM_CLASSES = 4, 3


def images_and_label_map(seed=0):
    """Two images of 20 pixels; the first has 10 valid pixels, the second 17."""
    generator = np.random.default_rng(seed)
    images = generator.standard_normal((2, 4, 5, CHANNELS)).astype("float32")
    label_map = generator.integers(0, NUM_CLASSES, (2, 4, 5)).astype("uint8")
    label_map[0, :2] = label_map[1, 0, :3] = IGNORED
    return images, label_map


def one_convolution(axis=-1):
    """A model of one 1x1 convolution, always with the same weights."""
    inputs = keras.Input((None, None, CHANNELS))
    weights = keras.initializers.GlorotUniform(seed=0)
    logits = keras.layers.Conv2D(NUM_CLASSES, 1, kernel_initializer=weights, name="score")(inputs)
    return keras.Model(inputs, logits if axis == -1 else keras.layers.Permute((3, 1, 2))(logits))


def log_softmax(logits):
    logits = logits.astype("float64")
    shifted = logits - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def cross_entropies(logits, label_map):
    """-log p of each valid pixel, as a vector."""
    valid = label_map != IGNORED
    return -log_softmax(logits)[valid][np.arange(valid.sum()), label_map[valid]]


def gradients_of_the_sum(images, logits, label_map):
    """The gradient of the summed cross-entropy of the valid pixels by kernel and bias."""
    valid = label_map != IGNORED
    by_logits = np.exp(log_softmax(logits))[valid] - np.eye(NUM_CLASSES)[label_map[valid]]
    return images[valid].T.astype("float64") @ by_logits, by_logits.sum(0)


def step(model, images, label_map, losses=keras.losses, **loss_args):
    """One step of SGD with learning rate 1: the loss, and the gradients of kernel and bias."""
    loss = losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=IGNORED, **loss_args)
    model.compile(keras.optimizers.SGD(1.0), loss)
    before = model.get_layer("score").get_weights()
    value = model.train_on_batch(images, label_map)
    after = model.get_layer("score").get_weights()
    kernel, bias = (old - new for old, new in zip(before, after, strict=True))
    return float(value), kernel[0, 0], bias


class TestReduction:
    def test_default_is_the_mean_over_the_valid_pixels_of_the_batch(self):
        images, label_map = images_and_label_map()
        logits = one_convolution().predict(images, verbose=0)
        loss = SparseCategoricalCrossentropy(from_logits=True, ignore_class=IGNORED)
        assert loss.reduction == "sum_over_batch_size"
        pixels = cross_entropies(logits, label_map)
        assert len(pixels) == 10 + 17
        assert float(loss(label_map, logits)) == pytest.approx(pixels.sum() / 27, rel=1e-5)
        # Neither the mean over all 40 pixels nor the mean of the images' means:
        assert float(loss(label_map, logits)) != pytest.approx(pixels.sum() / 40, rel=1e-3)
        means = [cross_entropies(logits[[i]], label_map[[i]]).mean() for i in range(2)]
        assert float(loss(label_map, logits)) != pytest.approx(np.mean(means), rel=1e-5)

    def test_sum_is_the_papers_sum_over_the_valid_pixels(self):
        images, label_map = images_and_label_map()
        logits = one_convolution().predict(images, verbose=0)
        loss = SparseCategoricalCrossentropy(
            from_logits=True, ignore_class=IGNORED, reduction="sum"
        )
        expected = cross_entropies(logits, label_map).sum()
        assert float(loss(label_map, logits)) == pytest.approx(expected, rel=1e-5)

    def test_epoch_loss_is_the_mean_of_the_batches_means(self):
        images, label_map = images_and_label_map()
        model = one_convolution()
        logits = model.predict(images, verbose=0)
        loss = SparseCategoricalCrossentropy(from_logits=True, ignore_class=IGNORED)
        model.compile("sgd", loss)
        means = [cross_entropies(logits[[i]], label_map[[i]]).mean() for i in range(2)]
        value = model.evaluate(images, label_map, batch_size=1, verbose=0)
        assert value == pytest.approx(np.mean(means), rel=1e-5)

    def test_label_map_may_have_a_last_axis_of_length_one(self):
        images, label_map = images_and_label_map()
        logits = one_convolution().predict(images, verbose=0)
        loss = SparseCategoricalCrossentropy(from_logits=True, ignore_class=IGNORED)
        assert float(loss(label_map[..., None], logits)) == float(loss(label_map, logits))


class TestGradient:
    @pytest.mark.parametrize("reduction", ["sum_over_batch_size", "sum"])
    def test_only_valid_pixels_give_gradient(self, reduction):
        images, label_map = images_and_label_map()
        images[label_map == IGNORED] *= 1e3  # What they gave would be seen.
        model = one_convolution()
        logits = model.predict(images, verbose=0)
        divisor = 27 if reduction == "sum_over_batch_size" else 1
        kernel, bias = gradients_of_the_sum(images, logits, label_map)
        value, got_kernel, got_bias = step(model, images, label_map, reduction=reduction)
        assert value == pytest.approx(cross_entropies(logits, label_map).sum() / divisor, rel=1e-5)
        np.testing.assert_allclose(got_kernel, kernel / divisor, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(got_bias, bias / divisor, rtol=1e-4, atol=1e-5)

    def test_logits_of_ignored_pixels_do_not_matter(self):
        images, label_map = images_and_label_map()
        one, other = one_convolution(), one_convolution()
        changed = images.copy()
        changed[label_map == IGNORED] = 7.0
        for got, expected in zip(
            step(one, images, label_map), step(other, changed, label_map), strict=True
        ):
            np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)

    @pytest.mark.parametrize("reduction", ["sum_over_batch_size", "sum"])
    def test_a_batch_of_ignored_pixels_changes_nothing(self, reduction):
        images, label_map = images_and_label_map()
        label_map[:] = IGNORED
        value, kernel, bias = step(one_convolution(), images, label_map, reduction=reduction)
        assert value == 0
        np.testing.assert_array_equal(kernel, 0)
        np.testing.assert_array_equal(bias, 0)

    def test_an_image_of_ignored_pixels_leaves_the_others_as_they_are(self):
        images, label_map = images_and_label_map()
        label_map[0] = IGNORED
        one, other = one_convolution(), one_convolution()
        for both, alone in zip(
            step(one, images, label_map), step(other, images[1:], label_map[1:]), strict=True
        ):
            np.testing.assert_allclose(both, alone, rtol=1e-5, atol=1e-6)

    def test_huge_logits_stay_finite(self):
        images, label_map = images_and_label_map()
        value, kernel, bias = step(one_convolution(), images * 1e6, label_map)
        assert np.isfinite(value)
        assert np.isfinite(kernel).all()
        assert np.isfinite(bias).all()


class TestChannelsFirst:
    """`keras_fcn.losses.SparseCategoricalCrossentropy`, Keras's with the classes on any axis."""

    @pytest.mark.parametrize("reduction", ["sum_over_batch_size", "sum"])
    def test_classes_on_axis_1_give_the_same_loss_and_gradients(self, reduction):
        images, label_map = images_and_label_map()
        last, first = one_convolution(), one_convolution(axis=1)
        assert first.output_shape == (None, NUM_CLASSES, None, None)
        expected = step(last, images, label_map, reduction=reduction)
        results = step(first, images, label_map, keras_fcn.losses, axis=1, reduction=reduction)
        for ours, theirs in zip(results, expected, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)

    def test_the_axis_survives_serialization(self):
        loss = keras_fcn.losses.SparseCategoricalCrossentropy(
            from_logits=True, ignore_class=7, axis=1
        )
        copy = keras.losses.deserialize(keras.losses.serialize(loss))
        assert copy.axis == 1
        assert copy.get_config() == loss.get_config()


MASKED = {
    "cross_entropy": (keras_fcn.losses.SparseCategoricalCrossentropy, {"from_logits": True}),
    "focal": (keras_fcn.losses.Focal, {"gamma": 0.0}),
    "ohem": (keras_fcn.losses.OHEM, {"threshold": 1.0}),
}


@pytest.mark.parametrize("name", MASKED)
class TestMaskedClasses:
    """A logit of -inf excludes a class: the softmax is that of the other classes."""

    def test_value_and_gradient_are_those_of_the_other_classes(self, name):
        loss, options = MASKED[name]
        model = one_convolution()
        layer = model.get_layer("score")
        kernel = np.zeros((1, 1, CHANNELS, NUM_CLASSES), "float32")
        layer.set_weights([kernel, np.array([0.0, 1.0, -np.inf], "float32")])
        model.compile(keras.optimizers.SGD(1.0), loss(**options))
        value = model.train_on_batch(np.ones((1, 2, 2, CHANNELS)), np.ones((1, 2, 2)))
        # Worked by hand: p = e / (1 + e) of class 1, and the gradient is p - 1.
        p = np.e / (1 + np.e)
        assert float(value) == pytest.approx(-np.log(p), rel=1e-5)
        after = layer.get_weights()[0][0, 0]
        np.testing.assert_allclose(after, [[p - 1, 1 - p, 0]] * CHANNELS, rtol=1e-5)


# For a pixel of three equally likely classes: its loss, and 1 - IoU or 1 - Dice of its class.
OF_EQUAL_LOGITS = {
    **{name: (loss, options, np.log(3)) for name, (loss, options) in MASKED.items()},
    "dice": (keras_fcn.losses.Dice, {}, 1 - 2 * (1 / 3) / (1 / 3 + 1)),
    "lovasz": (keras_fcn.losses.LovaszSoftmax, {}, 1 - 1 / 3),
}


@pytest.mark.parametrize("name", OF_EQUAL_LOGITS)
@pytest.mark.parametrize("logit", [-np.inf, np.nan])
def test_logits_of_ignored_pixels_do_not_reach_the_loss(name, logit):
    loss, options, expected = OF_EQUAL_LOGITS[name]
    logits = np.zeros((1, 1, 2, 3), "float32")
    logits[0, 0, 1] = logit
    value = loss(ignore_class=IGNORED, **options)(np.array([[[1, IGNORED]]]), logits)
    assert float(value) == pytest.approx(expected, rel=1e-5)


def test_ohem_of_an_empty_batch_is_0():
    assert float(keras_fcn.losses.OHEM()(np.zeros((0, 2, 2)), np.zeros((0, 2, 2, 3)))) == 0
