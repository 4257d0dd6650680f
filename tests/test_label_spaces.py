import dataclasses
from typing import ClassVar

import numpy as np
import pytest
from programs import imported_by

from keras_fcn import label_spaces
from keras_fcn.label_spaces import (
    ADE20K,
    CAMVID,
    CITYSCAPES,
    NYUDV2_40,
    OXFORD_IIIT_PET,
    PASCAL_CONTEXT,
    PASCAL_VOC,
    SIFT_FLOW,
    SIFT_FLOW_GEOMETRIC,
    LabelSpace,
    from_file,
    generic,
)

pytestmark = pytest.mark.any_backend

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
            (("a", "b"), BLACK_AND_WHITE, 2.5, "`ignore_class` must be an integer"),
            (("a", "b"), BLACK_AND_WHITE, True, "`ignore_class` must be an integer"),
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

    @pytest.mark.parametrize(
        ("space", "some_names"),
        [
            (PASCAL_CONTEXT, {0: "background", 1: "aeroplane", 28: "clothes", 59: "wood"}),
            (NYUDV2_40, {0: "wall", 1: "floor", 24: "television", 39: "otherprop"}),
            (SIFT_FLOW, {0: "awning", 8: "cow", 27: "sky", 32: "window"}),
            (SIFT_FLOW_GEOMETRIC, {0: "sky", 1: "horizontal", 2: "vertical"}),
            (CITYSCAPES, {0: "road", 8: "vegetation", 13: "car", 18: "bicycle"}),
            (ADE20K, {0: "wall", 12: "person", 89: "television", 149: "flag"}),
            (OXFORD_IIIT_PET, {0: "pet", 1: "background", 2: "border"}),
        ],
    )
    def test_names_stand_in_the_order_of_the_data(self, space, some_names):
        assert {class_id: space.class_names[class_id] for class_id in some_names} == some_names

    @pytest.mark.parametrize(
        ("space", "num_classes"),
        [
            (PASCAL_CONTEXT, 60),
            (NYUDV2_40, 40),
            (SIFT_FLOW, 33),
            (SIFT_FLOW_GEOMETRIC, 3),
            (CITYSCAPES, 19),
            (ADE20K, 150),
            (OXFORD_IIIT_PET, 3),
        ],
    )
    def test_every_class_has_a_colour_of_its_own_and_255_is_void(self, space, num_classes):
        assert space.num_classes == len(set(space.palette)) == num_classes
        assert space.ignore_class == 255

    def test_cityscapes_colours_are_those_of_the_benchmark(self):
        by_name = dict(zip(CITYSCAPES.class_names, CITYSCAPES.palette, strict=True))
        assert by_name["road"] == (128, 64, 128)
        assert by_name["person"] == (220, 20, 60)
        assert by_name["bicycle"] == (119, 11, 32)

    def test_every_public_name_is_there(self):
        assert all(hasattr(label_spaces, name) for name in label_spaces.__all__)

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


class TestFromFile:
    TOML = 'class_names = ["road", "car"]\npalette = [[128, 64, 128], [0, 0, 7]]\n'
    JSON = '{"class_names": ["road", "car"], "palette": [[128, 64, 128], [0, 0, 7]]'

    @pytest.mark.parametrize(
        ("name", "text"),
        [("a.toml", TOML + "ignore_class = 255"), ("a.JSON", JSON + ', "ignore_class": 255}')],
    )
    def test_reads_names_colours_and_ignore_class(self, tmp_path, name, text):
        (tmp_path / name).write_text(text)
        expected = LabelSpace(("road", "car"), ((128, 64, 128), (0, 0, 7)), 255)
        assert from_file(tmp_path / name) == expected
        assert from_file(str(tmp_path / name)) == expected

    @pytest.mark.parametrize(
        ("more", "message"),
        [
            ("ignore_colour = [9, 9, 9]", "must be used with `ignore_class`"),
            ('ignore_class = 255\nignore_colour = "black"', r"must be \[red, green, blue\]"),
            ("ignore_class = 255\nignore_colour = [0, 0, 300]", "three integers from 0 to 255"),
            ("ignore_class = 255\nignore_colour = [0, 0, 0]", "must differ"),
        ],
    )
    def test_an_ignored_colour_that_does_not_fit_is_refused(self, tmp_path, more, message):
        palette = "palette = [[0, 0, 0], [255, 255, 255]]\n"
        (tmp_path / "a.toml").write_text(f'class_names = ["a", "b"]\n{palette}{more}')
        with pytest.raises(ValueError, match=rf"a\.toml: .*{message}"):
            from_file(tmp_path / "a.toml")

    def test_names_alone_are_enough(self, tmp_path):
        (tmp_path / "a.toml").write_text('class_names = ["Straße", "Auto"]', encoding="utf-8")
        space = from_file(tmp_path / "a.toml")
        assert space == LabelSpace(("Straße", "Auto"), ((0, 0, 0), (128, 0, 0)), None)

    @pytest.mark.parametrize(
        ("name", "text", "message"),
        [
            ("a.yaml", "", r"`path` must end in \.toml or \.json. Received: path=.*a\.yaml"),
            ("a.toml", "class_names = [", r"a\.toml cannot be read as TOML: "),
            ("a.json", "{", r"a\.json cannot be read as JSON: "),
            ("a.json", b"\xff\xfe{", r"a\.json cannot be read as JSON: "),
            ("a.json", "[1]", r"a\.json must hold an object .* Received: a list"),
            ("a.toml", "palette = []", r"a\.toml must hold `class_names`.*\['palette'\]"),
            ("a.toml", TOML + "ignore = 255", r"a\.toml must hold only .*\['ignore'\]"),
            ("a.json", '{"class_names": "road"}', "`class_names` must be a list. Received: 'road'"),
            ("a.json", '{"class_names": [1, 2]}', r"a\.json: `class_names` must be non-empty str"),
            ("a.json", '{"class_names": ["a"]}', r"a\.json: `class_names` must hold at least 2"),
            ("a.json", '{"class_names": ["a", "b"], "palette": "red"}', "`palette` must be a list"),
            (
                "a.json",
                '{"class_names": ["a", "b"], "palette": [1, 2]}',
                "`palette` must be a list",
            ),
            ("a.json", '{"class_names": ["a", "b"], "palette": [[1, 2, 3]]}', "one colour per cl"),
            ("a.toml", TOML + 'ignore_class = "void"', "`ignore_class` must be an integer"),
        ],
    )
    def test_names_the_file_and_what_is_wrong(self, tmp_path, name, text, message):
        (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
        with pytest.raises(ValueError, match=message):
            from_file(tmp_path / name)

    def test_a_missing_file_is_named(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"nowhere\.toml"):
            from_file(tmp_path / "nowhere.toml")


def test_importing_label_spaces_loads_neither_numpy_nor_keras():
    assert imported_by("import keras_fcn.label_spaces", "numpy", "keras", "tensorflow") == []


class TestColourBlindPalette:
    """Seen by another simulation (Viénot, Brettel and Mollon, 1999) and measured by OpenCV."""

    # Linear RGB to the responses of the three cones, and how each deficiency derives the missing
    # one: Viénot et al., equations 1 to 6.
    CONES = np.array(
        [[17.8824, 43.5161, 4.11935], [3.45565, 27.1554, 3.86714], [0.0299566, 0.184309, 1.46709]]
    )
    EYES: ClassVar = {
        "trichromatic": np.eye(3),
        "protanopia": np.array([[0, 2.02344, -2.52581], [0, 1, 0], [0, 0, 1]]),
        "deuteranopia": np.array([[1, 0, 0], [0.494207, 0, 1.24827], [0, 0, 1]]),
    }

    def smallest_difference(self, palette):
        import cv2

        linear = (np.array(palette) / 255) ** 2.2
        found = []
        for eye in self.EYES.values():
            seen = linear @ (np.linalg.inv(self.CONES) @ eye @ self.CONES).T
            rgb = (np.clip(seen, 0, 1) ** (1 / 2.2)).astype("float32")
            lab = cv2.cvtColor(rgb[None], cv2.COLOR_RGB2LAB)[0]
            distances = np.linalg.norm(lab[:, None] - lab, axis=-1)
            found.append(distances[~np.eye(len(lab), dtype=bool)].min())
        return min(found)

    def test_its_colours_differ_for_each_eye(self):
        palette = label_spaces.colour_blind_palette(21)
        assert palette[:8] == label_spaces.colour_blind.OKABE_ITO
        assert len(set(palette)) == 21
        assert self.smallest_difference(palette[:12]) > 10
        assert self.smallest_difference(palette) > 5
        assert self.smallest_difference(label_spaces.voc_palette(21)) < 2

    def test_the_names_stay(self):
        space = label_spaces.in_colour_blind_palette(label_spaces.CAMVID)
        assert space.class_names == label_spaces.CAMVID.class_names
        assert space.ignore_class == label_spaces.CAMVID.ignore_class
        assert space.palette == label_spaces.colour_blind_palette(11)

    def test_too_many_classes_are_one_sentence(self):
        with pytest.raises(ValueError, match=r"at most 223 colours\. Received: num_classes=224"):
            label_spaces.colour_blind_palette(224)
