"""Label maps are written by OpenCV or with Pillow's palettes, as VOC's and CVAT's own are."""

import cv2
import numpy as np
import pytest
from data.formats.folders import files, label_map, rows, save_array, save_image
from data.written_files import class_ids, cut, damage_chunk
from PIL import Image

from keras_fcn.data.formats import import_data

pytestmark = pytest.mark.any_backend

IDS = rows("00011122 00011122 00011122 00000000 33333333 33333333")
# Written by Datumaro 1.13's `write_label_map`, which CVAT calls.
LABELMAP = """# label:color_rgb:parts:actions
road:128,64,128::
background:0,0,0::
car:0,0,142:wheel,door:parked
sky:70,130,180::
"""
COLOURS = np.array([(0, 0, 0), (128, 64, 128), (0, 0, 142), (70, 130, 180)], "uint8")


def lists(folder, **splits):
    place = folder / "ImageSets" / "Segmentation"
    place.mkdir(parents=True)
    for split, names in splits.items():
        (place / f"{split}.txt").write_text("".join(f"{name}\n" for name in names))


def save_colours(path, colours):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), colours[..., ::-1])


@pytest.fixture
def folder(tmp_path):
    """VOC's folders with three images, two of which have label maps with a border."""
    place = tmp_path / "VOC2012"
    for seed, name in enumerate(("a", "b", "c")):
        save_image(place / "JPEGImages" / f"{name}.jpg", seed=seed)
    for name in ("a", "b"):
        ids = np.where(IDS == 3, 255, IDS).astype("uint8")
        image = Image.fromarray(ids)
        image.putpalette([channel for n in range(256) for channel in (n, 255 - n, 7)])
        (place / "SegmentationClass").mkdir(exist_ok=True)
        image.save(place / "SegmentationClass" / f"{name}.png")
    return place


@pytest.fixture
def exported(tmp_path):
    """What CVAT exports of one task: a label map in colours, and its list."""
    place = tmp_path / "cvat"
    save_image(place / "JPEGImages" / "oslo" / "a b.png")
    save_colours(place / "SegmentationClass" / "oslo" / "a b.png", COLOURS[IDS])
    (place / "labelmap.txt").write_text(LABELMAP)
    lists(place, default=['"oslo/a b"'])
    return place


def run(format, folder, **options):
    return import_data(format, folder, folder.parent / "out", **options)


class TestVoc:
    def test_indices_are_class_ids_whatever_their_colours_and_255_is_ignored(self, folder):
        report = run("voc", folder)
        assert report.label_space.class_names[:2] == ("background", "aeroplane")
        assert report.label_space.ignore_class == 255
        wanted = np.where(IDS == 3, 255, IDS)
        np.testing.assert_array_equal(label_map(folder.parent / "out", "a"), wanted)

    def test_colours_are_voc_s_and_that_of_the_border_is_ignored(self, folder):
        colours = np.array([(0, 0, 0), (128, 0, 0), (0, 128, 0), (224, 224, 192)], "uint8")
        save_colours(folder / "SegmentationClass" / "a.png", colours[IDS])
        run("voc", folder)
        wanted = np.where(IDS == 3, 255, IDS)
        np.testing.assert_array_equal(label_map(folder.parent / "out", "a"), wanted)

    def test_reordered_palettes_are_read_by_their_colours(self, folder):
        colours = np.array([(0, 0, 0), (128, 0, 0), (0, 128, 0), (224, 224, 192)], "uint8")
        quantized = Image.fromarray(colours[IDS]).quantize()
        assert (np.asarray(quantized) != IDS).any()
        quantized.save(folder / "SegmentationClass" / "a.png")
        run("voc", folder)
        wanted = np.where(IDS == 3, 255, IDS)
        np.testing.assert_array_equal(label_map(folder.parent / "out", "a"), wanted)

    def test_lists_are_splits_without_the_union_of_two(self, folder):
        lists(folder, train=["a"], val=["b"], trainval=["a", "b"], test=["c"])
        report = run("voc", folder)
        assert report.num_pairs == {"train": 1, "val": 1}
        assert report.left_out == {"names in test without a label map": 1}
        assert "labels/val/b.png" in files(folder.parent / "out")

    def test_label_maps_in_no_list_are_counted(self, folder):
        lists(folder, trainval=["a"])
        report = run("voc", folder)
        assert report.num_pairs == {"trainval": 1}
        assert report.left_out == {"label maps in no split": 1}

    @pytest.mark.parametrize("given", ["no,cat,dog", "names.txt", "id2label.json"])
    def test_classes_may_be_others(self, folder, given):
        place = folder.parent / given
        if given == "names.txt":
            place.write_text("no\ncat\ndog\n")
        elif given == "id2label.json":
            place.write_text('{"0": "no", "2": "dog", "1": "cat"}')
        else:
            place = given
        assert run("voc", folder, classes=place).label_space.class_names == ("no", "cat", "dog")

    def test_a_labelmap_has_colours_of_its_own(self, folder):
        (folder / "labelmap.txt").write_text(LABELMAP)
        for name in ("a", "b"):
            save_colours(folder / "SegmentationClass" / f"{name}.png", COLOURS[IDS])
        report = run("voc", folder, classes=folder / "labelmap.txt")
        assert report.label_space.class_names == ("background", "road", "car", "sky")
        np.testing.assert_array_equal(label_map(folder.parent / "out", "a"), IDS)

    def test_a_value_of_no_class_is_refused_with_file_and_place(self, folder):
        save_array(folder / "SegmentationClass" / "a.png", IDS + 20)
        with pytest.raises(
            ValueError,
            match=r"SegmentationClass/a\.png must hold .* 0 to 20 and 255.* Received: 21 at row 0",
        ):
            run("voc", folder)

    def test_a_label_map_without_an_image_is_refused(self, folder):
        (folder / "JPEGImages" / "b.jpg").unlink()
        with pytest.raises(FileNotFoundError, match=r"b\.png has no image in .*--images"):
            run("voc", folder)

    @pytest.mark.parametrize("missing", ["SegmentationClass", "JPEGImages"])
    def test_a_missing_folder_is_named(self, folder, missing):
        (folder / missing).rename(folder / "other")
        with pytest.raises(FileNotFoundError, match=f"must be a folder. .*{missing}"):
            run("voc", folder)


class TestCvat:
    def test_colours_become_class_ids_with_the_background_first(self, exported):
        report = run("cvat", exported)
        assert report.num_pairs == {"": 1}
        assert report.label_space.class_names == ("background", "road", "car", "sky")
        assert report.label_space.palette == tuple(map(tuple, COLOURS.tolist()))
        np.testing.assert_array_equal(label_map(exported.parent / "out", "oslo/a b"), IDS)

    def test_a_quotation_mark_may_be_part_of_a_name(self, exported):
        for folder in ("JPEGImages", "SegmentationClass"):
            path = exported / folder / "oslo" / "a b.png"
            path.rename(path.with_name('the "old" one, "b".png'))
            (exported / folder / "oslo" / "\"c\" 'd'.png").hardlink_to(
                path.with_name('the "old" one, "b".png')
            )
        listed = 'oslo/the "old" one, "b"\n"oslo/"c" \'d\'"\n'
        (exported / "ImageSets" / "Segmentation" / "default.txt").write_text(listed)
        assert run("cvat", exported).num_pairs == {"": 2}

    def test_images_without_a_label_map_are_counted(self, exported):
        listed = exported / "ImageSets" / "Segmentation" / "default.txt"
        listed.write_text("oslo/a b\nunlabelled\n")
        assert run("cvat", exported).left_out == {"names without a label map": 1}

    def test_a_palette_file_is_read_by_its_colours(self, exported):
        image = Image.fromarray((3 - IDS).astype("uint8"))
        image.putpalette(COLOURS[::-1].ravel().tolist())
        image.save(exported / "SegmentationClass" / "oslo" / "a b.png")
        run("cvat", exported)
        np.testing.assert_array_equal(label_map(exported.parent / "out", "oslo/a b"), IDS)

    def test_a_grey_file_is_read_by_its_greys(self, exported):
        (exported / "labelmap.txt").write_text("background:0,0,0::\ncar:255,255,255::\n")
        save_array(exported / "SegmentationClass" / "oslo" / "a b.png", 255 * (IDS == 2))
        run("cvat", exported)
        np.testing.assert_array_equal(label_map(exported.parent / "out", "oslo/a b"), IDS == 2)

    @pytest.mark.parametrize("damage", [damage_chunk, lambda path: cut(path, 0.7)])
    @pytest.mark.parametrize("mode", ["RGB", "L", "P"])
    def test_a_damaged_label_map_is_named(self, exported, mode, damage):
        path = exported / "SegmentationClass" / "oslo" / "a b.png"
        Image.fromarray(COLOURS[class_ids(64, 64)]).convert(mode).save(path)
        damage(path)
        with pytest.raises(ValueError, match=r"a b\.png cannot be read as an image"):
            run("cvat", exported)

    def test_a_colour_of_no_class_is_refused(self, exported):
        (exported / "labelmap.txt").write_text(LABELMAP.replace("sky:70", "sky:71"))
        with pytest.raises(ValueError, match=r"a b\.png holds the colour \(70, 130, 180\)"):
            run("cvat", exported)

    @pytest.mark.parametrize(
        ("line", "message"),
        [
            ("tree", r"line 2: must be name:red,green,blue:parts:actions. Received: tree"),
            ("tree:1,2::", "line 2: must be name"),
            ("tree:1,2,300::", "line 2: each name must have one colour of its own"),
            ("tree:0,0,0::", "line 2: each name"),
        ],
    )
    def test_a_damaged_labelmap_is_refused_with_its_line(self, exported, line, message):
        (exported / "labelmap.txt").write_text(f"background:0,0,0::\n{line}\n")
        with pytest.raises(ValueError, match=rf"labelmap\.txt, {message}"):
            run("cvat", exported)

    def test_a_missing_labelmap_is_named(self, exported):
        (exported / "labelmap.txt").unlink()
        with pytest.raises(FileNotFoundError, match=r"There is no file .*labelmap\.txt"):
            run("cvat", exported)

    def test_a_list_that_leads_out_of_the_folder_is_refused(self, exported):
        (exported / "ImageSets" / "Segmentation" / "default.txt").write_text("../../a\n")
        with pytest.raises(ValueError, match=r"default\.txt must name its files by relative paths"):
            run("cvat", exported)
