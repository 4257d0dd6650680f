"""Weights of images, pixels and classes against Keras's own loss and definitions in NumPy."""

import subprocess
import sys

import keras
import numpy as np
import pytest
from PIL import Image

from keras_fcn.data.class_weights import median_frequency
from keras_fcn.data.files import find_pairs
from keras_fcn.label_spaces import LabelSpace
from keras_fcn.losses import (
    Dice,
    Focal,
    LovaszSoftmax,
    SparseCategoricalCrossentropy,
    WeightedSum,
)
from keras_fcn.metrics import MeanIoU
from keras_fcn.training.splits import Split

BACKEND = keras.backend.backend()
IGNORED, NUM_CLASSES, SHAPE = 255, 4, (2, 3, 4)
REGION_LOSSES = {"dice": Dice, "lovasz": LovaszSoftmax}


def example(seed=0):
    """Logits and a label map in which class 3 never occurs."""
    generator = np.random.default_rng(seed)
    logits = generator.standard_normal((*SHAPE, NUM_CLASSES)).astype("float32") * 2
    label_map = generator.integers(0, 3, SHAPE).astype("uint8")
    label_map[0, 0, 0] = label_map[1, 2, :2] = IGNORED
    return logits, label_map


def weights_of_shape(shape, seed=1):
    return np.random.default_rng(seed).uniform(0.1, 3, shape).astype("float32")


def of_pixels(weights):
    """Weights of every pixel, (batch, height, width)."""
    weights = weights if weights.ndim < 4 else weights.reshape(SHAPE)
    return np.broadcast_to(weights.reshape(weights.shape + (1,) * (3 - weights.ndim)), SHAPE)


def kerass_cross_entropy(label_map, logits, weights):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=IGNORED)
    return float(loss(label_map, logits, of_pixels(weights).copy()))


def repeated_pixels(label_map, logits, times):
    """Softmax (pixels, classes) and labels of the pixels that count, each so many times."""
    p = np.exp(logits.astype("float64"))
    p /= p.sum(-1, keepdims=True)
    times = np.where(label_map == IGNORED, 0, times)
    return np.repeat(p.reshape(-1, NUM_CLASSES), times.ravel(), 0), label_map.repeat(times.ravel())


def dice(p, labels):
    values = []
    for c in set(labels.tolist()):
        truth = labels == c
        values.append(1 - 2 * p[truth, c].sum() / (p[:, c].sum() + truth.sum()))
    return np.mean(values)


def lovasz(p, labels):
    """The Lovász extension of 1 - IoU, as a function of the set of wrong pixels."""
    values = []
    for c in set(labels.tolist()):
        truth = labels == c
        errors = np.where(truth, 1 - p[:, c], p[:, c])
        order, wrong, before, value = np.argsort(-errors), np.zeros(len(p), bool), 0.0, 0.0
        for pixel in order:
            wrong[pixel] = True
            predicted = truth ^ wrong
            loss = 1 - (truth & predicted).sum() / (truth | predicted).sum()
            value, before = value + errors[pixel] * (loss - before), loss
        values.append(value)
    return np.mean(values)


DEFINITIONS = {"dice": dice, "lovasz": lovasz}


class TestCrossEntropy:
    @pytest.mark.parametrize("shape", [(2,), (2, 1), (2, 1, 1), (2, 3, 4), (2, 3, 4, 1), (1, 3, 4)])
    @pytest.mark.parametrize("axis", [-1, 1])
    def test_weights_enter_as_in_kerass_loss(self, shape, axis):
        logits, label_map = example()
        weights = weights_of_shape(shape)
        expected = kerass_cross_entropy(label_map, logits, weights)
        for loss in (
            Focal(gamma=0, ignore_class=IGNORED, axis=axis),
            SparseCategoricalCrossentropy(from_logits=True, ignore_class=IGNORED, axis=axis),
        ):
            value = loss(label_map, np.moveaxis(logits, -1, axis), weights)
            assert float(value) == pytest.approx(expected, rel=1e-5)

    @pytest.mark.parametrize("shape", [(2, 1, 3, 4), (2, 3, 4, 1), (2, 1, 1, 1)])
    def test_weights_may_have_an_axis_of_length_1_in_place_of_the_classes(self, shape):
        logits, label_map = example()
        weights = weights_of_shape(shape)
        pixels = weights.reshape(SHAPE) if weights.size > 2 else weights.reshape(2)
        loss = Focal(gamma=0, ignore_class=IGNORED, axis=1)
        value = loss(label_map, np.moveaxis(logits, -1, 1), weights)
        assert float(value) == pytest.approx(kerass_cross_entropy(label_map, logits, pixels), 1e-5)

    def test_weights_of_images_are_not_those_of_columns(self):
        """Keras would multiply (2,) along the width, where that is 2, too."""
        logits, label_map = np.zeros((2, 2, 2, 3), "float32"), np.zeros((2, 2, 2), "int32")
        logits[0, ..., 0] = 50.0  # The first image has no loss, the other log(3) for each pixel.
        loss = SparseCategoricalCrossentropy(from_logits=True)
        assert float(loss(label_map, logits, [5.0, 2.0])) == pytest.approx(np.log(3))

    @pytest.mark.parametrize("reduction", ["sum", "mean_with_sample_weight", None])
    def test_other_reductions_are_kerass(self, reduction):
        logits, label_map = example()
        options = {"from_logits": True, "ignore_class": IGNORED, "reduction": reduction}
        theirs = keras.losses.SparseCategoricalCrossentropy(**options)
        ours = SparseCategoricalCrossentropy(**options)
        for weights in (None, weights_of_shape(SHAPE)):
            expected = theirs(label_map, logits, None if weights is None else weights.copy())
            np.testing.assert_allclose(ours(label_map, logits, weights), expected, rtol=1e-5)

    def test_focal_multiplies_each_pixels_loss(self):
        # -(1 - p)^2 log p at p = 1/2, of weight 3, and a second pixel of weight 0.
        loss = Focal(gamma=2)(np.zeros((1, 1, 2)), np.zeros((1, 1, 2, 2)), [[[3.0, 0.0]]])
        assert float(loss) == pytest.approx(3 * 0.25 * np.log(2) / 2)


@pytest.mark.parametrize("name", REGION_LOSSES)
class TestRegionLosses:
    @pytest.mark.parametrize("scale", [1.0, 0.25, 1e-6])
    def test_a_pixel_of_weight_k_counts_as_often(self, name, scale):
        logits, label_map = example()
        times = np.random.default_rng(2).integers(0, 4, SHAPE)
        expected = DEFINITIONS[name](*repeated_pixels(label_map, logits, times))
        loss = REGION_LOSSES[name](ignore_class=IGNORED)
        assert float(loss(label_map, logits, scale * times)) == pytest.approx(expected, rel=1e-5)

    def test_weights_of_1_change_nothing(self, name):
        logits, label_map = example()
        expected = DEFINITIONS[name](*repeated_pixels(label_map, logits, np.ones(SHAPE, int)))
        loss = REGION_LOSSES[name](ignore_class=IGNORED)
        for weights in (None, 1.0, np.ones(2), np.ones(SHAPE)):
            assert float(loss(label_map, logits, weights)) == pytest.approx(expected, rel=1e-5)

    def test_images_of_weight_0_leave_the_others_as_they_are(self, name):
        logits, label_map = example()
        expected = DEFINITIONS[name](
            *repeated_pixels(label_map[:1], logits[:1], np.ones((1, 3, 4), int))
        )
        loss = REGION_LOSSES[name](ignore_class=IGNORED)
        assert float(loss(label_map, logits, [1.0, 0.0])) == pytest.approx(expected, rel=1e-5)
        assert float(loss(label_map, logits, [0.0, 0.0])) == 0

    def test_a_sum_hands_its_weights_on(self, name):
        logits, label_map = example()
        times = np.array([3, 1])
        region = DEFINITIONS[name](*repeated_pixels(label_map, logits, of_pixels(times)))
        expected = 2 * kerass_cross_entropy(label_map, logits, times) + 0.5 * region
        loss = WeightedSum(
            [
                SparseCategoricalCrossentropy(from_logits=True, ignore_class=IGNORED),
                REGION_LOSSES[name](ignore_class=IGNORED),
            ],
            [2, 0.5],
        )
        assert float(loss(label_map, logits, times)) == pytest.approx(expected, rel=1e-5)


def table_model(**options):
    """A model whose logits are its images plus a bias for each pixel, of zeros."""

    class Table(keras.layers.Layer):
        def build(self, input_shape):
            self.table = self.add_weight(shape=input_shape[1:], initializer="zeros")

        def call(self, inputs):
            return inputs + self.table

    model = keras.Sequential([keras.Input((*SHAPE[1:], NUM_CLASSES)), Table()])
    model.compile(keras.optimizers.SGD(1.0), **options)
    return model


class TestTraining:
    @pytest.mark.parametrize("name", ["focal", "dice", "lovasz"])
    def test_weights_of_images_and_pixels_in_fit(self, name):
        logits, label_map = example()
        loss = {"focal": Focal(gamma=0, ignore_class=IGNORED)}.get(name)
        loss = loss or REGION_LOSSES[name](ignore_class=IGNORED)
        pixels = np.random.default_rng(3).integers(0, 3, SHAPE)
        pixels[:, 0, 1] = 0
        for times in (np.array([2, 1]), pixels):
            model = table_model(loss=loss)
            history = model.fit(logits, label_map, sample_weight=times.astype("float32"), verbose=0)
            if name == "focal":
                expected = kerass_cross_entropy(label_map, logits, times)
            else:
                repeated = repeated_pixels(label_map, logits, of_pixels(times))
                expected = DEFINITIONS[name](*repeated)
            assert history.history["loss"] == [pytest.approx(expected, rel=1e-5)]
            moved = keras.ops.convert_to_numpy(model.layers[-1].table).any(axis=-1)
            counts = np.where(label_map == IGNORED, 0, of_pixels(times)).any(axis=0)
            np.testing.assert_array_equal(moved, counts)

    @pytest.mark.parametrize("shape", [(2,), (*SHAPE, 1)])
    def test_weighted_metrics_are_weighted_and_the_others_are_not(self, shape):
        logits, label_map = example()
        weights = weights_of_shape(shape)
        weighted, plain = MeanIoU(4, IGNORED, name="weighted"), MeanIoU(4, IGNORED, name="plain")
        model = table_model(loss=Dice(IGNORED), metrics=[plain], weighted_metrics=[weighted])
        model.optimizer.learning_rate = 0.0
        scores = model.fit(logits, label_map, 1, sample_weight=weights, verbose=0).history
        for metric, given in ((weighted, of_pixels(weights)), (plain, np.ones(SHAPE, int))):
            expected = weighted_matrix(label_map, logits.argmax(-1), given)
            np.testing.assert_allclose(metric.confusion_matrix(), expected, rtol=1e-5, atol=1e-6)
            assert scores[metric.name] == [pytest.approx(iou_of(expected), rel=1e-5)]
        assert plain.confusion_matrix().dtype == np.int64


def weighted_matrix(label_map, prediction, weights):
    matrix = np.zeros((NUM_CLASSES, NUM_CLASSES), np.asarray(weights).dtype)
    valid = label_map != IGNORED
    np.add.at(matrix, (label_map[valid], prediction[valid]), weights[valid])
    return matrix


def iou_of(matrix):
    right, union = np.diag(matrix), matrix.sum(0) + matrix.sum(1) - np.diag(matrix)
    return (right[union > 0] / union[union > 0]).mean()


class TestMetrics:
    def test_fractions_add_up_over_updates(self):
        logits, label_map = example()
        metric, expected = MeanIoU(4, IGNORED), np.zeros((4, 4))
        for seed in range(5):
            weights = weights_of_shape(SHAPE, seed)
            metric.update_state(label_map, logits, weights)
            expected += weighted_matrix(label_map, logits.argmax(-1), weights.astype("float64"))
        np.testing.assert_allclose(metric.confusion_matrix(), expected, rtol=1e-6, atol=1e-6)
        assert float(metric.result()) == pytest.approx(iou_of(expected), rel=1e-6)
        metric.reset_state()
        assert not metric.confusion_matrix().any()

    def test_whole_weights_are_counted_exactly(self):
        logits, label_map = example()
        metric, weights = MeanIoU(4, IGNORED), np.array([2**20, 3])
        for _ in range(3):
            metric.update_state(label_map, logits, weights)
        metric.update_state(label_map, logits)
        matrix = metric.confusion_matrix()
        assert matrix.dtype == np.int64
        expected = weighted_matrix(label_map, logits.argmax(-1), of_pixels(3 * weights + 1))
        np.testing.assert_array_equal(matrix, expected)

    @pytest.mark.parametrize("scale", [1e-9, 1e9])
    def test_the_scale_of_the_weights_does_not_matter(self, scale):
        logits, label_map = example()
        weights = weights_of_shape(SHAPE) * np.float32(scale)
        metric = MeanIoU(4, IGNORED)
        metric.update_state(label_map, logits, weights)
        expected = iou_of(weighted_matrix(label_map, logits.argmax(-1), weights))
        assert float(metric.result()) == pytest.approx(expected, rel=1e-5)

    def test_a_million_small_weights_in_one_update(self):
        """One after the other, float32 adds 0.1 up to 100,958."""
        logits = np.zeros((1, 1000, 1000, 2), "float32")
        metric = MeanIoU(2)
        metric.update_state(np.zeros((1, 1000, 1000), "uint8"), logits, np.float32([0.1]))
        assert metric.confusion_matrix()[0, 0] == pytest.approx(100_000, rel=1e-5)


@pytest.mark.parametrize("shape", [(3,), (4,), (3, 4), (2, 4, 3), (2, 3, 4, 4), (2, 1, 3, 4, 1)])
@pytest.mark.parametrize(
    "use",
    [Focal(), Dice(), SparseCategoricalCrossentropy(from_logits=True), "metric"],
    ids=["focal", "dice", "cross_entropy", "metric"],
)
def test_weights_of_another_shape_are_refused(use, shape):
    logits, label_map = example()
    use = MeanIoU(4).update_state if use == "metric" else use
    message = r"`sample_weight` must be \(batch,\) or that of `label_map`\. Received: sample_weight"
    with pytest.raises(ValueError, match=message):
        use(label_map, logits, np.ones(shape))


REPLICAS = """
import sys
import numpy as np, tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
import keras
from keras_fcn import losses
from keras_fcn.distribution import data_parallel
data = np.load(sys.argv[1])
for name in ("Focal", "Dice", "LovaszSoftmax", "SparseCategoricalCrossentropy"):
    options = {"from_logits": True} if name.startswith("Sparse") else {}
    loss = getattr(losses, name)(ignore_class=255, **options)
    with data_parallel():
        strategy = tf.distribute.get_strategy()
    assert strategy.num_replicas_in_sync == 2
    def part(key):
        return strategy.experimental_distribute_values_from_function(
            lambda context: tf.constant(data[key][context.replica_id_in_sync_group][None])
        )
    @tf.function
    def step(*parts):
        return strategy.reduce("SUM", strategy.run(lambda y, x, w: loss(y, x, w), parts), None)
    print(float(step(part("label_map"), part("logits"), part("times"))))
"""


@pytest.mark.gate
@pytest.mark.skipif(BACKEND != "tensorflow", reason="The replicas are TensorFlow's.")
def test_two_replicas_weight_the_whole_batch(tmp_path):
    logits, label_map = example()
    times = np.random.default_rng(4).integers(0, 4, SHAPE)
    path = tmp_path / "data.npz"
    np.savez(path, logits=logits, label_map=label_map, times=times.astype("float32"))
    command = [sys.executable, "-c", REPLICAS, str(path)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    repeated = repeated_pixels(label_map, logits, times)
    p, labels = repeated
    log_p = np.log(p[np.arange(len(labels)), labels])
    valid = (label_map != IGNORED).sum()
    focal = -((1 - np.exp(log_p)) ** 2 * log_p).sum() / valid
    expected = [focal, dice(*repeated), lovasz(*repeated), -log_p.sum() / valid]
    assert [float(line) for line in printed.split()] == pytest.approx(expected, rel=1e-5)


@pytest.mark.any_backend
class TestClassWeights:
    def test_a_class_that_never_occurs_weighs_0(self):
        # Shares in the images that show them: 8/10 and 2/10; their median is 1/2.
        weights = median_frequency(np.array([8, 0, 2]), np.array([10, 0, 10]))
        np.testing.assert_allclose(weights, [5 / 8, 0, 5 / 2])
        assert median_frequency(np.zeros(2, int), np.zeros(2, int)).tolist() == [0, 0]
        assert Focal(class_weights=weights).class_weights == pytest.approx([5 / 8, 0, 5 / 2])

    def test_training_names_it(self, tmp_path):
        for folder, array in (
            ("images", np.zeros((2, 5, 3), "uint8")),
            ("labels", np.array([[0] * 5, [0, 0, 0, 2, 2]], "uint8")),
        ):
            (tmp_path / folder).mkdir()
            Image.fromarray(array).save(tmp_path / folder / "a.png")
        pairs = find_pairs(tmp_path / "images", tmp_path / "labels")
        space = LabelSpace(("road", "tree", "car"), ((0, 0, 0), (1, 1, 1), (2, 2, 2)), 255)
        with pytest.warns(UserWarning, match="No pixel shows tree: the median frequency"):
            weights = Split(pairs, space).class_weights()
        np.testing.assert_allclose(weights, [5 / 8, 0, 5 / 2])
