"""Rotation, resized crops and crops around rare classes, by hand and against SciPy and OpenCV."""

import cv2
import numpy as np
import pytest
import tensorflow as tf
from register import assert_in_register, blocks, run
from scipy import ndimage

from keras_fcn.data.transforms import random_crop, random_resized_crop, random_rotation

pytestmark = pytest.mark.any_backend

ANGLES = (-180, -90, -33.3, 0, 12.5, 47, 90, 180)


def noise(height, width, seed=0):
    """An image and a label map in which all pixels differ from their neighbours."""
    generator = np.random.default_rng(seed)
    label_map = generator.integers(0, 200, (height, width)).astype("int32")
    return generator.integers(0, 256, (height, width, 3), dtype="uint8"), label_map


class TestRandomRotation:
    @pytest.mark.parametrize("angle", ANGLES)
    @pytest.mark.parametrize("size", [(37, 53), (40, 40)])
    def test_agrees_with_scipy(self, angle, size):
        image, label_map = noise(*size)
        new_image, new_label_map = run(random_rotation(angle, angle, 255), image, label_map)
        # SciPy ends at the centres of the outer pixels, we at their outer edges.
        options = {"angle": angle, "reshape": False, "prefilter": False}
        labels = ndimage.rotate(label_map, order=0, cval=255, **options)
        outside = ndimage.rotate(np.zeros(size), order=1, cval=1, **options) > 0
        differs = (new_label_map != labels) & ~outside
        assert differs.mean() < 0.002  # Ties between two nearest pixels.
        for channel in range(3):
            values = ndimage.rotate(image[..., channel].astype(float), order=1, **options)
            difference = abs(new_image[..., channel] - values)[~outside]
            assert difference.max() <= 0.51

    def test_agrees_with_opencv_in_what_is_outside(self):
        image, label_map = noise(61, 83)
        matrix = cv2.getRotationMatrix2D(((83 - 1) / 2, (61 - 1) / 2), 25, 1)
        expected = cv2.warpAffine(
            label_map.astype("uint8"), matrix, (83, 61), flags=cv2.INTER_NEAREST, borderValue=255
        )
        new_image, new_label_map = run(random_rotation(25, 25, 255), image, label_map)
        # OpenCV has fixed-point coordinates.
        assert (new_label_map != expected).mean() < 0.03
        outside = new_label_map == 255
        assert 0.1 < outside.mean() < 0.3
        assert abs(outside.mean() - (expected == 255).mean()) < 0.005
        assert not new_image[outside].any()

    @pytest.mark.parametrize("turns", [-2, -1, 0, 1, 2])
    def test_quarter_turns_of_a_square_are_exact(self, turns):
        image, label_map = noise(31, 31)
        rotated = run(random_rotation(90 * turns, 90 * turns, 255), image, label_map)
        np.testing.assert_array_equal(rotated[0], np.rot90(image, turns))
        np.testing.assert_array_equal(rotated[1], np.rot90(label_map, turns))

    @pytest.mark.parametrize("angle", ANGLES)
    def test_stays_in_register(self, angle):
        image, label_map = blocks(61, 83, side=20)
        assert_in_register(*run(random_rotation(angle, angle, 255), image, label_map), margin=1)

    def test_angles_fill_the_range_evenly(self):
        # The angle of a bright pixel, seen from the centre.
        image = np.zeros((101, 101, 3), "uint8")
        image[50, 95:] = 255
        label_map = (image[..., 0] > 0).astype("int32")
        rotate, angles = tf.function(random_rotation(-30, 60, 255)), []
        for seed in range(120):
            rows, columns = np.nonzero(run(rotate, image, label_map, (seed, 4))[1] == 1)
            angles.append(np.degrees(np.arctan2(50 - rows.mean(), columns.mean() - 50)))
        assert min(angles) >= -31
        assert max(angles) <= 61
        # Four standard errors of the mean of 120 numbers, even in an interval of length 90.
        assert abs(np.mean(angles) - 15) < 4 * 90 / np.sqrt(12 * 120)

    @pytest.mark.parametrize("angles", [(1, 0), (-181, 0), (0, 181)])
    def test_refuses_angles_out_of_order(self, angles):
        with pytest.raises(ValueError, match="`minimum` must be at least -180 and at most"):
            random_rotation(*angles, 255)


class TestRandomResizedCrop:
    def test_the_whole_image_is_resized_as_opencv_does(self):
        image, label_map = noise(37, 52)
        crop = random_resized_crop(74, 104, smallest_area=1, stretch=1)
        new_image, new_label_map = run(crop, image, label_map)
        labels = cv2.resize(
            label_map.astype("uint8"), (104, 74), interpolation=cv2.INTER_NEAREST_EXACT
        )
        np.testing.assert_array_equal(new_label_map, labels)
        expected = cv2.resize(image, (104, 74), interpolation=cv2.INTER_LINEAR)
        assert abs(new_image.astype(int) - expected).max() <= 1

    def test_parts_have_the_areas_and_aspects_that_were_asked_for(self):
        # Labels are places: the part is read off its corners.
        height, width = 80, 120
        label_map = np.arange(height * width, dtype="int32").reshape(height, width)
        image = np.zeros((height, width, 3), "uint8")
        crop = tf.function(
            random_resized_crop(160, 240, smallest_area=0.1, largest_area=0.3, stretch=1.5)
        )
        areas, aspects, tops = [], [], []
        for seed in range(100):
            _, result = run(crop, image, label_map, (seed, 0))
            (top, left), (bottom, right) = (divmod(int(result[i, i]), width) for i in (0, -1))
            part = (bottom - top + 1, right - left + 1)
            np.testing.assert_array_equal(
                np.unique(result), np.unique(label_map[top : bottom + 1, left : right + 1])
            )
            areas.append(part[0] * part[1] / (height * width))
            aspects.append(part[1] / part[0] / 1.5)
            tops.append(top / max(1, height - part[0]))
        assert 0.09 < min(areas) < 0.13
        assert 0.27 < max(areas) < 0.31
        assert 0.62 < min(aspects) < 0.75
        assert 1.33 < max(aspects) < 1.6
        assert min(tops) == 0
        assert max(tops) == 1

    def test_no_pixel_is_new(self):
        image, label_map = noise(9, 200)
        for seed in range(10):
            result = run(random_resized_crop(16, 16), image, label_map, (seed, 0))[1]
            assert set(result.ravel()) <= set(label_map.ravel())

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"height": 0}, "`height` must be an integer of at least 1"),
            ({"smallest_area": 0}, "`smallest_area` must be greater than 0"),
            ({"largest_area": 1.1}, "`smallest_area` must be greater than 0"),
            ({"smallest_area": 0.9, "largest_area": 0.5}, "at most `largest_area`"),
            ({"stretch": 0.9}, "`stretch` must be a finite number of at least 1"),
        ],
    )
    def test_refuses_what_is_no_part(self, arguments, message):
        with pytest.raises(ValueError, match=message):
            random_resized_crop(**{"height": 4, "width": 4, **arguments})


def rare_crops(label_map, count=300, share=1 / 3, classes=(1, 2), window=(4, 5)):
    crop = tf.function(random_crop(*window, 255, classes=classes, share=share))
    image = np.stack([label_map] * 3, axis=-1).astype("uint8")
    for seed in range(count):
        new_image, new_label_map = run(crop, image, label_map, (seed, 2))
        np.testing.assert_array_equal(
            new_image[..., 0], np.where(new_label_map == 255, 0, new_label_map)
        )
        yield new_label_map


class TestCropClasses:
    # One pixel of class 1, forty of class 2, far from each other, in 6,000.
    LABEL_MAP = np.zeros((60, 100), "int32")
    LABEL_MAP[30, 50] = 1
    LABEL_MAP[5, 10:50] = 2

    @pytest.mark.parametrize("share", [0.0, 1 / 3, 1.0])
    def test_the_share_of_the_windows_holds_a_rare_class_each_as_often(self, share):
        seen = list(rare_crops(self.LABEL_MAP, share=share))
        ones = np.mean([(1 in crop) for crop in seen])
        twos = np.mean([(2 in crop) for crop in seen])
        # Elsewhere 20 of 5,472 windows hold class 1, and 4 * 44 class 2. Four standard deviations.
        deviation = 4 * np.sqrt(0.25 / 300)
        assert abs(ones - share / 2) <= (deviation if share else 0.03)
        assert abs(twos - (share / 2 + (1 - share) * 0.032)) <= (deviation if share else 0.05)

    def test_the_pixel_is_anywhere_in_the_window(self):
        places = {
            tuple(np.argwhere(crop == 1)[0])
            for crop in rare_crops(self.LABEL_MAP, share=1, classes=[1])
        }
        assert places == {(row, column) for row in range(4) for column in range(5)}

    def test_windows_stay_inside_where_the_class_is_at_the_border(self):
        label_map = np.zeros((6, 7), "int32")
        label_map[0, 0] = label_map[5, 6] = 1
        for crop in rare_crops(label_map, count=40, share=1, classes=[1]):
            assert crop.shape == (4, 5)
            assert 1 in crop
            assert 255 not in crop

    def test_smaller_images_are_padded_as_ever(self):
        for crop in rare_crops(np.ones((2, 9), "int32"), count=20, share=1):
            assert (crop[:2] == 1).all()
            assert (crop[2:] == 255).all()

    def test_without_the_classes_the_crop_is_the_ordinary_one(self):
        image, label_map = noise(30, 40)
        for seed in range(20):
            ordinary = run(random_crop(9, 11, 255), image, label_map, (seed, 0))
            other = run(
                random_crop(9, 11, 255, classes=[250], share=1), image, label_map, (seed, 0)
            )
            np.testing.assert_array_equal(ordinary[1], other[1])

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"classes": [-1]}, "`classes` must be an integer of at least 0"),
            ({"classes": ["pole"]}, "`classes` must be an integer of at least 0"),
            ({"share": 1.5}, "`share` must be a number from 0 to 1"),
            ({"share": None}, "`share` must be a number from 0 to 1"),
        ],
    )
    def test_refuses_what_is_no_class_or_share(self, arguments, message):
        with pytest.raises(ValueError, match=message):
            random_crop(4, 4, 255, **arguments)
