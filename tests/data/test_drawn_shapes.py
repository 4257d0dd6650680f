import numpy as np
import pytest

from keras_fcn.data.drawn_shapes import SHAPES, draw_shapes

pytestmark = pytest.mark.any_backend


def test_images_hold_every_class_and_follow_from_the_seed():
    images, label_maps = draw_shapes(12, size=48, seed=1)
    assert images.shape == (12, 48, 48, 3)
    assert images.dtype == "uint8"
    assert label_maps.shape == (12, 48, 48)
    assert set(np.unique(label_maps)) == set(range(SHAPES.num_classes))
    again, _ = draw_shapes(12, size=48, seed=1)
    other, _ = draw_shapes(12, size=48, seed=2)
    np.testing.assert_array_equal(images, again)
    assert (images != other).any()


def test_texture_lies_where_the_label_map_says():
    """Inside a shape neighbours differ strongly, on the plain ground they do not."""
    images, label_maps = draw_shapes(12, seed=0)
    for image, label_map in zip(images.astype("float64"), label_maps, strict=True):
        assert image[label_map == 0].std(axis=0).max() < 10
        for shape in np.unique(label_map[label_map > 0]):
            assert image[label_map == shape].std(axis=0).max() > 15
