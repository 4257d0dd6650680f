"""Noise, blur and erased rectangles, by hand and against SciPy."""

import numpy as np
import pytest
import tensorflow as tf
from register import blocks, run
from scipy import ndimage

from keras_fcn.data.transforms import cutout, gaussian_blur, gaussian_noise

pytestmark = pytest.mark.any_backend


class TestGaussianNoise:
    GREY = np.full((60, 80, 3), 128, "uint8")
    LABEL_MAP = np.zeros((60, 80), "int32")

    def test_it_has_the_deviation_of_each_value_and_no_mean(self):
        result = run(gaussian_noise(0.05, 0.05), self.GREY, self.LABEL_MAP)[0].astype(float)
        difference = result - 128
        assert difference.std() == pytest.approx(0.05 * 255, rel=0.03)
        assert abs(difference.mean()) < 4 * 0.05 * 255 / np.sqrt(difference.size)
        # Channels and neighbours have noise of their own.
        assert abs(np.corrcoef(difference[..., 0].ravel(), difference[..., 1].ravel())[0, 1]) < 0.06
        assert abs((difference[1:] * difference[:-1]).mean()) < 0.06 * difference.var()

    def test_deviations_fill_the_range(self):
        add = tf.function(gaussian_noise(0.01, 0.09))
        found = [
            run(add, self.GREY, self.LABEL_MAP, (seed, 0))[0].std() / 255 for seed in range(60)
        ]
        assert 0.0095 < min(found) < 0.02
        assert 0.08 < max(found) < 0.093
        assert abs(np.mean(found) - 0.05) < 4 * 0.08 / np.sqrt(12 * 60)

    def test_it_stops_at_0_and_255(self):
        image = np.stack([self.GREY[..., 0] * 0, self.GREY[..., 0] * 0 + 255], axis=-1)
        result = run(gaussian_noise(0.2, 0.2), image, self.LABEL_MAP)[0]
        for channel in (0, 1):
            assert (result[..., channel] == image[..., channel]).mean() == pytest.approx(
                0.5, abs=0.05
            )

    @pytest.mark.parametrize("limits", [(-0.1, 0.1), (0.2, 0.1), (0.1, 1.1)])
    def test_refuses_deviations_out_of_order(self, limits):
        with pytest.raises(ValueError, match="`minimum` must be at least 0 and at most `maximum`"):
            gaussian_noise(*limits)


class TestGaussianBlur:
    @pytest.mark.parametrize("deviation", [0.4, 1.0, 2.3])
    @pytest.mark.parametrize("size", [(37, 53), (3, 2)])
    def test_agrees_with_scipy(self, deviation, size):
        image = np.random.default_rng(0).integers(0, 256, (*size, 4), dtype="uint8")
        result, _ = run(gaussian_blur(deviation, deviation), image, np.zeros(size, "int32"))
        options = {"mode": "nearest", "radius": int(np.ceil(3 * deviation))}
        for channel in range(4):
            expected = ndimage.gaussian_filter(
                image[..., channel].astype(float), deviation, **options
            )
            assert abs(result[..., channel] - expected).max() <= 0.51

    def test_deviations_fill_the_range(self):
        image = np.zeros((21, 21, 1), "uint8")
        image[10, 10] = 255
        blur = tf.function(gaussian_blur(0.5, 2.0))
        # The middle of a Gaussian of deviation s in two dimensions is 1 / (2 pi s^2).
        peaks = [
            run(blur, image, np.zeros((21, 21), "int32"), (seed, 0))[0].max() for seed in range(60)
        ]
        deviations = np.sqrt(255 / (2 * np.pi * np.array(peaks, float)))
        assert 0.45 < deviations.min() < 0.65
        assert 1.8 < deviations.max() < 2.15

    def test_a_deviation_of_0_changes_nothing(self):
        image, label_map = blocks(20, 30, side=3)
        for limits in ((0, 0), (1e-4, 1e-4)):
            result = run(gaussian_blur(*limits), image, label_map)
            np.testing.assert_array_equal(result[0], image)
            np.testing.assert_array_equal(result[1], label_map)

    @pytest.mark.parametrize("limits", [(-0.1, 0.1), (2, 1)])
    def test_refuses_deviations_out_of_order(self, limits):
        with pytest.raises(ValueError, match="`minimum` must be at least 0 and at most `maximum`"):
            gaussian_blur(*limits)


class TestCutout:
    IMAGE = np.random.default_rng(0).integers(1, 255, (20, 30, 3), dtype="uint8")
    LABEL_MAP = np.random.default_rng(1).integers(0, 5, (20, 30)).astype("int32")

    def erased(self, seed, **options):
        """Where the rectangles are, checked against all that the image and label map show."""
        options = {"height": 5, "width": 8, "ignore_class": 255, **options}
        image, label_map = run(cutout(**options), self.IMAGE, self.LABEL_MAP, (seed, 0))
        erased = label_map == 255
        np.testing.assert_array_equal(label_map[~erased], self.LABEL_MAP[~erased])
        np.testing.assert_array_equal(image[~erased], self.IMAGE[~erased])
        mean = np.round(self.IMAGE.mean(axis=(0, 1)))
        assert (abs(image[erased] - mean) <= 1).all()
        return erased

    def test_it_is_a_rectangle_around_any_pixel_of_the_image(self):
        centres = set()
        for seed in range(60):
            erased = self.erased(seed)
            rows, columns = erased.any(axis=1).nonzero()[0], erased.any(axis=0).nonzero()[0]
            assert erased.sum() == len(rows) * len(columns)
            # 5 x 8 pixels, fewer at the border.
            assert len(rows) == 5 or rows[0] == 0 or rows[-1] == 19
            assert len(columns) == 8 or columns[0] == 0 or columns[-1] == 29
            assert 3 <= len(rows) <= 5
            assert 4 <= len(columns) <= 8
            centres.add((rows[0], columns[0]))
        assert len(centres) > 40

    def test_several_are_in_different_places(self):
        sizes = [self.erased(seed, number=3).sum() for seed in range(10)]
        assert max(sizes) > 2 * 5 * 8

    def test_by_default_the_label_map_stays(self):
        for seed in range(5):
            image, label_map = run(cutout(9, 9), self.IMAGE, self.LABEL_MAP, (seed, 0))
            np.testing.assert_array_equal(label_map, self.LABEL_MAP)
            assert (image != self.IMAGE).any()

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"height": 0}, "`height` must be an integer of at least 1"),
            ({"number": 0}, "`number` must be an integer of at least 1"),
            ({"ignore_class": 0.5}, "`ignore_class` must be an integer"),
        ],
    )
    def test_refuses_what_is_no_rectangle(self, arguments, message):
        with pytest.raises(ValueError, match=message):
            cutout(**{"height": 4, "width": 4, **arguments})
