"""Polygons of regions: a case by hand, and areas and insides counted by other libraries."""

import json
import sys

import numpy as np
import pytest
from matplotlib.path import Path

from keras_fcn.label_spaces import LabelSpace
from keras_fcn.polygons import polygons

pytestmark = pytest.mark.any_backend
SPACE = LabelSpace(("ground", "house", "tree"), ((0, 0, 0), (255, 0, 16), (0, 128, 0)))


def area(ring):
    x, y = np.array(ring).T
    return (x[:-1] * y[1:] - x[1:] * y[:-1]).sum() / 2


def test_a_ring_and_its_hole_by_hand():
    label_map = np.full((4, 5), 255)
    label_map[0:3, 1:4] = 1
    label_map[1, 2] = 2
    features = polygons(label_map, SPACE)["features"]
    house, tree = features
    assert house["properties"] == {
        "class_id": 1,
        "class": "house",
        "colour": "#ff0010",
        "pixels": 8,
    }
    outer, hole = house["geometry"]["coordinates"]
    assert {tuple(point) for point in outer} == {(1, 0), (4, 0), (4, 3), (1, 3)}
    assert {tuple(point) for point in hole} == {(2, 1), (3, 1), (3, 2), (2, 2)}
    assert (area(outer), area(hole)) == (9, -1)
    assert tree["properties"]["pixels"] == 1
    assert area(tree["geometry"]["coordinates"][0]) == 1


def test_pixels_that_touch_at_a_corner_are_two_regions():
    features = polygons(np.array([[1, 0], [0, 1]]), SPACE)["features"]
    assert [feature["properties"]["pixels"] for feature in features] == [1, 1, 1, 1]


def test_areas_and_insides_are_the_pixels_of_each_class():
    label_map = np.random.default_rng(0).integers(0, 4, (12, 15))
    label_map[2:9, 3:11] = 1
    label_map[4:7, 5:8] = 2
    collection = polygons(label_map, SPACE)
    y, x = np.mgrid[:12, :15] + 0.5
    centres = np.stack([x.ravel(), y.ravel()], axis=-1)
    for label in range(3):
        inside = np.zeros(label_map.shape, int)
        pixels = 0
        for feature in collection["features"]:
            if feature["properties"]["class_id"] != label:
                continue
            rings = feature["geometry"]["coordinates"]
            assert all(ring[0] == ring[-1] for ring in rings)
            assert feature["properties"]["pixels"] == sum(map(area, rings))
            pixels += feature["properties"]["pixels"]
            insides = [Path(ring).contains_points(centres) for ring in rings]
            inside += (sum(inner.astype(int) for inner in insides) % 2).reshape(label_map.shape)
        np.testing.assert_array_equal(inside, label_map == label)
        assert pixels == (label_map == label).sum()
    assert json.loads(json.dumps(collection)) == collection


def test_without_rasterio_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "rasterio", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install 'keras-fcn\[large\]'"):
        polygons(np.zeros((2, 2), int), SPACE)
