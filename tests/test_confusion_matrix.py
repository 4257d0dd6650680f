"""Confusion matrices and their scores: by hand, in exact fractions, and scikit-learn's."""

import numpy as np
import pytest
from counted import LABEL_MAP, MATRIX, MATRIX_SCORES, PREDICTION, exact_scores, random_maps
from keras import ops
from sklearn.metrics import confusion_matrix as sklearn_confusion_matrix

from keras_fcn import metrics


class TestScoresOfAMatrix:
    @pytest.mark.parametrize("name", MATRIX_SCORES)
    def test_hand_counted_matrix(self, name):
        score = getattr(metrics, name)
        assert float(score(MATRIX)) == pytest.approx(MATRIX_SCORES[name], rel=1e-12)
        assert float(score(np.array(MATRIX))) == pytest.approx(MATRIX_SCORES[name], rel=1e-12)

    def test_class_absent_from_the_truth_is_left_out_of_mean_accuracy_only(self):
        matrix = [[3, 1], [0, 0]]
        assert metrics.mean_accuracy(matrix) == 3 / 4
        assert metrics.mean_iou(matrix) == (3 / 4 + 0) / 2
        assert metrics.frequency_weighted_iou(matrix) == 3 / 4

    def test_class_absent_from_truth_and_prediction_is_left_out_of_every_mean(self):
        matrix = [[3, 1, 0], [0, 2, 0], [0, 0, 0]]
        assert metrics.mean_accuracy(matrix) == (3 / 4 + 1) / 2
        assert metrics.mean_iou(matrix) == pytest.approx((3 / 4 + 2 / 3) / 2, rel=1e-12)
        assert metrics.frequency_weighted_iou(matrix) == pytest.approx(
            (4 * 3 / 4 + 2 * 2 / 3) / 6, rel=1e-12
        )

    def test_class_never_predicted_counts_as_zero(self):
        matrix = [[4, 0], [2, 0]]
        assert metrics.mean_accuracy(matrix) == (1 + 0) / 2
        assert metrics.mean_iou(matrix) == pytest.approx((4 / 6 + 0) / 2, rel=1e-12)

    def test_iou_of_an_absent_class_is_nan(self):
        np.testing.assert_array_equal(
            metrics.class_iou([[3, 1, 0, 0], [0, 2, 0, 0], [0, 0, 0, 0], [0, 0, 1, 0]]),
            [3 / 4, 2 / 3, 0.0, 0.0],
        )
        np.testing.assert_array_equal(metrics.class_iou([[5, 0], [0, 0]]), [1.0, np.nan])

    @pytest.mark.parametrize("name", MATRIX_SCORES)
    def test_nothing_counted_scores_zero(self, name):
        assert getattr(metrics, name)(np.zeros((3, 3), "int64")) == 0

    @pytest.mark.parametrize("name", MATRIX_SCORES)
    @pytest.mark.parametrize("num_classes", [2, 21, 151])
    def test_large_counts_lose_nothing_in_numpy_and_little_in_float32(self, name, num_classes):
        generator = np.random.default_rng(num_classes)
        matrix = generator.integers(0, 2**34, (num_classes, num_classes))
        matrix[np.diag_indices(num_classes)] *= 50
        matrix[-1] = matrix[:, -1] = 0
        matrix[-1, -1] = 3
        matrix[-1, 0] = 1
        score, expected = getattr(metrics, name), exact_scores(matrix)[name]
        assert float(score(matrix)) == pytest.approx(expected, rel=1e-12)
        tensor = ops.convert_to_tensor(matrix.astype("float32"))
        assert float(score(tensor)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.any_backend
class TestConfusionMatrixInNumPy:
    def test_hand_counted_matrix(self):
        matrix = metrics.confusion_matrix(LABEL_MAP, PREDICTION, 3, ignore_class=255)
        assert matrix.dtype == np.int64
        assert matrix.tolist() == MATRIX

    def test_against_scikit_learn(self):
        label_map, prediction = random_maps(0, num_classes=7)
        valid = label_map != 255
        np.testing.assert_array_equal(
            metrics.confusion_matrix(label_map, prediction, 7, ignore_class=255),
            sklearn_confusion_matrix(label_map[valid], prediction[valid], labels=range(7)),
        )

    def test_ignored_class_may_be_one_of_the_classes(self):
        matrix = metrics.confusion_matrix([0, 1, 1, 2], [1, 0, 1, 2], 3, ignore_class=1)
        assert matrix.tolist() == [[0, 1, 0], [0, 0, 0], [0, 0, 1]]

    @pytest.mark.parametrize("dtype", ["uint8", "int32", "int64", "float32"])
    def test_dtypes(self, dtype):
        matrix = metrics.confusion_matrix(LABEL_MAP.astype(dtype), PREDICTION.astype(dtype), 3, 255)
        assert matrix.tolist() == MATRIX

    def test_all_ignored(self):
        assert not metrics.confusion_matrix([255, 255], [0, 1], 2, ignore_class=255).any()

    def test_other_labels_are_named(self):
        with pytest.raises(
            ValueError, match=r"class ids 0 to 2 or `ignore_class`=255. Received: 3 "
        ):
            metrics.confusion_matrix([0, 3, 3, -1, 255], [0] * 5, 3, ignore_class=255)
        with pytest.raises(ValueError, match=r"-1 \(1 pixel\), 3 \(2 pixels\)$"):
            metrics.confusion_matrix([0, 3, 3, -1, 255], [0] * 5, 3, ignore_class=255)
        with pytest.raises(ValueError, match=r"`label_map` must hold .* 0.5 \(1 pixel\)"):
            metrics.confusion_matrix([0.5, 1.0], [0, 1], 3)

    def test_other_predictions_are_named(self):
        with pytest.raises(
            ValueError, match=r"`prediction` must hold class ids 0 to 2. .* 255 \(1"
        ):
            metrics.confusion_matrix([0, 1], [255, 1], 3, ignore_class=255)

    def test_shapes_must_agree(self):
        with pytest.raises(ValueError, match="must have the same shape"):
            metrics.confusion_matrix(np.zeros((2, 3)), np.zeros((3, 2)), 3)
