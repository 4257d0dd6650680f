"""Online hard example mining against its definition and PyTorch's usual formulation, in NumPy."""

import keras
import numpy as np
import pytest
from helpers import valid_pixels

from keras_fcn.losses import OHEM

IGNORED, NUM_CLASSES = 255, 4
WEIGHTS = [0.5, 2.0, 1.0, 3.0]
# (threshold, min_kept): by probability; by number, since few are below; all; the hardest alone.
CHOICES = [(0.3, 0.0), (0.02, 0.4), (1.0, 0.1), (0.001, 0.0), (0.7, 1 / 16), (0.1, 1.0)]


def example(seed=0):
    generator = np.random.default_rng(seed)
    logits = generator.standard_normal((2, 4, 5, NUM_CLASSES)).astype("float32") * 2
    label_map = generator.integers(0, NUM_CLASSES, (2, 4, 5)).astype("uint8")
    label_map[0, 0] = label_map[1, 2, :2] = IGNORED
    return logits, label_map


def kept_pixels(p, threshold, min_kept):
    """The definition: the hard pixels, or the hardest of all if they are too few."""
    order = np.argsort(p)
    hard = [pixel for pixel in order if p[pixel] < threshold]
    least = int(np.ceil(min_kept * len(p)))
    return hard if len(hard) >= least else order[:least]


def definition(logits, label_map, threshold, min_kept, weights=None):
    """The loss, and its gradient by the logits of the pixels that are not ignored."""
    probabilities, labels = valid_pixels(logits, label_map, IGNORED)
    weights = np.ones(NUM_CLASSES) if weights is None else np.array(weights)
    p = probabilities[np.arange(len(labels)), labels]
    kept = kept_pixels(p, threshold, min_kept)
    gradient = np.zeros_like(probabilities)
    total = 0.0
    for pixel in kept:
        weight = weights[labels[pixel]]
        total -= weight * np.log(p[pixel])
        gradient[pixel] = weight * (probabilities[pixel] - np.eye(NUM_CLASSES)[labels[pixel]])
    count = max(len(kept), 1)
    return total / count, gradient / count


def as_in_pytorch(logits, label_map, threshold, min_kept):
    """`OhemCrossEntropy` of HRNet, line by line: `min_kept` is a number of pixels there."""
    probabilities, labels = valid_pixels(logits, label_map, IGNORED)
    pred = probabilities[np.arange(len(labels)), labels]
    min_kept = max(1, min_kept)
    pixel_losses, ind = -np.log(pred), np.argsort(pred)
    pred = pred[ind]
    min_value = pred[min(min_kept, len(pred) - 1)]
    threshold = max(min_value, threshold)
    return pixel_losses[ind][pred < threshold].mean()


class TestValue:
    @pytest.mark.parametrize(("threshold", "min_kept"), CHOICES)
    @pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["equal", "weighted"])
    def test_it_is_that_of_the_definition(self, threshold, min_kept, weights):
        logits, label_map = example()
        expected, _ = definition(logits, label_map, threshold, min_kept, weights)
        for axis in (-1, 1):
            loss = OHEM(threshold, min_kept, IGNORED, weights, axis)
            value = loss(label_map, np.moveaxis(logits, -1, axis))
            np.testing.assert_allclose(float(value), expected, rtol=1e-5, atol=1e-7)

    @pytest.mark.parametrize("threshold", [0.02, 0.3, 0.7])
    @pytest.mark.parametrize("number", [1, 8, 20])
    def test_it_is_that_of_the_usual_formulation(self, threshold, number):
        logits, label_map = example(seed=1)
        valid = (label_map != IGNORED).sum()
        loss = OHEM(threshold, number / valid - 1e-4, ignore_class=IGNORED)
        expected = as_in_pytorch(logits, label_map, threshold, number)
        np.testing.assert_allclose(float(loss(label_map, logits)), expected, rtol=1e-5)

    def test_by_hand(self):
        # p = 1/4, 3/4 and 1/2 of class 0, and an ignored pixel, which is the hardest.
        logits = np.log(np.array([[[[1, 3], [3, 1], [1, 1], [1e-6, 1]]]], "float32"))
        label_map = np.array([[[0, 0, 0, IGNORED]]])
        for threshold, min_kept, kept in (
            (0.6, 0.0, [1 / 4, 1 / 2]),
            (0.3, 0.5, [1 / 4, 1 / 2]),  # Half of three is two.
            (0.3, 0.0, [1 / 4]),
            (1.0, 0.0, [1 / 4, 3 / 4, 1 / 2]),
        ):
            value = OHEM(threshold, min_kept, ignore_class=IGNORED)(label_map, logits)
            assert float(value) == pytest.approx(-np.log(kept).mean(), rel=1e-5)

    def test_equal_pixels_at_the_limit_are_all_kept(self):
        value = OHEM(0.1, 0.25)(np.zeros((1, 2, 2)), np.zeros((1, 2, 2, 2), "float32"))
        assert float(value) == pytest.approx(np.log(2))

    def test_nothing_but_ignored_or_easy_pixels_is_no_loss_and_no_nan(self):
        logits, label_map = example()
        assert float(OHEM(1e-6, 0.0, IGNORED)(label_map, logits)) == 0
        label_map[:] = IGNORED
        assert float(OHEM(ignore_class=IGNORED)(label_map, logits)) == 0

    def test_sample_weights_change_neither_the_choice_nor_the_number(self):
        logits, label_map = example()
        weights = np.random.default_rng(3).uniform(0, 3, label_map.shape).astype("float32")
        probabilities, labels = valid_pixels(logits, label_map, IGNORED)
        p = probabilities[np.arange(len(labels)), labels]
        kept = kept_pixels(p, 0.3, 0.1)
        expected = (weights[label_map != IGNORED] * -np.log(p))[kept].mean()
        value = OHEM(0.3, 0.1, IGNORED)(label_map, logits, weights)
        np.testing.assert_allclose(float(value), expected, rtol=1e-5)

    def test_logits_that_are_nan_make_a_loss_of_nan(self):
        """Otherwise a run whose weights are NaN would go on with a loss of 0."""
        logits, label_map = example()
        logits[1, 3, 3] = np.nan
        assert np.isnan(float(OHEM(0.3, 0.1, IGNORED)(label_map, logits)))


class Table(keras.layers.Layer):
    """One bias for each logit."""

    def build(self, input_shape):
        self.table = self.add_weight(shape=input_shape[1:], initializer="zeros", name="table")

    def call(self, inputs):
        return inputs + keras.ops.cast(self.table, inputs.dtype)


def one_step(loss, logits, label_map, dtype="float32"):
    """The loss, and the gradient of the biases of one image, after a compiled step of SGD."""
    model = keras.Sequential([keras.Input(logits.shape[1:]), Table(dtype=dtype)])
    model.compile(keras.optimizers.SGD(1.0), loss)
    value = model.train_on_batch(logits, label_map)
    return float(value), -keras.ops.convert_to_numpy(model.layers[-1].table)


class TestStep:
    @pytest.mark.parametrize(("threshold", "min_kept"), CHOICES[:3])
    def test_the_gradient_is_that_of_the_definition(self, threshold, min_kept):
        logits, label_map = (part[:1] for part in example())
        loss = OHEM(threshold, min_kept, IGNORED, WEIGHTS)
        value, gradient = one_step(loss, logits, label_map)
        expected, of_valid = definition(logits, label_map, threshold, min_kept, WEIGHTS)
        assert value == pytest.approx(expected, rel=1e-5)
        valid = label_map[0] != IGNORED
        np.testing.assert_allclose(gradient[valid], of_valid, rtol=1e-4, atol=1e-6)
        assert not gradient[~valid].any()

    @pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
    def test_mixed_precision_chooses_in_float32(self, policy):
        logits, label_map = (part[:1] for part in example())
        # Values that bfloat16 holds, so that rounding changes no choice.
        logits = np.round(logits * 4) / 4
        value, gradient = one_step(OHEM(0.3, 0.1, IGNORED), logits, label_map, policy)
        expected, of_valid = definition(logits, label_map, 0.3, 0.1)
        assert value == pytest.approx(expected, rel=1e-5)
        np.testing.assert_allclose(gradient[label_map[0] != IGNORED], of_valid, atol=2e-3)


class TestArguments:
    def test_it_saves_and_loads(self):
        loss = OHEM(0.6, 0.25, ignore_class=7, class_weights=WEIGHTS, axis=1)
        copy = keras.losses.deserialize(keras.losses.serialize(loss))
        assert copy.get_config() == loss.get_config()
        assert (copy.threshold, copy.min_kept, copy.axis) == (0.6, 0.25, 1)

    @pytest.mark.parametrize("threshold", [0, 1.1, float("nan")])
    def test_a_threshold_is_a_probability(self, threshold):
        with pytest.raises(
            ValueError, match=r"`threshold` must be (greater than 0 and at|a finite)"
        ):
            OHEM(threshold)

    @pytest.mark.parametrize("min_kept", [-0.1, 1.1, float("nan")])
    def test_what_is_kept_is_a_fraction(self, min_kept):
        with pytest.raises(ValueError, match="`min_kept` must be a number from 0 to 1"):
            OHEM(min_kept=min_kept)
