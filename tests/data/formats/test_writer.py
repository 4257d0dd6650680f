import collections
import json
import os

import numpy as np
import pytest
from data.formats.folders import files, label_map, save_array, save_image
from PIL import Image, ImageOps

from keras_fcn.data.check import check_data, find_splits, match_pairs
from keras_fcn.data.formats import import_data
from keras_fcn.data.formats.source import Item, Source, relative_path
from keras_fcn.data.formats.writer import write
from keras_fcn.data.image_files import read_image
from keras_fcn.label_spaces import LabelSpace, from_file, generic

pytestmark = pytest.mark.any_backend


@pytest.fixture
def masks(tmp_path):
    """Three photos with masks of 0 and 255, one pair in a subfolder."""
    for seed, name in enumerate(("a", "b", "deep/a")):
        save_image(tmp_path / "photos" / f"{name}.jpg", seed=seed)
        mask = np.zeros((6, 8))
        mask[seed + 1 :] = 255
        save_array(tmp_path / "masks" / f"{name}.png", mask)
    return tmp_path


def run(masks, **options):
    options = {"images": masks / "photos"} | options
    return import_data("masks", masks / "masks", masks / "out", **options)


class TestOutput:
    def test_images_are_copied_byte_for_byte(self, masks):
        run(masks)
        for name in ("a", "b", "deep/a"):
            copy = masks / "out" / "images" / f"{name}.jpg"
            assert copy.read_bytes() == (masks / "photos" / f"{name}.jpg").read_bytes()
            assert not os.path.samefile(copy, masks / "photos" / f"{name}.jpg")

    def test_names_that_differ_in_their_folder_alone_are_kept_apart(self, masks):
        run(masks)
        assert [int((label_map(masks / "out", n) == 1).sum()) for n in ("a", "b", "deep/a")] == [
            40,
            32,
            24,
        ]

    def test_label_maps_are_palette_files_of_class_ids(self, masks):
        run(masks)
        image = Image.open(masks / "out" / "labels" / "a.png")
        assert image.mode == "P"
        assert np.unique(np.asarray(image)).tolist() == [0, 1]
        # PASCAL VOC's colours of the first two classes.
        assert image.getpalette()[:6] == [0, 0, 0, 128, 0, 0]

    def test_classes_toml_is_the_label_space(self, masks):
        report = run(masks, mapping={"255": "cat"})
        assert from_file(masks / "out" / "classes.toml") == report.label_space
        assert report.label_space.class_names == ("background", "cat")

    def test_ignored_pixels_are_in_classes_toml(self, masks):
        run(masks, mapping={"255": "ignore", "3": "cat"})
        assert from_file(masks / "out" / "classes.toml").ignore_class == 255
        assert np.unique(label_map(masks / "out", "a")).tolist() == [0, 255]

    def test_the_check_of_a_data_set_finds_no_problem(self, masks):
        for name in ("a", "b"):
            (masks / "photos" / "deep" / f"{name}.jpg").unlink(missing_ok=True)
        report = run(masks)
        ((name, folders),) = find_splits(masks / "out").items()
        pairs, problems = match_pairs(*folders)
        checked = check_data({name: pairs}, report.label_space)
        assert len(pairs) == 2
        assert not problems
        assert not checked.problems

    def test_links_share_the_file(self, masks):
        photo = masks / "photos" / "a.jpg"
        photo.chmod(0o400)
        run(masks, link=True)
        assert os.path.samefile(masks / "out" / "images" / "a.jpg", photo)

    def test_a_link_that_cannot_be_made_is_a_copy(self, masks, monkeypatch):
        def no_link(*_):
            raise OSError("another file system")

        monkeypatch.setattr(os, "link", no_link)
        run(masks, link=True)
        copy = masks / "out" / "images" / "a.jpg"
        assert copy.read_bytes() == (masks / "photos" / "a.jpg").read_bytes()

    def test_300_classes_are_written_with_16_bits(self, tmp_path):
        ids = np.arange(48).reshape(6, 8) * 6
        space = generic(300, ignore_class=65535)
        item = Item("a", save_image(tmp_path / "a.png"), lambda size: ids, "labels.json")
        write(Source(space, [item], collections.Counter(), []), tmp_path / "out", {})
        np.testing.assert_array_equal(label_map(tmp_path / "out", "a"), ids)

    def test_the_report_counts_pairs_and_what_is_left_out(self, masks):
        save_image(masks / "photos" / "c.png")
        report = run(masks)
        assert report.as_dict() == {
            "out": str(masks / "out"),
            "pairs": {"out": 3},
            "classes": ["background", "class 1"],
            "ignore_class": None,
            "written": 3,
            "left_out": {"images without a mask": 1},
        }
        assert report.as_text().splitlines() == [
            "3 pairs",
            "2 classes: 0 background, 1 class 1",
            "left out: 1 image without a mask",
            f"label space: {masks / 'out' / 'classes.toml'}",
        ]


class TestSecondRun:
    def test_complete_pairs_are_skipped(self, masks):
        run(masks)
        times = {name: (masks / "out" / name).stat().st_mtime_ns for name in files(masks / "out")}
        times.pop("classes.toml")
        assert run(masks).written == 0
        assert (
            times.items()
            <= {
                name: (masks / "out" / name).stat().st_mtime_ns for name in files(masks / "out")
            }.items()
        )

    @pytest.mark.parametrize("lost", ["images/b.jpg", "labels/b.png"])
    def test_a_pair_without_one_of_its_files_is_written_again(self, masks, lost):
        run(masks)
        before = (masks / "out" / lost).read_bytes()
        (masks / "out" / lost).unlink()
        assert run(masks).written == 1
        assert (masks / "out" / lost).read_bytes() == before

    def test_a_run_that_fails_leaves_whole_pairs_and_no_label_space(self, masks):
        broken = masks / "masks" / "b.png"
        content = broken.read_bytes()
        broken.write_bytes(content[:45])
        with pytest.raises(ValueError, match=r"b\.png cannot be read as an image"):
            run(masks)
        assert files(masks / "out") == ["images/a.jpg", "import.json", "labels/a.png"]

    def test_a_run_that_was_interrupted_is_continued(self, masks):
        def interrupt(done, total):
            assert total == 3
            if done == 2:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            run(masks, progress=interrupt)
        report = run(masks)
        assert report.written == 1
        assert "2 of them were complete already" in report.as_text()
        assert len(files(masks / "out")) == 8

    def test_it_may_run_elsewhere_and_name_what_is_the_default(self, masks, monkeypatch):
        monkeypatch.chdir(masks)
        options = {"images": "photos", "classes": None, "mapping": None}
        assert import_data("masks", "masks", "out", **options).written == 3
        assert run(masks).written == 0

    @pytest.mark.parametrize(
        ("options", "named"),
        [({"mapping": {"255": "2"}}, "mapping"), ({"classes": "no,yes"}, "classes")],
    )
    def test_other_options_are_refused(self, masks, options, named):
        run(masks)
        with pytest.raises(ValueError, match=rf"import of another source.* Received: .*{named}="):
            run(masks, **options)

    def test_another_source_is_refused(self, masks):
        run(masks)
        (masks / "masks").rename(masks / "others")
        with pytest.raises(ValueError, match="Received: other labels, source="):
            import_data("masks", masks / "others", masks / "out", images=masks / "photos")

    def test_labels_that_changed_are_refused(self, masks):
        run(masks)
        save_array(masks / "masks" / "a.png", np.full((6, 8), 255))
        with pytest.raises(ValueError, match="Received: other labels"):
            run(masks)

    def test_images_that_changed_are_refused(self, masks):
        run(masks)
        save_image(masks / "photos" / "b.jpg", seed=9)
        with pytest.raises(ValueError, match=r"images that changed since\. Received: other images"):
            run(masks)

    def test_a_folder_of_something_else_is_refused(self, masks):
        (masks / "out").mkdir()
        (masks / "out" / "mine.txt").touch()
        with pytest.raises(ValueError, match="must be an empty folder or one of an earlier import"):
            run(masks)

    def test_a_folder_in_the_source_is_refused(self, masks):
        with pytest.raises(ValueError, match="`out` must not lie in the source"):
            import_data("masks", masks, masks / "out", images=masks / "photos")


class TestOrientation:
    """Pillow turns the stored pixels; labels are drawn in one orientation or the other."""

    @pytest.fixture(params=[".jpg", ".tif"])
    def suffix(self, request):
        return request.param

    def turned(self, tmp_path, orientation, drawn, size, suffix=".jpg"):
        photo = save_image(tmp_path / f"a{suffix}", 6, 8, orientation)
        space = LabelSpace(tuple(map(str, range(48))), [(0, 0, 0)] * 48)
        item = Item("a", photo, lambda _: drawn, "labels.json", size)
        write(Source(space, [item], collections.Counter(), []), tmp_path / "out", {})
        assert read_image(photo).shape[:2] == label_map(tmp_path / "out", "a").shape
        return label_map(tmp_path / "out", "a")

    @pytest.mark.parametrize("orientation", [5, 6, 7, 8])
    def test_labels_of_the_stored_pixels_are_turned_with_the_image(
        self, tmp_path, orientation, suffix
    ):
        stored = np.arange(48, dtype="uint8").reshape(6, 8)
        picture = Image.fromarray(stored)
        picture.getexif()[0x0112] = orientation
        expected = np.asarray(ImageOps.exif_transpose(picture))
        assert expected.shape == (8, 6)
        found = self.turned(tmp_path, orientation, stored.astype("int32"), (6, 8), suffix)
        np.testing.assert_array_equal(found, expected)

    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_labels_of_the_shown_image_stay_as_they_are(self, tmp_path, orientation, suffix):
        size = (8, 6) if orientation > 4 else (6, 8)
        shown = np.arange(48).reshape(size)
        found = self.turned(tmp_path, orientation, shown, size, suffix)
        np.testing.assert_array_equal(found, shown)

    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_without_a_size_labels_are_drawn_as_the_image_is_shown(
        self, tmp_path, orientation, suffix
    ):
        photo = save_image(tmp_path / f"a{suffix}", 6, 8, orientation)
        item = Item("a", photo, lambda size: np.zeros(size, int), "labels.json")
        source = Source(generic(2), [item], collections.Counter(), [])
        write(source, tmp_path / "out", {})
        shown = (8, 6) if orientation > 4 else (6, 8)
        assert label_map(tmp_path / "out", "a").shape == shown

    def test_another_size_is_refused_before_anything_is_drawn(self, tmp_path):
        with pytest.raises(ValueError, match=r"size of its image a, 8x6 .*Received: 90000x90000"):
            self.turned(tmp_path, 1, None, (90000, 90000))

    def test_a_label_map_of_another_size_is_refused(self, tmp_path):
        with pytest.raises(ValueError, match=r"size of its image a, 8x6 .*Received: 8x5"):
            self.turned(tmp_path, 1, np.zeros((5, 8), "int32"), None)


class TestNames:
    @pytest.mark.parametrize(
        "name",
        ["../a.jpg", "a/../../b.jpg", "/etc/a.jpg", "C:\\a.jpg", "..\\a.jpg", "", 3, None, "a\0"],
    )
    def test_names_that_lead_out_of_their_folder_are_refused(self, name):
        with pytest.raises(ValueError, match=r"x\.json must name its files by relative paths"):
            relative_path(name, "x.json")

    def test_other_names_are_kept(self):
        assert relative_path(".\\oslo\\a..b.jpg", "x.json") == "oslo/a..b.jpg"

    def test_two_images_of_one_name_are_refused(self, tmp_path):
        images = [save_image(tmp_path / name) for name in ("a.png", "a.bmp")]
        items = [Item("a", path, lambda size: np.zeros(size, int), path.name) for path in images]
        source = Source(generic(2), items, collections.Counter(), [])
        with pytest.raises(ValueError, match=r"Received: a twice, in a\.png and a\.bmp"):
            write(source, tmp_path / "out", {})
        assert not (tmp_path / "out").exists()

    def test_an_image_of_another_format_is_refused(self, tmp_path):
        photo = save_image(tmp_path / "a.gif")
        source = Source(
            generic(2), [Item("a", photo, np.zeros, "labels")], collections.Counter(), []
        )
        with pytest.raises(ValueError, match=r"a\.gif must be one of .*Received: \.gif"):
            write(source, tmp_path / "out", {})

    def test_an_image_that_is_none_is_refused(self, masks):
        (masks / "photos" / "a.jpg").write_bytes(b"no image")
        with pytest.raises(ValueError, match=r"photos/a\.jpg cannot be read as an image"):
            run(masks)

    def test_a_source_without_images_is_refused(self, tmp_path):
        with pytest.raises(ValueError, match=r"at least one image with labels. Received: 3 lines"):
            write(Source(generic(2), [], collections.Counter(lines=3), []), tmp_path / "out", {})

    def test_a_damaged_description_is_refused(self, masks):
        run(masks)
        (masks / "out" / "import.json").write_text("{")
        with pytest.raises(ValueError, match=r"Received: a damaged .*import\.json"):
            run(masks)

    def test_an_unknown_format_is_answered_with_the_known_ones(self, tmp_path):
        with pytest.raises(
            ValueError, match=r"must be one of coco, labelme.* Received: format='x'"
        ):
            import_data("x", tmp_path, tmp_path / "out")

    def test_the_description_is_json(self, masks):
        run(masks, mapping={"255": "cat"})
        description = json.loads((masks / "out" / "import.json").read_text())
        assert description["mapping"] == [["255", "cat"]]


@pytest.mark.parametrize(
    ("format", "package", "extra"), [("coco", "pycocotools", "formats"), ("hf", "datasets", "hf")]
)
def test_a_missing_package_is_named_with_its_extra(tmp_path, monkeypatch, format, package, extra):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=rf"{package} must be .*'keras-fcn\[{extra}\]'"):
        import_data(format, tmp_path / "x", tmp_path / "out")
