"""The names of the data sets and their label spaces."""

import pytest
from programs import imported_by

from keras_fcn import label_spaces
from keras_fcn.data.catalog import data_set_names, label_space_of

pytestmark = pytest.mark.any_backend


def test_every_name_has_a_label_space_that_ignores_255():
    assert len(data_set_names()) == 11
    for name in data_set_names():
        assert label_space_of(name).ignore_class == 255


@pytest.mark.parametrize(
    ("name", "space"),
    [
        ("voc_segmentation/2012_aug", label_spaces.PASCAL_VOC),
        ("pascal_context", label_spaces.PASCAL_CONTEXT),
        ("nyudv2", label_spaces.NYUDV2_40),
        ("sift_flow", label_spaces.SIFT_FLOW),
        ("cityscapes", label_spaces.CITYSCAPES),
        ("scene_parse150", label_spaces.ADE20K),
    ],
)
def test_label_spaces_are_those_of_the_package(name, space):
    assert label_space_of(name) == space


def test_names_come_without_loading_tensorflow():
    script = "from keras_fcn.data.catalog import data_set_names; data_set_names()"
    assert imported_by(script, "tensorflow", "tensorflow_datasets", "keras") == []
