import dataclasses
import subprocess
import sys

import pytest

from keras_fcn.label_spaces import CAMVID, PASCAL_VOC, LabelSpace, generic

BLACK_AND_WHITE = ((0, 0, 0), (255, 255, 255))


class TestLabelSpace:
    def test_num_classes_is_the_number_of_names(self):
        assert LabelSpace(("a", "b"), BLACK_AND_WHITE, 255).num_classes == 2

    def test_lists_become_tuples_so_that_label_spaces_can_be_compared_and_hashed(self):
        space = LabelSpace(["a", "b"], [[0, 0, 0], [255, 255, 255]])
        assert space == LabelSpace(("a", "b"), BLACK_AND_WHITE, None)
        assert hash(space) == hash(LabelSpace(("a", "b"), BLACK_AND_WHITE, None))

    def test_is_frozen(self):
        with pytest.raises(dataclasses.FrozenInstanceError):
            PASCAL_VOC.ignore_class = 0

    @pytest.mark.parametrize("ignore_class", [None, 255, 11, -1, 0])
    def test_takes_any_integer_as_ignore_class(self, ignore_class):
        assert LabelSpace(("a", "b"), BLACK_AND_WHITE, ignore_class).ignore_class == ignore_class

    @pytest.mark.parametrize(
        ("names", "palette", "ignore_class", "message"),
        [
            (("a",), ((0, 0, 0),), None, "`class_names` must hold at least 2 names"),
            ("ab", BLACK_AND_WHITE, None, "`class_names` must hold at least 2 names"),
            (("a", ""), BLACK_AND_WHITE, None, "`class_names` must be non-empty strings"),
            (("a", "a"), BLACK_AND_WHITE, None, r"no name twice. Received twice: \['a'\]"),
            (("a", "b"), ((0, 0, 0),), None, "one colour per class. Received: 1 colours for 2"),
            (("a", "b"), ((0, 0, 0), (0, 0, 256)), None, r"from 0 to 255.*\(0, 0, 256\)"),
            (("a", "b"), ((0, 0, 0), (0, 0)), None, r"three integers.*\(0, 0\)"),
            (("a", "b"), ((0, 0, 0), (0, 0, 0.5)), None, r"three integers.*\(0, 0, 0.5\)"),
            (("a", "b"), BLACK_AND_WHITE, 2.5, "`ignore_class` must be an integer or None"),
            (("a", "b"), BLACK_AND_WHITE, True, "`ignore_class` must be an integer or None"),
        ],
    )
    def test_refuses_what_does_not_fit(self, names, palette, ignore_class, message):
        with pytest.raises(ValueError, match=message):
            LabelSpace(names, palette, ignore_class)


class TestKnownLabelSpaces:
    def test_pascal_voc_has_background_and_20_classes_and_ignores_255(self):
        assert PASCAL_VOC.num_classes == 21
        assert PASCAL_VOC.class_names[0] == "background"
        assert PASCAL_VOC.class_names[15] == "person"
        assert PASCAL_VOC.class_names[20] == "tvmonitor"
        assert PASCAL_VOC.ignore_class == 255

    def test_pascal_voc_colours_are_those_of_the_devkit(self):
        # Table of the VOC2012 development kit, by hand.
        assert PASCAL_VOC.palette[:6] == (
            (0, 0, 0),
            (128, 0, 0),
            (0, 128, 0),
            (128, 128, 0),
            (0, 0, 128),
            (128, 0, 128),
        )
        assert PASCAL_VOC.palette[15] == (192, 128, 128)
        assert PASCAL_VOC.palette[20] == (0, 64, 128)
        assert generic(256).palette[255] == (224, 224, 192)

    def test_camvid_has_11_classes_and_ignores_11(self):
        assert CAMVID.class_names == (
            *("sky", "building", "pole", "road", "pavement", "tree"),
            *("sign symbol", "fence", "car", "pedestrian", "bicyclist"),
        )
        assert CAMVID.palette[3] == (128, 64, 128)
        assert CAMVID.ignore_class == 11

    def test_generic_counts_its_classes(self):
        space = generic(3, ignore_class=255)
        assert space.class_names == ("class 0", "class 1", "class 2")
        assert space.palette == PASCAL_VOC.palette[:3]
        assert space.ignore_class == 255
        assert generic(2).ignore_class is None

    def test_generic_colours_of_256_classes_all_differ(self):
        assert len(set(generic(256).palette)) == 256

    @pytest.mark.parametrize("num_classes", [1, 0, -3, 2.0, "2"])
    def test_generic_refuses_less_than_2_classes(self, num_classes):
        with pytest.raises(ValueError, match="`num_classes` must be an integer of at least 2"):
            generic(num_classes)


def test_importing_label_spaces_loads_neither_numpy_nor_keras():
    code = (
        "import sys, keras_fcn.label_spaces; "
        "sys.exit(str({'numpy', 'keras', 'tensorflow'} & set(sys.modules) or ''))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stderr.strip() == ""
