import numpy as np
import pytest
import scipy.ndimage

from keras_fcn.training.contradicted_regions import ClassThresholds, Contradictions

pytestmark = pytest.mark.any_backend


def certain(label_map, probability, num_classes=3):
    """Probabilities of a model that gives each pixel its class in a map with one probability."""
    rest = (1 - probability) / (num_classes - 1)
    return np.where(np.eye(num_classes)[label_map] > 0, probability, rest).astype("float32")


def regions_of(label_map, probabilities, threshold=0.5, **options):
    found = Contradictions.of(label_map, probabilities, ignore_class=255)
    return found.regions(np.full(probabilities.shape[-1], threshold), **options)


class TestClassThresholds:
    def test_they_are_the_mean_probability_of_the_own_class_over_all_images(self):
        thresholds = ClassThresholds(3, ignore_class=255)
        first = np.array([[[0.9, 0.1, 0], [0.5, 0.3, 0.2], [0.2, 0.8, 0]]], "float32")
        second = np.array([[[0.1, 0.5, 0.4]]], "float32")
        thresholds.add(np.array([[0, 255, 1]]), first)
        thresholds.add(np.array([[0]]), second)
        np.testing.assert_allclose(thresholds.values(), [(0.9 + 0.1) / 2, 0.8, 1], atol=1e-6)


class TestRegions:
    def test_a_planted_region_is_found_where_it_is(self):
        truth = np.zeros((40, 60), "int32")
        truth[:, 30:] = 1
        label_map = truth.copy()
        label_map[10:25, 5:20] = 2
        (region,) = regions_of(label_map, certain(truth, 0.8))
        assert (region.label, region.predicted) == (2, 0)
        assert region.box == (10, 5, 25, 20)
        # 3 pixels along each side do not count.
        assert region.pixels.shape == (2, 9 * 9)
        assert region.probability == pytest.approx(0.8, abs=1e-3)
        assert region.score == pytest.approx(0.8 * 81, abs=0.1)

    def test_boundaries_that_are_a_little_off_are_none_but_wide_strips_are(self):
        truth = np.zeros((40, 60), "int32")
        truth[:, 30:] = 1
        for off, count in ((6, 0), (7, 1)):
            assert (
                len(
                    regions_of(
                        np.roll(truth[:, 15:45], off, axis=1)[:, 10:], certain(truth[:, 25:45], 0.9)
                    )
                )
                == count
            )

    def test_a_large_region_comes_before_small_and_unsure_ones(self):
        truth = np.zeros((60, 90), "int32")
        label_map, probability = truth.copy(), np.full(truth.shape, 0.9)
        label_map[5:25, 5:25] = 1
        label_map[5:15, 40:50] = 2
        label_map[30:58, 40:68] = 1
        probability[30:58, 40:68] = 0.6
        probabilities = np.stack([probability, 1 - probability, 0 * probability], axis=-1)
        found = regions_of(label_map, probabilities, threshold=0.7)
        assert [(region.box, region.label) for region in found] == [
            ((5, 5, 25, 25), 1),
            ((5, 40, 15, 50), 2),
        ]
        assert len(regions_of(label_map, probabilities, threshold=0.5)) == 3

    def test_the_threshold_is_that_of_the_predicted_class(self):
        truth = np.zeros((20, 20), "int32")
        found = Contradictions.of(np.full_like(truth, 1), certain(truth, 0.8))
        assert len(found.regions(np.array([0.7, 0.9, 0.9]))) == 1
        assert found.regions(np.array([0.9, 0.7, 0.7])) == []

    def test_ignored_pixels_and_the_edge_of_the_image(self):
        truth = np.zeros((20, 20), "int32")
        label_map = np.full_like(truth, 255)
        assert regions_of(label_map, certain(truth, 0.9)) == []
        label_map[:4] = 1
        (region,) = regions_of(label_map, certain(truth, 0.9))
        assert region.box == (0, 0, 4, 20)
        assert region.pixels.shape == (2, 20)  # The first row is 3 pixels from the ignored ones.

    def test_regions_are_those_of_scipy(self):
        rng = np.random.default_rng(0)
        predicted = rng.integers(0, 3, (24, 30)).repeat(3, axis=0).repeat(3, axis=1)
        label_map = rng.integers(0, 3, (12, 15)).repeat(6, axis=0).repeat(6, axis=1)
        expected = []
        for margin in (0, 1):
            window = np.ones((2 * margin + 1,) * 2)
            for label, other in np.argwhere(~np.eye(3, dtype=bool)):
                kind = (label_map == label) & (predicted == other)
                core = scipy.ndimage.binary_erosion(kind, window, border_value=1)
                numbers, count = scipy.ndimage.label(core)
                sizes = np.bincount(numbers.ravel())[1:]
                expected += [(margin, label, other, size) for size in sizes[:count]]
        found = [
            (margin, region.label, region.predicted, region.pixels.shape[1])
            for margin in (0, 1)
            for region in regions_of(label_map, certain(predicted, 0.9), margin=margin)
        ]
        assert len(found) > 50
        assert sorted(found) == sorted(expected)
