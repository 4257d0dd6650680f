import json
import shutil

import numpy as np
import pytest
from PIL import Image
from training.three_layers import ThreeLayers

from keras_fcn import label_spaces
from keras_fcn.cli import main
from keras_fcn.training import Recipe
from keras_fcn.training.label_errors import find_label_errors
from keras_fcn.training.recipe import replace
from keras_fcn.training.run import Run
from keras_fcn.training.run_writer import RunWriter

pytestmark = [pytest.mark.any_backend, pytest.mark.filterwarnings("ignore:Images such as")]

SPACE = label_spaces.generic(3)
PLANTED = {"b.png": (4, 6, 20, 26), "d.png": (10, 3, 21, 14)}  # top, left, bottom, right


def reads_brightness():
    """A model that gives black, grey and white the classes 0, 1 and 2, with much confidence."""
    model = ThreeLayers(3)
    for layer in model.layers:
        weights = [np.zeros_like(value) for value in layer.get_weights()]
        if layer.name in ("block1_conv1", "fc6"):
            weights[0][1, 1, 0, 0] = 1  # Passes the first channel on.
            if layer.name == "block1_conv1":
                weights[1][:] = 130  # Above the subtracted mean.
        elif layer.name == "score_fr":
            # Lines a x + b, of which each is largest around its brightness.
            weights[0][0, 0, 0] = [0, 0.4, 0.8]
            weights[1][:] = [0, -0.4 * 64, -0.4 * (64 + 191)]
        if weights:
            layer.set_weights(weights)
    return model


@pytest.fixture
def recipe(tmp_path):
    """Six images of three brightnesses; a rectangle of two label maps has another class."""
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    rng = np.random.default_rng(0)
    for name in ("a.png", "b.png", "c.png", "d.png", "e.png", "f.png"):
        label_map = np.zeros((30, 40), "uint8")
        label_map[:, 30:] = 1 + rng.integers(0, 2)
        shades = np.array([0, 128, 255])[label_map][:, :, None]
        Image.fromarray(np.repeat(shades, 3, axis=2).astype("uint8")).save(
            tmp_path / "images" / name
        )
        label_map = np.roll(label_map, 2, axis=1)  # Boundaries are a little off everywhere.
        if name in PLANTED:
            top, left, bottom, right = PLANTED[name]
            label_map[top:bottom, left:right] = 2
        Image.fromarray(label_map).save(tmp_path / "labels" / name)
    folders = {"images": str(tmp_path / "images"), "labels": str(tmp_path / "labels")}
    return Recipe(**folders, num_classes=3, model="fcn32s", folds=2, fold=1)


def write_run(path, recipe):
    run = RunWriter(path)
    run.create("folder", recipe, SPACE)
    run.save_model(reads_brightness())
    return path


class TestFindLabelErrors:
    def test_planted_errors_rank_first_with_box_and_classes(self, recipe, tmp_path):
        found = find_label_errors([write_run(tmp_path / "run", recipe)])
        assert [error.image_name for error in found.errors] == ["b.png", "d.png"]
        for error in found.errors:
            assert error.region.box == PLANTED[error.image_name]
            assert (error.region.label, error.region.predicted) == (2, 0)
            assert error.region.probability > 0.99
            assert error.label_map[error.region.box[0], error.region.box[1]] == 2
            assert error.prediction[error.region.box[0], error.region.box[1]] == 0
        assert found.num_contradicted == 2
        assert found.num_held_out + found.num_trained_on == 6
        assert 0 < found.num_held_out < 6

    def test_each_image_is_judged_by_the_run_that_held_it_out(self, recipe, tmp_path):
        paths = [write_run(tmp_path / f"{k}", replace(recipe, fold=k)) for k in (1, 2)]
        found = find_label_errors(paths)
        assert (found.num_held_out, found.num_trained_on) == (6, 0)
        assert all(error.held_out for error in found.errors)
        alone = [find_label_errors([path]) for path in paths]
        held_out_by = {
            error.image_name: error.run for one in alone for error in one.errors if error.held_out
        }
        assert {error.image_name: error.run for error in found.errors} == held_out_by
        assert "learnt the errors" not in found.as_text()
        assert "learnt the errors" in alone[0].as_text()

    def test_no_more_than_asked_for(self, recipe, tmp_path):
        found = find_label_errors([write_run(tmp_path / "run", recipe)], count=1)
        assert [error.image_name for error in found.errors] == ["b.png"]
        assert found.num_contradicted == 2

    def test_the_sheet_marks_the_region(self, recipe, tmp_path):
        found = find_label_errors([write_run(tmp_path / "run", recipe)], count=1)
        sheet = np.asarray(found.sheet(height=30))
        assert sheet.shape[1] == 6 + 4 * (40 + 6)
        panel = sheet[18 : 18 + 30, 6 + 3 * 46 : 6 + 3 * 46 + 40]
        top, left, bottom, right = PLANTED["b.png"]
        is_marked = (panel == (255, 0, 255)).all(axis=-1)
        assert is_marked[top - 2 : top, left - 2 : right + 2].all()
        assert not is_marked[top:bottom, left:right].any()


class TestCommand:
    def test_table_sheet_and_json(self, recipe, tmp_path, capsys):
        run, out = str(write_run(tmp_path / "run", recipe)), tmp_path / "sheet.png"
        assert main(["data", "errors", run, "--out", str(out)]) == 0
        printed = capsys.readouterr().out.splitlines()
        assert printed[-1] == f"Sheet: {out}"
        assert printed[-3].split()[0] == "b.png"
        assert printed[-3].endswith("6-25   4-19         1.00  class 2 -> class 0")
        with Image.open(out) as picture:
            assert picture.mode == "RGB"
        assert main(["data", "errors", run, "--out", str(out), "--json", "--count", "1"]) == 0
        (error,) = json.loads(capsys.readouterr().out)["errors"]
        assert error["box"] == {"top": 4, "left": 6, "bottom": 20, "right": 26}
        assert (error["label"], error["predicted"]) == ("class 2", "class 0")

    def test_refusals_are_one_sentence(self, recipe, tmp_path, capsys):
        run = str(write_run(tmp_path / "run", recipe))

        def error_of(*arguments):
            assert main(["data", "errors", *arguments]) == 1
            return capsys.readouterr().err.strip().splitlines()[-1]

        assert "--count must be at least 1" in error_of(run, "--count", "0")
        other = RunWriter(tmp_path / "other")
        other.create("folder", recipe, label_spaces.generic(4))
        shutil.copy(Run(run).best_model_path, other.best_model_path)
        assert "must have the classes of" in error_of(run, str(other.path))
        depth = RunWriter(tmp_path / "depth")
        nyudv2 = Recipe(data="nyudv2", modalities=("image", "hha"), model="fcn32s")
        depth.create("nyudv2", nyudv2, SPACE)
        shutil.copy(Run(run).best_model_path, depth.best_model_path)
        assert "must be of a model that takes one image" in error_of(str(depth.path))
        shutil.rmtree(tmp_path / "images")
        assert "must still be where it was trained" in error_of(run)
