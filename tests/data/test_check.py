import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from keras_fcn.cli import main
from keras_fcn.data.check import check_data, find_splits, match_pairs
from keras_fcn.data.files import split_folders
from keras_fcn.label_spaces import LabelSpace, generic

pytestmark = pytest.mark.any_backend

SPACE = LabelSpace(
    ("road", "car", "tree"), ((128, 64, 128), (64, 0, 128), (128, 128, 0)), ignore_class=255
)


def write(folder, name, label_map, shade, suffix=".png"):
    """An image of one shade, and its label map in the folder beside it."""
    for directory in (folder, folder.with_name(f"{folder.name}annot")):
        directory.mkdir(parents=True, exist_ok=True)
    label_map = np.array(label_map, "uint8")
    image = np.full((*label_map.shape, 3), shade, "uint8")
    Image.fromarray(image).save(folder / f"{name}{suffix}")
    Image.fromarray(label_map).save(folder.with_name(f"{folder.name}annot") / f"{name}.png")


def draw(folder, *names):
    """Images of one black pixel."""
    for path in (folder / name for name in names):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (1, 1)).save(path)


@pytest.fixture
def data(tmp_path):
    """Two splits; class pixels by hand: road 2 + 4 + 3 of 4 + 6 + 3, car 2 + 2, tree none."""
    write(tmp_path / "train", "a", [[0, 0], [1, 1]], 10)
    write(tmp_path / "train", "b", [[0, 0, 0], [0, 1, 1]], 20)
    write(tmp_path / "val", "c", [[0, 0], [0, 255]], 30)
    return tmp_path


def check(folder, space=SPACE):
    splits = {name: match_pairs(*folders)[0] for name, folders in find_splits(folder).items()}
    return check_data(splits, space)


def kinds_of(problems):
    return [problem.kind for problem in problems]


class TestCheckData:
    def test_pixels_shares_and_sizes_are_those_of_the_files(self, data):
        report = check(data)
        assert [problem.message for problem in report.problems] == [
            "Class 1, car, occurs in train only: val cannot score it.",
            "No pixel in train shows class 2, tree: a model cannot learn it.",
        ]
        assert report.num_pairs == {"train": 2, "val": 1}
        assert report.sizes == {(2, 2): 2, (2, 3): 1}
        assert report.pixels.tolist() == [9, 4, 0]
        assert report.images.tolist() == [3, 2, 0]
        assert report.ignored_pixels == 1
        np.testing.assert_allclose(report.shares, [9 / 13, 4 / 13, 0])

    def test_a_class_without_a_name_of_its_own_is_named_once(self, data):
        assert [problem.message for problem in check(data, generic(3, 255)).problems] == [
            "Class 1 occurs in train only: val cannot score it.",
            "No pixel in train shows class 2: a model cannot learn it.",
        ]

    def test_class_weights_are_the_median_frequency_over_the_frequency(self, data):
        # Road: 9 of 13 pixels where it occurs; car: 4 of 10; the median of the two lies between.
        road, car = 9 / 13, 4 / 10
        median = (road + car) / 2
        report = check(data)
        with pytest.warns(UserWarning, match="No pixel shows tree: "):
            weights = report.class_weights
        np.testing.assert_allclose(weights, [median / road, median / car, 0])

    def test_every_problem_is_reported_and_none_stops_the_check(self, data):
        train, annot = data / "train", data / "trainannot"
        (train / "a.png").write_bytes((train / "a.png").read_bytes()[:40])
        Image.fromarray(np.zeros((2, 4), "uint8")).save(annot / "b.png")
        write(train, "d", [[0, 7], [0, 0]], 40)
        write(train, "e", [[0, 0], [0, 0]], 30)
        problems = check(data).problems
        kinds = {problem.kind: problem for problem in problems}
        assert sorted(problem.kind for problem in problems) == [
            *("duplicate", "label", "size", "unreadable")
        ]
        assert "a.png cannot be read as an image" in kinds["unreadable"].message
        assert "b.png 3x2" in kinds["size"].message
        assert "b.png 4x2" in kinds["size"].message
        assert "d.png holds the value 7 at row 0, column 1" in kinds["label"].message
        assert "in train and val" in kinds["duplicate"].message
        assert [name.rpartition("/")[2] for name in kinds["duplicate"].files] == ["e.png", "c.png"]

    def test_the_same_pixels_in_another_format_are_a_duplicate(self, data):
        write(data / "val", "copy", [[0, 0], [0, 0]], 10, suffix=".tiff")
        problem, *others = check(data).problems
        assert kinds_of(others) == ["class", "class"]
        assert "copy.tiff" in problem.message


class TestClassesAndShares:
    def test_masks_of_0_and_255_are_told_what_they_lack(self, tmp_path):
        # Of 12 pixels 8 hold 255.
        write(tmp_path / "all", "a", [[0, 255, 255], [0, 255, 255]], 1)
        write(tmp_path / "all", "b", [[0, 255, 255], [0, 255, 255]], 2)
        space = LabelSpace(("ground", "road"), ((0, 0, 0), (255, 255, 255)), ignore_class=255)
        lost, left_out = check(tmp_path, space).problems
        assert lost.message == "No pixel shows class 1, road: a model cannot learn it."
        assert left_out.kind == "ignored"
        assert "66.7% of all pixels have the label 255 (`ignore_class`)" in left_out.message
        assert "save it as 1" in left_out.message

    def test_half_of_the_pixels_may_be_left_out(self, tmp_path):
        write(tmp_path / "all", "a", [[0, 1, 2], [255, 255, 255]], 1)
        assert check(tmp_path).problems == []

    def test_a_class_that_the_training_set_lacks_is_named_though_another_split_has_it(self, data):
        write(data / "val", "d", [[2, 1]], 40)
        (problem,) = check(data).problems
        assert problem.message == (
            "No pixel in train shows class 2, tree: a model cannot learn it. "
            "val will score it as 0."
        )


class TestWarnings:
    def test_label_maps_that_are_nearly_all_ignored_are_listed(self, data):
        for number in range(7):
            label_map = np.full((10, 10), 255)
            label_map[0, :4] = [0, 1, 2, 0]
            write(data / "train", f"bare{number}", label_map, 100 + number)
        label_map[0, 4] = 0  # 95 % are not more than 95 %.
        write(data / "val", "enough", label_map, 200)
        warning = check(data).problems[-1]
        assert (warning.kind, warning.severity) == ("unlabelled", "warning")
        assert warning.message.startswith("7 label maps have more than 95% of ignored pixels: ")
        assert warning.message.count("(96.0%)") == 5
        assert len(warning.files) == 7

    @pytest.mark.parametrize("channels", [1, 3])
    def test_images_of_16_bits_with_small_values_are_a_warning(self, tmp_path, channels):
        for split, largest in (("train", 4095), ("val", 65535)):
            for name in "ab":
                write(tmp_path / split, name, [[0, 1, 2]], 0)
                image = np.zeros((1, 3, channels), "uint16")
                image[0, 1] = largest if name == "b" else 500
                assert cv2.imwrite(str(tmp_path / split / f"{name}.png"), image)
        (warning,) = [problem for problem in check(tmp_path).problems if problem.kind == "dark"]
        assert warning.severity == "warning"
        assert warning.message.startswith("2 images of 16 bits in train, such as ")
        # 4095 / 257 is 15.9; of colours, Pillow reads the high byte.
        assert f"the largest value read is {16 if channels == 1 else 15} of 255." in warning.message
        assert [Path(file).parent.name for file in warning.files] == ["train", "train"]

    def test_tiffs_of_several_pages_are_a_warning(self, data):
        pages = [Image.fromarray(np.full((2, 2, 3), shade, "uint8")) for shade in (50, 60, 70)]
        pages[0].save(data / "train" / "a.tif", save_all=True, append_images=pages[1:])
        (data / "train" / "a.png").unlink()
        (warning,) = [problem for problem in check(data).problems if problem.kind == "pages"]
        assert warning.severity == "warning"
        assert warning.files == (str(data / "train" / "a.tif"),)
        assert (
            f"1 file has several pages or frames, such as {data}/train/a.tif with 3."
            in warning.message
        )

    def test_dark_images_of_8_bits_are_no_warning(self, data):
        assert "dark" not in kinds_of(check(data).problems)

    def test_flipped_label_maps_leave_the_exit_code_at_0(self, tmp_path, capsys):
        rng = np.random.default_rng(0)
        for split in ("train", "val"):
            for number in range(22):
                label_map = np.zeros((90, 120), "uint8")
                for label in (1, 2, 1, 2, 1):
                    top, left = rng.integers(0, (70, 90))
                    label_map[top : top + 35, left : left + 50] = label
                write(tmp_path / split, number, label_map, 0)
                noisy = label_map * 90 + rng.integers(0, 30, label_map.shape)
                noisy = np.repeat(noisy[:, :, None], 3, axis=2).astype("uint8")
                Image.fromarray(noisy).save(tmp_path / split / f"{number}.png")
                if split == "val":
                    flipped = Image.fromarray(label_map[:, ::-1])
                    flipped.save(tmp_path / "valannot" / f"{number}.png")
        assert main(["data", "check", str(tmp_path), *TestCommands.OPTIONS]) == 0
        *_, warning, last = capsys.readouterr().out.splitlines()
        assert warning.startswith("warning, alignment: The label maps of val fit")
        assert last == "no problems, 1 warning"

    def test_near_duplicates_of_two_splits_are_a_problem(self, data):
        rng = np.random.default_rng(0)
        image = Image.fromarray(rng.integers(0, 256, (30, 40, 3), "uint8"))
        for split, size in (("train", (400, 300)), ("val", (600, 450))):
            write(data / split, "frame", [[0] * size[0]] * size[1], 0)
            image.resize(size, Image.Resampling.BICUBIC).save(data / split / "frame.png")
        report = check(data)
        assert "near-duplicate" in kinds_of(report.errors)

    def test_a_pair_of_two_sizes_is_not_compared_by_its_edges(self, data):
        label_map = np.tile([[0, 1]], (200, 100))
        write(data / "train", "large", label_map, 50)
        noise = np.random.default_rng(0).integers(0, 256, (99, 99, 3), "uint8")
        Image.fromarray(noise).save(data / "train" / "large.png")
        assert "size" in kinds_of(check(data).problems)


class TestMatchPairs:
    def test_files_without_a_partner_are_named(self, data):
        (data / "trainannot" / "a.png").unlink()
        (data / "train" / "b.png").unlink()
        pairs, problems = match_pairs(data / "train", data / "trainannot")
        assert pairs == []
        assert [problem.message for problem in problems] == [
            f"{data}/train/a.png has no label map in {data}/trainannot.",
            f"{data}/trainannot/b.png has no image in {data}/train.",
        ]

    def test_folders_in_folders_are_searched_and_a_name_twice_is_named(self, tmp_path):
        write(tmp_path / "images" / "city", "a", [[0]], 1)
        (tmp_path / "images" / "cityannot").rename(tmp_path / "labels")
        (tmp_path / "labels" / "city").mkdir()
        (tmp_path / "labels" / "a.png").rename(tmp_path / "labels" / "city" / "a.png")
        pairs, problems = match_pairs(tmp_path / "images", tmp_path / "labels")
        assert [pair.image.name for pair in pairs] == ["a.png"]
        assert problems == []
        Image.new("RGB", (1, 1)).save(tmp_path / "images" / "city" / "a.jpg")
        pairs, problems = match_pairs(tmp_path / "images", tmp_path / "labels")
        assert pairs == []
        assert "A name must have one image" in problems[0].message


class TestFindSplits:
    def test_four_layouts_are_known(self, data, tmp_path):
        assert sorted(find_splits(data)) == ["train", "val"]
        plain = tmp_path / "plain"
        for name in ("images", "labels"):
            (plain / name).mkdir(parents=True)
        assert find_splits(plain) == {"plain": (plain / "images", plain / "labels")}
        for name in ("images", "labels"):
            (plain / name / "test").mkdir()
        wanted = {"test": (plain / "images/test", plain / "labels/test")}
        assert find_splits(plain) == wanted
        for name in ("images", "labels"):
            (plain / "val" / name).mkdir(parents=True)
        wanted["val"] = (plain / "val/images", plain / "val/labels")
        assert find_splits(plain) == wanted

    def test_files_beside_subfolders_make_one_split(self, tmp_path):
        draw(tmp_path, "images/a.png", "images/city/b.png", "labels/a.png", "labels/city/b.png")
        ((name, folders),) = find_splits(tmp_path).items()
        pairs, problems = match_pairs(*folders)
        assert name == tmp_path.name
        assert [pair.image.stem for pair in pairs] == ["a", "b"]
        assert problems == []

    @pytest.mark.parametrize(("has", "lacks"), [("images", "labels"), ("labels", "images")])
    def test_a_split_that_lacks_a_folder_is_a_warning(self, has, lacks, tmp_path):
        draw(tmp_path, "images/train/a.png", "labels/train/a.png", f"{has}/test/b.png")
        found = find_splits(tmp_path)
        assert sorted(found) == ["test", "train"]
        pairs, (problem,) = match_pairs(*found["test"])
        assert pairs == []
        assert problem.severity == "warning"
        assert f"{tmp_path / lacks / 'test'} does not exist" in problem.message
        assert problem.message.endswith("files: 1.")

    def test_with_two_layouts_it_takes_the_one_that_load_takes(self, tmp_path):
        for folder in ("images/train", "labels/train", "train/images", "train/labels"):
            (tmp_path / folder).mkdir(parents=True)
        wanted = tmp_path / "images" / "train", tmp_path / "labels" / "train"
        assert find_splits(tmp_path) == {"train": wanted}
        assert split_folders(tmp_path, "train") == wanted

    def test_the_folder_that_one_is_in_has_a_name(self, tmp_path, monkeypatch):
        for name in ("images", "labels"):
            (tmp_path / "streets" / name).mkdir(parents=True)
        monkeypatch.chdir(tmp_path / "streets")
        assert list(find_splits(Path("."))) == ["streets"]

    def test_another_layout_is_refused_with_the_known_ones(self, tmp_path):
        (tmp_path / "pictures").mkdir()
        with pytest.raises(ValueError, match=r"images/ and labels/.*with pictures"):
            find_splits(tmp_path)
        with pytest.raises(FileNotFoundError, match="DIR must be a folder"):
            find_splits(tmp_path / "absent")


class TestCommands:
    OPTIONS = ("--num-classes", "3", "--ignore-class", "255")

    def test_sound_data_exit_with_0_and_a_table_and_a_chart(self, data, capsys):
        for split in ("train", "val"):
            write(data / split, f"all of {split}", [[2, 1]], 40 if split == "train" else 50)
        chart = data / "chart.png"
        assert main(["data", "check", str(data), *self.OPTIONS, "--chart", str(chart)]) == 0
        printed = capsys.readouterr().out
        assert "train: 3 pairs" in printed
        assert "sizes, width x height: 2x2 (2), 2x1 (2), 3x2 (1)" in printed
        assert "52.94%" in printed  # 9 of 17.
        assert printed.endswith("no problems\n")
        with Image.open(chart) as picture:
            assert picture.size[0] > 300

    def test_problems_exit_with_1_and_json_holds_all_of_it(self, data, capsys):
        (data / "valannot" / "c.png").write_bytes(b"")
        (data / "train" / "lonely.png").write_bytes(b"")
        assert main(["data", "check", str(data), *self.OPTIONS, "--json"]) == 1
        report = json.loads(capsys.readouterr().out)
        assert [problem["kind"] for problem in report["problems"]] == ["unmatched", "unreadable"]
        assert report["classes"][2] == {
            "name": "class 2",
            "pixels": 0,
            "share": 0.0,
            "images": 0,
            "median_frequency_weight": None,
        }

    def test_label_maps_of_colours_are_checked_by_the_palette(self, data, capsys):
        space = data / "classes.json"
        palette = [[128, 64, 128], [64, 0, 128]]
        space.write_text(json.dumps({"class_names": ["road", "car"], "palette": palette}))
        for path in data.glob("*annot/*.png"):
            colours = np.full((*np.asarray(Image.open(path)).shape, 3), palette[1], "uint8")
            colours[0, 0] = palette[0]
            Image.fromarray(colours).save(path)
        options = ["--label-space", str(space), "--palette"]
        assert main(["data", "check", str(data), *options]) == 0
        assert "78.57%" in capsys.readouterr().out
        colours[0, 1] = (1, 2, 3)
        Image.fromarray(colours).save(path)
        assert main(["data", "check", str(data), *options]) == 1
        printed = capsys.readouterr().out
        assert path.name in printed
        assert "(1, 2, 3)" in printed

    def test_a_preview_shows_as_many_pairs_as_asked_for(self, data, capsys):
        out = data / "preview.png"
        command = ["data", "preview", str(data), *self.OPTIONS, "--count", "2", "--out", str(out)]
        assert main(command) == 0
        assert "Preview of 2 of 3 pairs" in capsys.readouterr().out
        with Image.open(out) as picture:
            assert picture.mode == "RGB"
        assert main([*command[:-3], "0"]) == 1
        assert "--count must be at least 1" in capsys.readouterr().err
