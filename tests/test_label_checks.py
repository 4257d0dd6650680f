"""Label maps that losses and metrics refuse: of another shape, or with labels that are no class."""

import json

import keras
import numpy as np
import pytest

from keras_fcn.losses import (
    OHEM,
    Dice,
    Focal,
    LovaszSoftmax,
    SparseCategoricalCrossentropy,
    WeightedSum,
)
from keras_fcn.metrics import MeanIoU

BACKEND = keras.backend.backend()
NUM_CLASSES = 3
SHAPE = (2, 4, 5)
# Worked by hand: logits of 0, so that each p is 1/3, and label maps of class 0 alone.
LOSSES = {
    "cross_entropy": (
        lambda **options: SparseCategoricalCrossentropy(from_logits=True, **options),
        np.log(3),
    ),
    "focal": (lambda **options: Focal(gamma=1.0, **options), 2 / 3 * np.log(3)),
    "ohem": (OHEM, np.log(3)),
    "dice": (Dice, 1 - 2 * (1 / 3) / (1 / 3 + 1)),
    "lovasz": (LovaszSoftmax, 2 / 3),
}
every_loss = pytest.mark.parametrize("name", LOSSES)
ANOTHER_SHAPE = [(2, 20), (2, 5, 4), (1, 4, 5), (2, 4, 5, 3), (2, 1, 4, 5), (40,)]


def logits_of_zero(axis=-1):
    return np.moveaxis(np.zeros((*SHAPE, NUM_CLASSES), "float32"), -1, axis)


def with_label(label, dtype, fill=0):
    label_map = np.full(SHAPE, fill, dtype)
    label_map[1, 2, 3] = label
    return label_map


def model(loss):
    """A model whose logits are 0 for images of 0."""
    images = keras.Input((*SHAPE[1:], NUM_CLASSES))
    result = keras.Model(images, keras.layers.Conv2D(NUM_CLASSES, 1)(images))
    result.compile("sgd", loss)
    return result


def test_a_step_without_label_maps_names_the_remedy():
    loss, _ = LOSSES["cross_entropy"]
    with pytest.raises(ValueError, match=r"Batches must be tuples, \(images, label_maps\)"):
        model(loss()).fit(logits_of_zero(), verbose=0)


@every_loss
class TestShapes:
    @pytest.mark.parametrize("shape", ANOTHER_SHAPE)
    def test_a_label_map_of_another_shape_is_refused(self, name, shape):
        loss, _ = LOSSES[name]
        with pytest.raises(ValueError, match="shape of `label_map` must be that of `logits` with"):
            loss()(np.zeros(shape, "int32"), logits_of_zero())

    @pytest.mark.parametrize("shape", [(2, 20), (2, 5, 4)])
    def test_a_compiled_step_refuses_it(self, name, shape):
        loss, _ = LOSSES[name]
        with pytest.raises(
            ValueError, match=r"shape of `label_map`.* label_map=\(\w+, (20|5, 4)\)"
        ):
            model(loss()).fit(logits_of_zero(), np.zeros(shape, "int32"), verbose=0)

    @pytest.mark.parametrize(
        ("shape", "axis"),
        [(SHAPE, -1), ((*SHAPE, 1), -1), (SHAPE, 1), ((2, 1, 4, 5), 1), ((*SHAPE, 1), 1)],
    )
    def test_an_axis_of_length_1_is_allowed(self, name, shape, axis):
        loss, expected = LOSSES[name]
        value = loss(axis=axis)(np.zeros(shape, "int32"), logits_of_zero(axis))
        assert float(value) == pytest.approx(expected, rel=1e-5)

    def test_an_axis_that_the_logits_lack_is_refused(self, name):
        loss, _ = LOSSES[name]
        with pytest.raises(
            ValueError, match=r"classes on axis=4\. Received: logits=\(2, 4, 5, 3\)"
        ):
            loss(axis=4)(np.zeros(SHAPE, "int32"), logits_of_zero())

    @pytest.mark.skipif(BACKEND != "tensorflow", reason="Only TensorFlow traces unknown sizes.")
    def test_a_step_of_unknown_sizes_fails_where_they_differ(self, name):
        import tensorflow as tf

        loss, expected = LOSSES[name]
        sizes = [tf.TensorSpec([None] * 3, "int32"), tf.TensorSpec([None] * 3 + [3], "float32")]
        step = tf.function(loss(), input_signature=sizes)
        assert float(step(np.zeros(SHAPE), logits_of_zero())) == pytest.approx(expected, rel=1e-5)
        with pytest.raises(tf.errors.InvalidArgumentError):
            step(np.zeros((2, 5, 4)), logits_of_zero())
        no_rank = tf.function(loss(), input_signature=[tf.TensorSpec(None, "int32"), sizes[1]])
        value = no_rank(np.zeros(SHAPE), logits_of_zero())
        assert float(value) == pytest.approx(expected, rel=1e-5)


@every_loss
class TestLabels:
    @pytest.mark.parametrize(
        ("label", "dtype", "ignore_class"),
        [
            *[(255, "uint8", None), (3, "int32", 255), (-1, "int32", 255), (-1, "int64", None)],
            *[(0.5, "float32", None), (254.5, "float32", 255), (2.999, "float16", None)],
            *[(np.nan, "float32", 255), (np.inf, "float32", 255), (1e20, "float64", None)],
            # Their lower bits are a class, or ignored.
            *[(2**32, "int64", None), (2**32 + 1, "uint64", None), (2**40 - 1, "int64", -1)],
            *[(2**32 - 1, "uint32", -1), (255, "uint8", -1), (-(2**32), "int64", 0)],
        ],
    )
    def test_one_that_is_no_class_makes_the_loss_nan(self, name, label, dtype, ignore_class):
        loss, _ = LOSSES[name]
        label_map = with_label(label, dtype, fill=1)
        assert np.isnan(float(loss(ignore_class=ignore_class)(label_map, logits_of_zero())))

    def test_a_compiled_step_gives_nan(self, name):
        loss, expected = LOSSES[name]
        trained = model(loss())
        for label in (255, -1, 0.5, 2.0**40):
            label_map = with_label(label, "float32")
            assert np.isnan(trained.test_on_batch(logits_of_zero(), label_map))
        good = np.zeros(SHAPE, "float32")
        assert trained.test_on_batch(logits_of_zero(), good) == pytest.approx(expected, rel=1e-5)
        assert np.isnan(trained.train_on_batch(logits_of_zero(), with_label(255, "uint8")))

    def test_a_weight_of_0_does_not_hide_it(self, name):
        loss, _ = LOSSES[name]
        label_map = with_label(7, "int32")
        value = loss()(label_map, logits_of_zero(), np.where(label_map == 7, 0.0, 1.0))
        assert np.isnan(float(value))

    @pytest.mark.parametrize("dtype", ["bool", "uint8", "int64", "float16", "float64"])
    def test_whole_numbers_of_any_dtype_are_classes(self, name, dtype):
        loss, expected = LOSSES[name]
        value = loss()(np.zeros(SHAPE, dtype), logits_of_zero())
        assert float(value) == pytest.approx(expected, rel=1e-5)

    @pytest.mark.parametrize(("ignore_class", "dtype"), [(-1, "int8"), (255, "float32")])
    def test_ignored_pixels_do_not_count(self, name, ignore_class, dtype):
        loss, expected = LOSSES[name]
        logits = logits_of_zero()
        logits[1, 2, 3] = [-9.0, 1.0, 2.0]
        label_map = with_label(ignore_class, dtype)
        value = loss(ignore_class=ignore_class)(label_map, logits)
        assert float(value) == pytest.approx(expected, rel=1e-5)

    def test_the_ignored_class_may_be_a_class(self, name):
        loss, expected = LOSSES[name]
        value = loss(ignore_class=2)(with_label(2, "int32"), logits_of_zero())
        assert float(value) == pytest.approx(expected, rel=1e-5)


class TestWeightedSum:
    def test_its_losses_check_labels_and_shapes(self):
        loss = WeightedSum([Focal(gamma=1.0), Dice()], [1, 2])
        value = float(loss(np.zeros(SHAPE), logits_of_zero()))
        assert value == pytest.approx(LOSSES["focal"][1] + 2 * LOSSES["dice"][1], rel=1e-5)
        assert np.isnan(float(loss(with_label(3, "int32"), logits_of_zero())))
        with pytest.raises(ValueError, match="shape of `label_map` must be that of `logits` with"):
            loss(np.zeros((2, 5, 4)), logits_of_zero())


class TestMetrics:
    @pytest.mark.parametrize("shape", ANOTHER_SHAPE)
    def test_a_label_map_of_another_shape_is_refused(self, shape):
        with pytest.raises(ValueError, match="shape of `label_map` must be that of `logits` with"):
            MeanIoU(3).update_state(np.zeros(shape, "int32"), logits_of_zero())

    @pytest.mark.parametrize(
        ("label", "dtype", "ignore_class"),
        [
            (2**32, "int64", None),
            (2**32 - 1, "uint32", -1),
            (255, "uint8", -1),
            (0.5, "float64", 0),
        ],
    )
    def test_a_label_that_is_no_class_is_an_error(self, label, dtype, ignore_class):
        metric = MeanIoU(3, ignore_class)
        metric.update_state(with_label(label, dtype, fill=1), logits_of_zero())
        with pytest.raises(ValueError, match="Received: 1 pixel with other values"):
            metric.result()

    def test_a_weight_of_0_does_not_hide_it(self):
        metric = MeanIoU(3)
        metric.update_state(with_label(7, "int32"), logits_of_zero(), np.zeros(2))
        with pytest.raises(ValueError, match=r"7 \(1 pixel\)"):
            metric.result()


class TestIntegers:
    @pytest.mark.parametrize("name", ["cross_entropy", "focal", "dice", "lovasz"])
    def test_losses_take_those_of_numpy_and_save_pythons(self, name):
        loss, expected = LOSSES[name]
        loss = loss(ignore_class=np.uint8(255), axis=np.int64(1))
        label_map = with_label(255, "uint8")
        assert float(loss(label_map, logits_of_zero(axis=1))) == pytest.approx(expected, rel=1e-5)
        config = json.loads(json.dumps(loss.get_config()))
        assert (config["ignore_class"], config["axis"]) == (255, 1)

    def test_metrics_take_those_of_numpy_and_save_pythons(self):
        metric = MeanIoU(np.int64(3), ignore_class=np.uint8(255), axis=np.int32(1))
        metric.update_state(with_label(255, "uint8"), logits_of_zero(axis=1))
        assert metric.confusion_matrix().tolist() == [[39, 0, 0], [0, 0, 0], [0, 0, 0]]
        config = json.loads(json.dumps(metric.get_config()))
        assert (config["num_classes"], config["ignore_class"], config["axis"]) == (3, 255, 1)

    @pytest.mark.parametrize("argument", ["ignore_class", "axis"])
    def test_other_numbers_are_refused(self, argument):
        for make in (Focal, SparseCategoricalCrossentropy, lambda **options: MeanIoU(3, **options)):
            message = rf"`{argument}` must be an integer\. Received: {argument}=1\.5\."
            with pytest.raises(ValueError, match=message):
                make(**{argument: 1.5})
