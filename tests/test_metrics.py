"""Keras's metrics against a matrix counted by hand, exact fractions, and scikit-learn."""

import keras
import numpy as np
import pytest
from counted import LABEL_MAP, MATRIX, MATRIX_SCORES, PREDICTION, exact_scores, random_maps
from keras import ops
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    jaccard_score,
)
from sklearn.metrics import confusion_matrix as sklearn_confusion_matrix

from keras_fcn import metrics
from keras_fcn.metrics import FrequencyWeightedIoU, MeanAccuracy, MeanIoU, PixelAccuracy

BACKEND = keras.backend.backend()
# JAX compiles with XLA anyway; on PyTorch it is another compiler, and slow.
XLA = [True] if BACKEND == "tensorflow" else []
traced_steps_only = pytest.mark.skipif(
    BACKEND == "torch", reason="PyTorch runs steps as they are; there result() raises."
)
SCORES = {
    "pixel_accuracy": PixelAccuracy,
    "mean_accuracy": MeanAccuracy,
    "mean_iou": MeanIoU,
    "frequency_weighted_iou": FrequencyWeightedIoU,
}

# Counts beyond 2^31, and beyond what float32 tells from its neighbours.
LARGE_MATRIX = [[2**40 + 1, 2**31, 0], [7, 3, 2**33 - 1], [0, 0, 5]]


def one_hot_logits(prediction, num_classes=3, axis=-1):
    return np.moveaxis(np.eye(num_classes, dtype="float32")[prediction], -1, axis)


def update(metric, label_map, prediction):
    metric.update_state(label_map, one_hot_logits(prediction, metric.num_classes, metric.axis))
    return metric


def set_counts(metric, matrix):
    """Puts a metric into the state after counting a matrix too large to count in a test."""
    counts = [int(count) for row in matrix for count in row]
    for limb, values in (
        (metric._high, [count // metrics._LIMB for count in counts]),
        (metric._low, [count % metrics._LIMB for count in counts]),
    ):
        limb.assign(np.pad(values, (0, limb.shape[0] - len(values))))
    return metric


def result_in_compiled_step(metric):
    if BACKEND == "tensorflow":
        import tensorflow as tf

        return float(tf.function(metric.result, jit_compile=True)())
    if BACKEND == "jax":
        import jax

        return float(jax.jit(metric.stateless_result)([v.value for v in metric.variables]))
    raise AssertionError("PyTorch's steps are not traced.")


def copying_model(num_classes, compiled_metrics, axis=-1, loss=None, **compile_args):
    """A model whose logits are its images: one 1x1 convolution by the identity."""
    images = keras.Input((None, None, num_classes))
    convolution = keras.layers.Conv2D(num_classes, 1)
    logits = convolution(images)
    model = keras.Model(images, logits if axis == -1 else keras.layers.Permute((3, 1, 2))(logits))
    convolution.set_weights([np.eye(num_classes)[None, None], np.zeros(num_classes)])
    # A loss that does not look at the labels, so that only the metric can object to them.
    loss = loss or (lambda label_map, logits: ops.mean(ops.square(logits), axis=-1))
    model.compile("sgd", loss, metrics=compiled_metrics, **compile_args)
    return model


@pytest.mark.parametrize(("name", "metric_class"), SCORES.items())
class TestEveryMetric:
    def test_hand_counted_matrix(self, name, metric_class):
        metric = update(metric_class(3, ignore_class=255), LABEL_MAP, PREDICTION)
        assert metric.confusion_matrix().dtype == np.int64
        assert metric.confusion_matrix().tolist() == MATRIX
        assert float(metric.result()) == pytest.approx(MATRIX_SCORES[name], rel=1e-6)

    def test_default_name_is_that_of_the_score(self, name, metric_class):
        assert metric_class(3).name == name
        assert metric_class(3, name="other").name == "other"

    def test_serialization_round_trip(self, name, metric_class):
        metric = metric_class(5, ignore_class=-1, axis=1, name="score", dtype="float32")
        serialized = keras.saving.serialize_keras_object(metric)
        assert serialized["registered_name"] == f"keras_fcn>{metric_class.__name__}"
        restored = keras.saving.deserialize_keras_object(serialized)
        assert type(restored) is metric_class
        assert restored.get_config() == metric.get_config()
        assert restored.get_config() == {
            "name": "score",
            "dtype": "float32",
            "num_classes": 5,
            "ignore_class": -1,
            "axis": 1,
        }

    def test_nothing_counted_scores_zero(self, name, metric_class):
        assert float(metric_class(3).result()) == 0
        all_ignored = update(metric_class(3, ignore_class=255), LABEL_MAP * 0 + 255, PREDICTION)
        assert float(all_ignored.result()) == 0
        assert not all_ignored.confusion_matrix().any()

    def test_result_is_a_float32_scalar(self, name, metric_class):
        result = update(metric_class(3, ignore_class=255), LABEL_MAP, PREDICTION).result()
        assert ops.is_tensor(result)
        assert tuple(result.shape) == ()
        assert keras.backend.standardize_dtype(result.dtype) == "float32"

    def test_large_counts(self, name, metric_class):
        metric = set_counts(metric_class(3), LARGE_MATRIX)
        assert float(metric.result()) == pytest.approx(exact_scores(LARGE_MATRIX)[name], rel=1e-7)

    @traced_steps_only
    def test_large_counts_in_a_compiled_step(self, name, metric_class):
        metric = set_counts(metric_class(3), LARGE_MATRIX)
        expected = exact_scores(LARGE_MATRIX)[name]
        assert result_in_compiled_step(metric) == pytest.approx(expected, rel=1e-6)

    @traced_steps_only
    def test_compiled_result_is_nan_after_an_invalid_label(self, name, metric_class):
        assert np.isnan(result_in_compiled_step(update(metric_class(3), LABEL_MAP, PREDICTION)))


class TestCounting:
    @pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
    def test_against_scikit_learn(self):
        label_map, prediction = random_maps(1, num_classes=5)
        # Leave out classes: 1 of truth and prediction, 3 of the truth, 4 of the prediction.
        label_map[np.isin(label_map, [1, 3])] = 0
        prediction[np.isin(prediction, [1, 4])] = 2
        valid = label_map != 255
        truth, predicted = label_map[valid], prediction[valid]
        expected = {
            "pixel_accuracy": accuracy_score(truth, predicted),
            "mean_accuracy": balanced_accuracy_score(truth, predicted),
            "mean_iou": jaccard_score(truth, predicted, average="macro"),
            "frequency_weighted_iou": jaccard_score(truth, predicted, average="weighted"),
        }
        for name, metric_class in SCORES.items():
            metric = metric_class(5, ignore_class=255)
            for batch in (slice(0, 2), slice(2, 4)):
                update(metric, label_map[batch], prediction[batch])
            np.testing.assert_array_equal(
                metric.confusion_matrix(),
                sklearn_confusion_matrix(truth, predicted, labels=range(5)),
            )
            assert float(metric.result()) == pytest.approx(expected[name], rel=1e-6)

    def test_scores_are_not_the_mean_of_the_images_scores(self):
        label_map = np.array([[[0, 0, 0, 0]], [[0, 0, 0, 1]]])
        prediction = np.zeros_like(label_map)
        metric = MeanIoU(2)
        for image in range(2):
            update(metric, label_map[[image]], prediction[[image]])
        # The images alone score 1 and (3/4 + 0)/2.
        assert float(metric.result()) == pytest.approx((7 / 8 + 0) / 2)

    @pytest.mark.parametrize(
        "dtype", ["bool", "uint8", "int8", "uint16", "int32", "int64", "float16", "float32"]
    )
    def test_label_dtypes(self, dtype):
        label_map = np.array([[[0, 1, 1, 1]]]).astype(dtype)
        metric = update(PixelAccuracy(3, ignore_class=2), label_map, np.array([[[0, 1, 2, 0]]]))
        assert metric.confusion_matrix().tolist() == [[1, 0, 0], [1, 1, 1], [0, 0, 0]]

    @pytest.mark.parametrize(
        ("ignore_class", "dtype"),
        [(255, "uint8"), (255, "float32"), (-1, "int8"), (-100, "int64"), (70_000, "int32")],
    )
    def test_ignored_pixels_do_not_count(self, ignore_class, dtype):
        label_map = np.where(LABEL_MAP == 255, ignore_class, LABEL_MAP.astype(dtype)).astype(dtype)
        metric = update(MeanIoU(3, ignore_class=ignore_class), label_map, PREDICTION)
        assert metric.confusion_matrix().tolist() == MATRIX

    def test_ignored_class_may_be_one_of_the_classes(self):
        label_map, prediction = np.array([[[0, 1, 1, 2]]]), np.array([[[1, 0, 1, 2]]])
        metric = update(MeanIoU(3, ignore_class=1), label_map, prediction)
        assert metric.confusion_matrix().tolist() == [[0, 1, 0], [0, 0, 0], [0, 0, 1]]

    def test_channels_first_logits(self):
        metric = MeanIoU(3, ignore_class=255, axis=1)
        logits = one_hot_logits(PREDICTION, axis=1)
        assert logits.shape == (1, 3, 2, 4)
        for label_map in (LABEL_MAP, LABEL_MAP[..., None], LABEL_MAP[:, None]):
            metric.reset_state()
            metric.update_state(label_map, logits)
            assert metric.confusion_matrix().tolist() == MATRIX

    def test_label_map_may_have_a_last_axis_of_length_one(self):
        metric = MeanIoU(3, ignore_class=255)
        metric.update_state(LABEL_MAP[..., None], one_hot_logits(PREDICTION))
        assert metric.confusion_matrix().tolist() == MATRIX

    def test_reset_state(self):
        metric = update(MeanIoU(3), np.full((1, 2, 4), 7), PREDICTION)
        metric.reset_state()
        assert not metric.confusion_matrix().any()
        update(metric, np.where(LABEL_MAP == 255, 0, LABEL_MAP), PREDICTION)
        assert metric.confusion_matrix().tolist() == [[3, 1, 0], [1, 1, 0], [0, 1, 1]]

    def test_states_of_replicas_may_be_added_up(self):
        label_map, prediction = random_maps(2, num_classes=3)
        whole = update(MeanIoU(3, 255), label_map, prediction)
        one = update(MeanIoU(3, 255), label_map[:2], prediction[:2])
        other = update(MeanIoU(3, 255), label_map[2:], prediction[2:])
        for mine, others in zip(one.variables, other.variables, strict=True):
            mine.assign(mine + others)
        np.testing.assert_array_equal(one.confusion_matrix(), whole.confusion_matrix())

    def test_mixed_precision_does_not_change_counts(self):
        label_map, prediction = random_maps(3, num_classes=4, shape=(1, 40, 40))
        label_map[:] = 0  # One cell beyond 256, from where bfloat16 skips integers.
        policy = keras.config.dtype_policy()
        keras.config.set_dtype_policy("mixed_bfloat16")
        try:
            metric = MeanIoU(4)
            metric.update_state(label_map, ops.cast(one_hot_logits(prediction, 4), "bfloat16"))
            metric.update_state(label_map, ops.cast(one_hot_logits(prediction, 4), "bfloat16"))
        finally:
            keras.config.set_dtype_policy(policy)
        expected = [2 * np.bincount(prediction.ravel(), minlength=4).tolist()[i] for i in range(4)]
        assert metric.confusion_matrix()[0].tolist() == expected
        assert "bfloat16" not in {variable.dtype for variable in metric.variables}


class TestLargeSets:
    def test_counts_go_on_beyond_two_to_the_31(self):
        before = [[2**31 - 2, 2**32 - 1, 0], [2**20 - 1, 2**40, 5], [2**31 - 1, 0, 2**30 - 1]]
        metric = update(set_counts(MeanIoU(3, 255), before), LABEL_MAP, PREDICTION)
        after = [[before[i][j] + MATRIX[i][j] for j in range(3)] for i in range(3)]
        assert metric.confusion_matrix().tolist() == after
        assert float(metric.result()) == pytest.approx(exact_scores(after)["mean_iou"], rel=1e-6)

    def test_one_update_with_more_pixels_of_a_class_than_float32_can_count(self):
        pixels = 2**24 + 3
        logits = np.zeros((1, 1, pixels, 2), "float32")
        logits[..., 1] = 1
        metric = PixelAccuracy(2)
        metric.update_state(np.zeros((1, 1, pixels), "uint8"), logits)
        assert metric.confusion_matrix().tolist() == [[0, pixels], [0, 0]]

    @pytest.mark.parametrize("weight", [None, 0.5])
    def test_a_shape_that_returns(self, weight, monkeypatch):
        runs = []

        def count(*arguments):
            runs.append(arguments)
            return counted_as_before(*arguments)

        counted_as_before = metrics._count
        monkeypatch.setattr(metrics, "_count", count)
        # A number of classes that no other test has, whose programs are still to be compiled.
        metric, expected = MeanIoU(23, ignore_class=255), np.zeros((23, 23))
        for seed in range(12):
            label_map, prediction = random_maps(seed, num_classes=23)
            weights = weight and np.full(len(label_map), weight, "float32")
            metric.update_state(label_map, one_hot_logits(prediction, 23), weights)
            valid = label_map != 255
            pixels = sklearn_confusion_matrix(label_map[valid], prediction[valid], labels=range(23))
            expected += pixels * (weight or 1)
        np.testing.assert_array_equal(metric.confusion_matrix(), expected)
        assert len(runs) == {"tensorflow": 8 + 1, "jax": 1, "torch": 12}[BACKEND]

    def test_one_update_near_two_to_the_31(self, monkeypatch):
        pixels = 2**31 - 1

        def histogram(bins, num_bins):
            return ops.convert_to_tensor([pixels] + [0] * (num_bins - 1), "int32")

        monkeypatch.setattr(metrics.backend, "histogram", histogram)
        # Without the cache, which would hold the function for other tests.
        monkeypatch.setattr(metrics, "_compiled_update", metrics._compiled_update.__wrapped__)
        metric = PixelAccuracy(3)
        for updates in range(1, 4):
            update(metric, LABEL_MAP, PREDICTION)
            assert metric.confusion_matrix()[0, 0] == updates * pixels


class TestInTraining:
    @pytest.mark.parametrize(
        ("jit_compile", "axis"), [("auto", -1), ("auto", 1), *((jit, -1) for jit in XLA)]
    )
    def test_evaluate_counts_what_numpy_counts(self, jit_compile, axis):
        label_map, prediction = random_maps(4, num_classes=5)
        valid = label_map != 255
        expected = sklearn_confusion_matrix(label_map[valid], prediction[valid], labels=range(5))
        compiled = [metric_class(5, 255, axis=axis) for metric_class in SCORES.values()]
        model = copying_model(5, compiled, axis, jit_compile=jit_compile)
        images = one_hot_logits(prediction, 5)
        scores = model.evaluate(images, label_map, batch_size=3, verbose=0, return_dict=True)
        for metric in compiled:
            np.testing.assert_array_equal(metric.confusion_matrix(), expected)
            assert scores[metric.name] == pytest.approx(
                exact_scores(expected)[metric.name], rel=1e-6
            )

    @pytest.mark.skipif(BACKEND != "tensorflow", reason="of tf.distribute")
    def test_replicas_have_variables_of_their_own(self):
        import tensorflow as tf

        with tf.distribute.MirroredStrategy(["CPU:0"]).scope():
            model = copying_model(3, [MeanIoU(3, ignore_class=255)])
        images = one_hot_logits(PREDICTION, 3)
        scores = model.evaluate(images, LABEL_MAP, verbose=0, return_dict=True)
        assert scores["mean_iou"] == pytest.approx(MATRIX_SCORES["mean_iou"], rel=1e-6)

    def test_fit_scores_training_and_validation_apart(self):
        label_map, prediction = random_maps(5, num_classes=3)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=255)
        model = copying_model(3, [MeanIoU(3, 255)], loss=loss)
        model.optimizer.learning_rate = 0.0
        images = one_hot_logits(prediction)
        history = model.fit(
            images[:2],
            label_map[:2],
            validation_data=(images[2:], label_map[2:]),
            batch_size=2,
            epochs=2,
            verbose=0,
        ).history
        for name, part in (("mean_iou", slice(0, 2)), ("val_mean_iou", slice(2, 4))):
            valid = label_map[part] != 255
            expected = jaccard_score(
                label_map[part][valid], prediction[part][valid], average="macro"
            )
            assert history[name] == pytest.approx([expected] * 2, rel=1e-6)

    @pytest.mark.parametrize("jit_compile", ["auto", *XLA])
    def test_invalid_label_raises_in_evaluate_and_fit(self, jit_compile):
        label_map, prediction = random_maps(6, num_classes=3)
        label_map[0, 0, 0] = 7
        model = copying_model(3, [MeanIoU(3, 255)], jit_compile=jit_compile)
        for run in (model.evaluate, model.fit):
            with pytest.raises(ValueError, match=r"Received: 1 pixel .*: 7 \(1 pixel\)"):
                run(one_hot_logits(prediction), label_map, verbose=0)

    @traced_steps_only
    @pytest.mark.parametrize("jit_compile", ["auto", *XLA])
    def test_invalid_label_shows_as_nan_in_a_compiled_step(self, jit_compile):
        label_map, prediction = random_maps(7, num_classes=3)
        label_map[0, 0, 0] = 7
        model = copying_model(3, [MeanIoU(3, 255)], jit_compile=jit_compile)
        logs = model.test_on_batch(one_hot_logits(prediction), label_map, return_dict=True)
        assert np.isnan(logs["mean_iou"])

    def test_callbacks_know_that_more_is_better(self):
        label_map, prediction = random_maps(8, num_classes=3)
        model = copying_model(3, [metric_class(3, 255) for metric_class in SCORES.values()])
        callbacks = [keras.callbacks.EarlyStopping(monitor=name) for name in SCORES]
        model.fit(one_hot_logits(prediction), label_map, verbose=0, callbacks=callbacks)
        assert all(bool(callback.monitor_op(1.0, 0.0)) for callback in callbacks)

    def test_compiled_metrics_are_saved_with_the_model(self, tmp_path):
        label_map, prediction = random_maps(9, num_classes=3)
        images = one_hot_logits(prediction)
        compiled = [metric_class(3, 255) for metric_class in SCORES.values()]
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=255)
        model = copying_model(3, compiled, loss=loss)
        before = model.evaluate(images, label_map, verbose=0, return_dict=True)
        model.save(tmp_path / "model.keras")
        restored = keras.saving.load_model(tmp_path / "model.keras")
        assert restored.evaluate(images, label_map, verbose=0, return_dict=True) == before


class TestErrors:
    def test_invalid_labels_are_named_with_their_numbers(self):
        label_map = np.array([[[0, 11, 11, 300], [-5, 254, 255, 2]]], "int32")
        metric = update(MeanIoU(3, ignore_class=255), label_map, PREDICTION)
        message = (
            r"`label_map` must hold class ids 0 to 2 or `ignore_class`=255\. "
            r"Received: 5 pixels with other values: "
            r"below 0 \(1 pixel\), 11 \(2 pixels\), 254 \(1 pixel\), above 255 \(1 pixel\)"
        )
        for read in (metric.result, metric.confusion_matrix):
            with pytest.raises(ValueError, match=message):
                read()

    def test_an_invalid_label_is_not_forgotten_in_later_updates(self):
        metric = update(MeanIoU(3, 255), np.full((1, 2, 4), 3), PREDICTION)
        update(metric, LABEL_MAP, PREDICTION)
        with pytest.raises(ValueError, match=r"3 \(8 pixels\)"):
            metric.result()

    def test_many_invalid_labels_are_cut_short(self):
        label_map = np.arange(8).reshape(1, 2, 4)
        with pytest.raises(ValueError, match=r"Received: 6 pixels .* 6 \(1 pixel\), \.\.\.$"):
            update(PixelAccuracy(2), label_map, PREDICTION % 2).result()

    @pytest.mark.parametrize("label", [0.5, 254.9, 255.5, np.nan, np.inf, -np.inf, 1e20])
    def test_float_labels_that_are_no_class_id_are_refused(self, label):
        label_map = LABEL_MAP.astype("float32")
        label_map[0, 0, 0] = label
        metric = update(MeanIoU(3, ignore_class=255), label_map, PREDICTION)
        with pytest.raises(ValueError, match="Received: 1 pixel with other values"):
            metric.result()

    def test_label_255_is_not_ignored_by_itself(self):
        with pytest.raises(ValueError, match=r"class ids 0 to 2\. Received: .* 255 \(1 pixel\)"):
            update(MeanIoU(3), LABEL_MAP, PREDICTION).result()

    @pytest.mark.parametrize("num_classes", [1, 0, -3, 2.5, "3", None])
    def test_num_classes(self, num_classes):
        with pytest.raises(ValueError, match="`num_classes` must be an integer of at least 2"):
            MeanIoU(num_classes)

    @pytest.mark.parametrize(
        ("shape", "axis"), [((1, 2, 4, 4), -1), ((1, 2, 4, 3), 1), ((1, 2, 4, 3), 4)]
    )
    def test_logits_without_the_classes(self, shape, axis):
        with pytest.raises(ValueError, match=r"num_classes=3 on axis=.* logits=\(1, 2, 4, [34]\)"):
            MeanIoU(3, axis=axis).update_state(LABEL_MAP, np.zeros(shape, "float32"))

    @pytest.mark.parametrize("shape", [(1, 4, 2), (1, 2, 4, 3), (1, 1, 2, 4), (8,), (2, 2, 4)])
    def test_label_map_of_another_shape(self, shape):
        with pytest.raises(ValueError, match="shape of `label_map` must be that of `logits`"):
            MeanIoU(3).update_state(np.zeros(shape, "uint8"), one_hot_logits(PREDICTION))
