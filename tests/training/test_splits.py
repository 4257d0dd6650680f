"""What a training on folders says of its label maps before the first step."""

import warnings

import numpy as np
import pytest
from PIL import Image

from keras_fcn.data import find_pairs
from keras_fcn.label_spaces import choose
from keras_fcn.training.recipe import Recipe
from keras_fcn.training.splits import Split, check_files


@pytest.fixture
def check(tmp_path):
    def check(label_map, val_label_map=((0, 1, 2),)):
        splits = []
        for name, labels in (("train", label_map), ("val", val_label_map)):
            labels = np.array(labels, "uint8")
            for kind, array in (
                ("images", np.zeros((*labels.shape, 3), "uint8")),
                ("maps", labels),
            ):
                folder = tmp_path / name / kind
                folder.mkdir(parents=True)
                Image.fromarray(array).save(folder / "a.png")
            pairs = find_pairs(tmp_path / name / "images", tmp_path / name / "maps")
            splits.append(Split(pairs, choose(None, 3, 255)))
        check_files(tuple(splits), Recipe(num_classes=3, ignore_class=255))

    return check


def test_classes_that_training_never_sees_are_named(check):
    with pytest.warns(UserWarning, match=r"2 of 3 classes.*: class 1, class 2\. 75% of the pixels"):
        check([[0, 255], [255, 255]])


def test_classes_that_all_occur_bring_no_warning(check):
    with warnings.catch_warnings(action="error"):
        check([[0, 1, 2, 255]])


@pytest.mark.parametrize(
    ("split", "label_maps"),
    [("training", ([[255, 255]], [[0, 1]])), ("validation", ([[0, 1, 2]], [[255, 255]]))],
)
def test_label_maps_that_ignore_every_pixel_are_refused(check, split, label_maps):
    with pytest.raises(ValueError, match=f"{split} label maps .*every pixel is ignore_class=255"):
        check(*label_maps)
