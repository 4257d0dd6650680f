import numpy as np
import pytest
import scipy.stats
from sklearn.metrics import jaccard_score

from keras_fcn.training.image_scores import ImageScores, paired_bootstrap

pytestmark = pytest.mark.any_backend


def scores_of(truths, predictions, num_classes=3):
    matrices = [
        np.bincount(3 * truth + prediction, minlength=9).reshape(3, 3)
        for truth, prediction in zip(truths, predictions, strict=True)
    ]
    return ImageScores.of_matrices([f"{n}.png" for n in range(len(truths))], matrices)


@pytest.fixture
def data():
    """Label maps of 12 images and the predictions of two models, the second of which is better."""
    rng = np.random.default_rng(0)
    truths = rng.integers(0, 3, (12, 50))
    first, second = (
        np.where(rng.random((12, 50)) < right, truths, rng.integers(0, 3, (12, 50)))
        for right in (0.5, 0.65)
    )
    return truths, first, second


def test_mean_iou_is_that_of_all_pixels(data):
    truths, first, _ = data
    scores = scores_of(truths, first)
    expected = jaccard_score(truths.ravel(), first.ravel(), average=None)
    np.testing.assert_allclose(scores.class_iou, expected)
    assert scores.mean_iou == pytest.approx(expected.mean())
    assert scores.pixel_accuracy == pytest.approx((truths == first).mean())


def test_a_class_that_does_not_occur_is_left_out_of_the_mean():
    scores = ImageScores.of_matrices(["a"], [np.diag([5, 0, 5])])
    assert scores.mean_iou == 1.0
    assert np.isnan(scores.class_iou[1])


def test_the_interval_is_that_of_scipy(data):
    truths, first, second = data
    baseline, scores = scores_of(truths, first), scores_of(truths, second)

    def difference(indices, axis=-1):
        def mean_iou(counts):
            total = counts[indices].sum(-3)
            union = total[..., 1, :] + total[..., 2, :] - total[..., 0, :]
            return (total[..., 0, :] / union).mean(-1)

        return mean_iou(scores.counts) - mean_iou(baseline.counts)

    expected = scipy.stats.bootstrap(
        (np.arange(12),),
        difference,
        n_resamples=10_000,
        method="percentile",
        vectorized=True,
        rng=np.random.default_rng(5),
    )
    found = paired_bootstrap(scores, baseline)
    assert found.value == pytest.approx(float(difference(np.arange(12))))
    # Of different resamples, the ends vary by about 0.002.
    assert found.low == pytest.approx(expected.confidence_interval.low, abs=0.006)
    assert found.high == pytest.approx(expected.confidence_interval.high, abs=0.006)
    assert found.better == pytest.approx(np.mean(expected.bootstrap_distribution > 0), abs=0.01)


def test_pairs_of_images_are_drawn_and_not_images_of_each_model():
    """So a model never differs from itself, however much its images do."""
    names, matrices = ["a", "b"], [np.array([[8, 2], [0, 10]]), np.array([[4, 6], [0, 10]])]
    scores = ImageScores.of_matrices(names, matrices)
    same = paired_bootstrap(scores, scores)
    assert (same.value, same.low, same.high, same.better) == (0, 0, 0, 0)


def test_other_images_are_refused(data):
    truths, first, _ = data
    scores = scores_of(truths, first)
    other = ImageScores(scores.names, scores.counts[:, [0, 2, 1]])
    with pytest.raises(ValueError, match="of the same images"):
        paired_bootstrap(scores, other)


def test_a_file_is_read_as_it_was_written_or_refused(data, tmp_path):
    truths, first, _ = data
    scores = scores_of(truths, first)
    scores.save(tmp_path / "scores.npz")
    read = ImageScores.load(tmp_path / "scores.npz")
    assert read.has_images_of(scores)
    np.testing.assert_array_equal(read.counts, scores.counts)
    whole = (tmp_path / "scores.npz").read_bytes()
    (tmp_path / "scores.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"scores\.npz must be a whole file of scores"):
        ImageScores.load(tmp_path / "scores.npz")
