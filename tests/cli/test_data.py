import inspect
import json

import numpy as np
import pytest
from cli.command_line import error_of, without_duplicates
from PIL import Image

from keras_fcn import label_spaces
from keras_fcn.cli import main


@pytest.mark.any_backend
class TestLabelSpace:
    def check(self, data, name):
        return main(["data", "check", str(data), "--label-space", str(name)])

    def test_a_file_names_the_classes(self, data, capsys):
        path = data / "classes.toml"
        path.write_text('class_names = ["road", "car", "tree"]\nignore_class = 255\n')
        self.check(data, path)
        assert "\ntree " in capsys.readouterr().out

    def test_every_known_name_is_one(self, data, capsys):
        for name in label_spaces.NAMES:
            assert isinstance(getattr(label_spaces, name.upper()), label_spaces.LabelSpace)
        self.check(data, "pascal_voc")
        assert "aeroplane" in capsys.readouterr().out

    def test_another_name_is_answered_with_the_known_ones(self, data, capsys):
        assert self.check(data, "pascal") == 1
        assert "must be one of ade20k, camvid" in error_of(capsys)


@pytest.mark.any_backend
class TestNoPairs:
    """`check`, `preview` and `import masks` name the reason as `train` does."""

    def errors(self, data, capsys):
        images, labels = str(data / "images"), str(data / "labels")
        out, space = ["--out", str(data / "out")], ["--num-classes", "3"]
        for command in (
            ["data", "check", str(data), *space],
            ["data", "preview", str(data), *space, *out],
            ["train", "--images", images, "--labels", labels, *space, *out],
            ["data", "import", "masks", labels, str(data / "out"), "--images", images],
        ):
            assert main(command) == 1
            yield error_of(capsys)

    def test_label_maps_of_another_format(self, data, capsys):
        for path in (data / "labels").iterdir():
            path.rename(path.with_suffix(".jpg"))
        for error in self.errors(data, capsys):
            assert "must be a folder of .png, .tif, .tiff, .bmp files" in error
            assert "with 4 other files: a.jpg, b.jpg, c.jpg, ..." in error

    def test_label_maps_of_other_names(self, data, capsys):
        for path in (data / "labels").iterdir():
            path.rename(path.with_stem(f"{path.stem}_mask"))
        *errors, of_masks = self.errors(data, capsys)
        for error in errors:
            assert "no two names match: 4 images" in error
            assert "such as a_mask.png" in error
        assert "masks such as a_mask, images such as a." in of_masks


@pytest.mark.any_backend
class TestColoursAsClasses:
    @pytest.fixture
    def black_and_white(self, data):
        """The data with grey masks of 0 and 255, and options of their palette."""
        without_duplicates(data)
        for path in (data / "labels").iterdir():
            values = np.array(Image.open(path)) == 1
            Image.fromarray((255 * values).astype("uint8")).save(path)
        (data / "classes.json").write_text(
            json.dumps({"class_names": ["no", "yes"], "palette": [[0] * 3, [255] * 3]})
        )
        return ["--label-space", str(data / "classes.json"), "--palette"]

    def test_what_check_reads_is_read_by_all_commands(
        self, data, black_and_white, three_layers, capsys
    ):
        folders = ["--images", str(data / "images"), "--labels", str(data / "labels")]
        assert main(["data", "check", str(data), *black_and_white]) == 0
        out = ["--out", str(data / "preview.png")]
        assert main(["data", "preview", str(data), *black_and_white, *out]) == 0
        options = [*folders, *black_and_white, "--model", "fcn32s", "--epochs", "1"]
        assert main(["train", *options, "--out", str(data / "run")]) == 0
        capsys.readouterr()
        assert main(["evaluate", str(data / "run"), *folders, "--palette", "--json"]) == 0
        matrix = np.array(json.loads(capsys.readouterr().out)["confusion_matrix"])
        ones = sum((np.array(Image.open(p)) > 0).sum() for p in (data / "labels").iterdir())
        assert matrix.sum(1)[1] == ones > 0

    def test_a_void_colour_is_ignored_by_all_commands(self, data, three_layers, capsys):
        """Class 2 is white, and what is ignored is black."""
        colours = np.zeros((256, 3), "uint8")
        colours[:3] = (200, 0, 0), (0, 200, 0), (255, 255, 255)
        without_duplicates(data)
        ids = [np.array(Image.open(path)) for path in sorted((data / "labels").iterdir())]
        for path, label_map in zip(sorted((data / "labels").iterdir()), ids, strict=True):
            Image.fromarray(colours[label_map]).save(path)
        space = {"class_names": ["a", "b", "c"], "palette": colours[:3].tolist()}
        space |= {"ignore_class": 255, "ignore_colour": [0, 0, 0]}
        (data / "classes.json").write_text(json.dumps(space))
        options = ["--label-space", str(data / "classes.json"), "--palette"]
        main(["data", "check", str(data), *options, "--json"])
        report = json.loads(capsys.readouterr().out)
        assert report["ignored_pixels"] == (np.array(ids) == 255).sum() > 0
        assert [entry["pixels"] for entry in report["classes"]] == [
            (np.array(ids) == class_id).sum() for class_id in range(3)
        ]
        folders = ["--images", str(data / "images"), "--labels", str(data / "labels")]
        train = ["train", *folders, *options, "--model", "fcn32s", "--epochs", "1"]
        assert main([*train, "--out", str(data / "run")]) == 0
        capsys.readouterr()
        assert main(["evaluate", str(data / "run"), *folders, "--palette", "--json"]) == 0
        matrix = np.array(json.loads(capsys.readouterr().out)["confusion_matrix"])
        assert matrix.sum() == (np.array(ids) < 255).sum()

    def test_without_the_option_the_values_are_no_classes(self, data, black_and_white, capsys):
        assert main(["data", "check", str(data), *black_and_white[:2]]) == 1
        assert "holds the value 255" in capsys.readouterr().out


@pytest.mark.any_backend
class TestImport:
    @pytest.fixture
    def export(self, tmp_path):
        """CVAT's export of two images with three classes."""
        colours = np.array([(0, 0, 0), (128, 64, 128), (0, 0, 142)], "uint8")
        for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
            (tmp_path / "cvat" / folder).mkdir(parents=True)
        random = np.random.default_rng(0)
        for name in ("a", "b"):
            photo = Image.fromarray(random.integers(0, 256, (8, 9, 3), "uint8"))
            photo.save(tmp_path / "cvat" / "JPEGImages" / f"{name}.jpg")
            labels = Image.fromarray(colours[random.integers(0, 3, (8, 9))])
            labels.save(tmp_path / "cvat" / "SegmentationClass" / f"{name}.png")
        lines = "sky:0,0,0::\nroad:128,64,128::\ncar:0,0,142::\n"
        (tmp_path / "cvat" / "labelmap.txt").write_text(lines)
        (tmp_path / "cvat" / "ImageSets" / "Segmentation" / "default.txt").write_text("a\nb\n")
        return tmp_path / "cvat"

    def test_what_is_imported_is_checked_and_trained_on(self, export, three_layers, capsys):
        out = export.parent / "out"
        assert main(["data", "import", "cvat", str(export), str(out)]) == 0
        assert capsys.readouterr().out.splitlines() == [
            "2 pairs",
            "3 classes: 0 sky, 1 road, 2 car; 255 is ignored",
            f"label space: {out / 'classes.toml'}",
        ]
        space = ["--label-space", str(out / "classes.toml")]
        assert main(["data", "check", str(out), *space]) == 0
        folders = ["--images", str(out / "images"), "--labels", str(out / "labels")]
        options = ["--model", "fcn32s", "--epochs", "1", "--out", str(out.parent / "run")]
        assert main(["train", *folders, *space, *options]) == 0

    def test_subfolders_are_searched_by_every_command(self, tmp_path, three_layers, capsys):
        """The masks are white in Oslo and black in Bern."""
        for city, white in (("oslo", 255), ("bern", 0)):
            for name in "ab":
                for folder, mode in (("photos", "RGB"), ("masks", "L")):
                    path = tmp_path / folder / city / f"{name}.png"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    shade = white if mode == "L" else (white // 2 + ord(name),) * 3
                    Image.new(mode, (9, 8), shade).save(path)
        out, run = tmp_path / "out", str(tmp_path / "run")
        masks = ["import", "masks", str(tmp_path / "masks"), str(out), "--map", "255=road"]
        assert main(["data", *masks, "--images", str(tmp_path / "photos")]) == 0
        space = ["--label-space", str(out / "classes.toml")]
        folders = ["--images", str(out / "images"), "--labels", str(out / "labels")]
        options = [*folders, *space, "--model", "fcn32s"]
        assert main(["train", *options, "--epochs", "1", "--val-share", "0.5", "--out", run]) == 0
        rows = (tmp_path / "run" / "split.csv").read_text().splitlines()[1:]
        names = [f"{city}/{name}.png" for city in ("bern", "oslo") for name in "ab"]
        assert sorted(row.partition(",")[2] for row in rows) == names
        assert main(["lr-find", *options, "--steps", "2", "--out", str(out / "lr.png")]) == 0
        capsys.readouterr()
        predictions = ["--save-predictions", str(tmp_path / "predicted"), "--json"]
        assert main(["evaluate", run, *folders, *predictions]) == 0
        matrix = json.loads(capsys.readouterr().out)["confusion_matrix"]
        assert np.sum(matrix, axis=1).tolist() == [144, 144]
        predicted = sorted((tmp_path / "predicted").rglob("*.png"))
        assert [p.relative_to(tmp_path / "predicted").as_posix() for p in predicted] == names
        preview = ["data", "preview", str(out), *space, "--out", str(out / "preview.png")]
        assert main(preview) == 0
        assert "Preview of 4 of 4 pairs" in capsys.readouterr().out

    def test_json_and_progress(self, export, capsys):
        out = export.parent / "out"
        assert main(["data", "import", "cvat", str(export), str(out), "--json", "--link"]) == 0
        printed = capsys.readouterr()
        assert json.loads(printed.out)["pairs"] == {"out": 2}
        assert printed.err.splitlines() == ["importing: 1/2", "importing: 2/2"]

    def test_a_refusal_is_one_sentence(self, export, capsys):
        (export / "labelmap.txt").unlink()
        assert main(["data", "import", "cvat", str(export), str(export.parent / "out")]) == 1
        assert "There is no file" in error_of(capsys)

    def test_options_of_masks(self, data, capsys):
        masks = ["data", "import", "masks", str(data / "labels"), str(data / "out")]
        masks += ["--images", str(data / "images")]
        assert main([*masks, "--map", "0=road", "1=car", "--map", "2=car", "255=ignore"]) == 0
        assert "3 classes: 0 background, 1 road, 2 car; 255" in capsys.readouterr().out
        assert main([*masks, "--map", "255"]) == 1
        assert "--map must be KEY=CLASS, each KEY once. Received: 255." in error_of(capsys)

    def test_every_format_has_a_command_with_its_options(self):
        from keras_fcn.cli.parser import build_parser
        from keras_fcn.data.formats import FORMATS

        for name, function in FORMATS.items():
            options = vars(build_parser().parse_args(["data", "import", name, "in", "out"]))
            arguments = set(inspect.signature(function).parameters)
            shared = {"source", "out", "link", "json", "run", "parser", "command", "format"}
            assert set(options) - shared - {"traceback"} | {"source"} == arguments

    def test_an_interrupted_import_says_how_to_go_on(self, export, capsys, monkeypatch):
        def interrupt(*_, **__):
            raise KeyboardInterrupt

        monkeypatch.setattr("keras_fcn.data.formats.import_data", interrupt)
        assert main(["data", "import", "cvat", str(export), str(export.parent / "out")]) == 130
        assert "run the same command again to resume" in capsys.readouterr().err
