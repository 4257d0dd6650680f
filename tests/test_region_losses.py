"""Focal, Dice, Lovász-softmax and their sums against their definitions, written again in NumPy."""

import keras
import numpy as np
import pytest
from helpers import valid_pixels

from keras_fcn.losses import (
    OHEM,
    Dice,
    Focal,
    LovaszSoftmax,
    SparseCategoricalCrossentropy,
    WeightedSum,
)

IGNORED, NUM_CLASSES = 255, 4
LOSSES = {"focal": Focal, "dice": Dice, "lovasz": LovaszSoftmax}
WEIGHTS = [0.5, 2.0, 1.0, 3.0]


def example(seed=0):
    """Logits and label maps in which class 3 never occurs."""
    generator = np.random.default_rng(seed)
    logits = generator.standard_normal((2, 4, 5, NUM_CLASSES)).astype("float32") * 2
    label_map = generator.integers(0, 3, (2, 4, 5)).astype("uint8")
    label_map[0, 0] = label_map[1, 2, :2] = IGNORED
    return logits, label_map


def focal(p, labels, weights, gamma=2.0):
    losses = []
    for pixel, label in zip(p, labels, strict=True):
        losses.append(-weights[label] * (1 - pixel[label]) ** gamma * np.log(pixel[label]))
    return np.mean(losses)


def dice(p, labels, weights):
    values = {}
    for c in set(labels.tolist()):
        truth = labels == c
        values[c] = 1 - 2 * p[truth, c].sum() / (p[:, c].sum() + truth.sum())
    return np.average(list(values.values()), weights=[weights[c] for c in values])


def jaccard_loss(truth, wrong):
    """1 - IoU of a class if exactly the pixels of the set `wrong` are mispredicted."""
    truth = set(np.flatnonzero(truth))
    predicted = truth ^ set(wrong)
    return 1 - len(truth & predicted) / len(truth | predicted)


def lovasz(p, labels, weights):
    """The Lovász extension from its definition over growing sets of wrong pixels."""
    values = {}
    for c in set(labels.tolist()):
        truth = labels == c
        errors = np.where(truth, 1 - p[:, c], p[:, c])
        order = np.argsort(-errors)
        value = 0.0
        for count, pixel in enumerate(order):
            before = jaccard_loss(truth, order[:count]) if count else 0.0
            value += errors[pixel] * (jaccard_loss(truth, order[: count + 1]) - before)
        values[c] = value
    return np.average(list(values.values()), weights=[weights[c] for c in values])


DEFINITIONS = {"focal": focal, "dice": dice, "lovasz": lovasz}


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["equal", "weighted"])
@pytest.mark.parametrize("axis", [-1, 1])
@pytest.mark.parametrize("name", LOSSES)
class TestDefinition:
    def test_the_value_is_that_of_the_definition(self, name, axis, weights):
        logits, label_map = example()
        loss = LOSSES[name](ignore_class=IGNORED, class_weights=weights, axis=axis)
        expected = DEFINITIONS[name](
            *valid_pixels(logits, label_map, IGNORED), weights or [1.0] * 4
        )
        value = loss(label_map, np.moveaxis(logits, -1, axis))
        np.testing.assert_allclose(float(value), expected, rtol=1e-5)


class TestSpecialCases:
    def test_focal_with_gamma_0_is_kerass_cross_entropy(self):
        logits, label_map = example()
        theirs = keras.losses.SparseCategoricalCrossentropy(True, ignore_class=IGNORED)
        value = float(Focal(gamma=0, ignore_class=IGNORED)(label_map, logits))
        np.testing.assert_allclose(value, float(theirs(label_map, logits)), rtol=1e-6)

    @pytest.mark.parametrize("name", LOSSES)
    def test_a_sure_and_right_prediction_has_no_loss(self, name):
        _, label_map = example()
        logits = 100 * np.eye(NUM_CLASSES, dtype="float32")[np.where(label_map < 4, label_map, 0)]
        loss = float(LOSSES[name](ignore_class=IGNORED)(label_map, logits))
        # The softmax of float32 may miss 1 by its last bit.
        assert loss == pytest.approx(0, abs=1e-6)

    @pytest.mark.parametrize("name", LOSSES)
    def test_nothing_but_ignored_pixels_is_no_loss_and_no_nan(self, name):
        logits, label_map = example()
        label_map[:] = IGNORED
        assert float(LOSSES[name](ignore_class=IGNORED)(label_map, logits)) == 0

    def test_a_prediction_all_wrong_has_lovasz_1(self):
        logits = np.zeros((1, 1, 2, 2), "float32")
        logits[0, 0, 0, 1] = logits[0, 0, 1, 0] = 100
        value = LovaszSoftmax()(np.array([[[0, 1]]]), logits)
        assert float(value) == pytest.approx(1)


class TestManyPixels:
    @pytest.mark.parametrize("dtype", ["float16", "mixed_bfloat16"])
    def test_half_precision_counts_all_of_them(self, dtype):
        """Four classes of 20,000 pixels each, all equally likely everywhere."""
        label_map = np.arange(80_000).reshape(1, 200, 400) % 4
        logits, log_4 = np.zeros((1, 200, 400, 4), "float32"), np.log(4)
        expected = {
            SparseCategoricalCrossentropy(True, dtype=dtype): log_4,
            Focal(dtype=dtype): (3 / 4) ** 2 * log_4,
            OHEM(dtype=dtype): log_4,
            Dice(dtype=dtype): 3 / 4,
            LovaszSoftmax(dtype=dtype): 3 / 4,
            WeightedSum([Focal(gamma=0), Dice()], [1, 2], dtype=dtype): log_4 + 3 / 2,
        }
        for loss, value in expected.items():
            assert float(loss(label_map, logits)) == pytest.approx(value, rel=1e-5), loss.name

    def test_half_precision_keeps_class_ids_apart(self):
        """In bfloat16, 257 is 256."""
        logits = np.eye(300, dtype="float32")[None, None, [257]] * 50
        loss = SparseCategoricalCrossentropy(True, dtype="bfloat16")
        assert float(loss(np.array([[[257]]]), logits)) == pytest.approx(0, abs=1e-6)

    @pytest.mark.any_backend
    def test_lovasz_adds_a_million_errors(self):
        """With one class, each wrong pixel loses as much IoU: the loss is the mean error."""
        count = 1_000_000
        logits = np.zeros((1, 1000, count // 1000, 2), "float32")
        logits[..., 1] = np.linspace(-2, 2, count, dtype="float32").reshape(logits.shape[:3])
        errors = 1 / (1 + np.exp(-logits[..., 1].astype("float64")))
        value = float(LovaszSoftmax()(np.zeros(logits.shape[:3], "uint8"), logits))
        assert value == pytest.approx(errors.mean(), rel=1e-5)


@pytest.mark.parametrize("name", LOSSES)
class TestTraining:
    def test_ignored_pixels_give_no_gradient_and_fit_lowers_the_loss(self, name):
        """One bias for each pixel: those of ignored pixels must not move."""
        logits, label_map = example()

        class Table(keras.layers.Layer):
            def build(self, input_shape):
                self.table = self.add_weight(shape=logits.shape[1:], initializer="zeros")

            def call(self, inputs):
                return inputs + self.table

        model = keras.Sequential([keras.Input(logits.shape[1:]), Table()])
        model.compile(keras.optimizers.SGD(1.0), LOSSES[name](ignore_class=IGNORED))
        first = model.train_on_batch(logits[:1], label_map[:1])
        for _ in range(5):
            last = model.train_on_batch(logits[:1], label_map[:1])
        table = keras.ops.convert_to_numpy(model.layers[-1].table)
        assert last < first
        assert not table[label_map[0] == IGNORED].any()
        assert table[label_map[0] != IGNORED].any(axis=-1).all()

    def test_it_saves_and_loads(self, name):
        loss = LOSSES[name](ignore_class=7, class_weights=WEIGHTS, axis=1)
        copy = keras.losses.deserialize(keras.losses.serialize(loss))
        assert copy.get_config() == loss.get_config()

    def test_weights_by_class_id(self, name):
        by_id = LOSSES[name](class_weights={1: 0.5, 0: 2, 2: 1})
        assert by_id.class_weights == [2, 0.5, 1]
        for keys in ([1, 2], ["car", "road"]):
            with pytest.raises(ValueError, match="a dictionary with a key for each class id"):
                LOSSES[name](class_weights=dict.fromkeys(keys, 1.0))

    def test_wrong_weights_are_refused(self, name):
        logits, label_map = example()
        for wrong in ([1, -1], [1, float("nan")], [1, float("inf")], 2, "balanced"):
            with pytest.raises(
                ValueError, match="`class_weights` must hold finite numbers of at least 0"
            ):
                LOSSES[name](class_weights=wrong)
        with pytest.raises(ValueError, match=r"each of the 4 classes\. Received: 2"):
            LOSSES[name](ignore_class=IGNORED, class_weights=[1, 1])(label_map, logits)


def cross_entropy_and_half_dice(axis=-1):
    cross_entropy = SparseCategoricalCrossentropy(True, ignore_class=IGNORED, axis=axis)
    return WeightedSum([cross_entropy, Dice(ignore_class=IGNORED, axis=axis)], [1, 0.5])


class TestWeightedSum:
    @pytest.mark.parametrize("axis", [-1, 1])
    def test_the_value_is_the_weighted_sum_of_the_definitions(self, axis):
        logits, label_map = example()
        p, labels = valid_pixels(logits, label_map, IGNORED)
        cross_entropy = -np.log(p[np.arange(len(labels)), labels]).mean()
        expected = cross_entropy + 0.5 * dice(p, labels, [1.0] * NUM_CLASSES)
        value = cross_entropy_and_half_dice(axis)(label_map, np.moveaxis(logits, -1, axis))
        np.testing.assert_allclose(float(value), expected, rtol=1e-5)

    def test_each_loss_takes_the_sample_weights(self):
        truth, predictions, weights = np.zeros((2, 2)), np.array([[1.0, 3], [2, 2]]), [3.0, 0.5]
        loss = WeightedSum(
            [keras.losses.MeanSquaredError(), keras.losses.MeanAbsoluteError()], [2, 1]
        )
        expected = 2 * (3 * 5 + 0.5 * 4) / 2 + (3 * 2 + 0.5 * 2) / 2
        assert float(loss(truth, predictions, weights)) == pytest.approx(expected)

    def test_a_compiled_model_saves_and_loads_it(self, tmp_path):
        model = keras.Sequential([keras.Input((4, 5, 2)), keras.layers.Conv2D(NUM_CLASSES, 1)])
        model.compile("sgd", cross_entropy_and_half_dice())
        images = np.random.default_rng(1).standard_normal((2, 4, 5, 2)).astype("float32")
        _, label_map = example()
        model.train_on_batch(images, label_map)
        model.save(tmp_path / "model.keras")
        copy = keras.saving.load_model(tmp_path / "model.keras")
        assert type(copy.loss) is WeightedSum
        assert copy.loss.get_config() == model.loss.get_config()
        expected = model.evaluate(images, label_map, verbose=0)
        assert copy.evaluate(images, label_map, verbose=0) == pytest.approx(expected, rel=1e-5)

    def test_wrong_arguments_are_refused(self):
        for losses in ([], ["mse"], [Dice]):
            with pytest.raises(ValueError, match="`losses` must be one or more instances"):
                WeightedSum(losses, [1] * len(losses))
        with pytest.raises(ValueError, match=r"each of the 2 losses\. Received: weights=\[1\.0\]"):
            WeightedSum([Dice(), Focal()], [1])
        with pytest.raises(ValueError, match="`weights` must hold finite numbers of at least 0"):
            WeightedSum([Dice(), Focal()], [1, -1])


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_the_gradient_of_focal_loss_is_finite_where_the_model_is_sure_and_where_pixels_are_ignored(
    gamma,
):
    logits, label_map = np.zeros((1, 2, 2, NUM_CLASSES), "float32"), np.zeros((1, 2, 2), "int32")
    logits[..., 0], label_map[0, 0] = 200.0, IGNORED
    model = keras.Sequential([keras.Input(logits.shape[1:]), keras.layers.Conv2D(NUM_CLASSES, 1)])
    model.layers[0].kernel.assign(np.eye(NUM_CLASSES, dtype="float32")[None, None])
    model.compile("sgd", Focal(gamma=gamma, ignore_class=IGNORED))
    model.train_on_batch(logits, label_map)
    assert np.isfinite(keras.ops.convert_to_numpy(model.layers[0].kernel)).all()
