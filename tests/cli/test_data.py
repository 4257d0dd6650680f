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

    def test_without_the_option_the_values_are_no_classes(self, data, black_and_white, capsys):
        assert main(["data", "check", str(data), *black_and_white[:2]]) == 1
        assert "holds the value 255" in capsys.readouterr().out
