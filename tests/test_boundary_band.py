"""The band of pixels around the boundaries of classes, by hand and against OpenCV's dilation."""

import cv2
import numpy as np
import pytest

from keras_fcn import metrics

pytestmark = pytest.mark.any_backend

LABEL_MAP = np.array(
    [
        [0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0],
        [0, 0, 0, 0, 7],
    ]
)


def test_one_pixel_wide_it_holds_the_neighbours_of_another_label():
    expected = np.zeros((4, 5), bool)
    expected[3, 3] = expected[3, 4] = expected[2, 4] = True
    np.testing.assert_array_equal(metrics.boundary_band(LABEL_MAP, 1), expected)


def test_each_pixel_of_width_adds_a_ring_of_squares():
    expected = np.zeros((4, 5), bool)
    expected[1:, 3:] = expected[2:, 2:] = True
    band = metrics.boundary_band(LABEL_MAP, 2)
    np.testing.assert_array_equal(band, expected)
    assert metrics.boundary_band(LABEL_MAP, 9).all()


@pytest.mark.parametrize("width", [1, 2, 5])
def test_it_is_opencvs_dilation_of_the_pixels_at_boundaries(width):
    label_map = np.random.default_rng(0).integers(0, 2, (6, 7)).repeat(9, 0).repeat(11, 1)
    at_boundary = np.zeros(label_map.shape, "uint8")
    for row, column in np.ndindex(label_map.shape):
        upright = label_map[max(0, row - 1) : row + 2, column]
        level = label_map[row, max(0, column - 1) : column + 2]
        at_boundary[row, column] = np.ptp(upright) or np.ptp(level)
    square = np.ones((2 * width - 1, 2 * width - 1), "uint8")
    expected = cv2.dilate(at_boundary, square).astype(bool)
    np.testing.assert_array_equal(metrics.boundary_band(label_map, width), expected)
    batch = metrics.boundary_band(np.stack([label_map, label_map]), width)
    np.testing.assert_array_equal(batch, np.stack([expected, expected]))


@pytest.mark.parametrize("width", [0, 1.5])
def test_a_width_that_is_no_number_of_pixels_is_refused(width):
    with pytest.raises(ValueError, match="`width` must be an integer of at least 1"):
        metrics.boundary_band(LABEL_MAP, width)
