import ast
import contextlib
import csv
import dataclasses
import functools
import io
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import keras
import numpy as np
import pytest
from caffe import paper_layers, write_caffemodel
from helpers import (
    NARROW_FILTERS,
    assert_equal_weights,
    randomize,
    variables_as_numpy,
    write_pairs,
)
from PIL import Image
from training.three_layers import ThreeLayers

from keras_fcn import FCN8s, FCN16s, FCN32s, label_spaces
from keras_fcn.cli import commands, main, of_this_command
from keras_fcn.cli.commands import LABEL_SPACES
from keras_fcn.cli.parser import build_parser
from keras_fcn.inference import predict_label_map
from keras_fcn.label_spaces import PASCAL_VOC, generic
from keras_fcn.models.fcn import AT_ONCE_SKIP_SCALES
from keras_fcn.training import trainer
from keras_fcn.training.recipe import MODELS
from keras_fcn.training.run import Run
from keras_fcn.training.trained import open_model

FAST = ["--padding", "same", "--fc-units", "4", "--model", "fcn32s", "--num-classes", "3"]
FAST += ["--set", f"filters={list(NARROW_FILTERS)}"]
NARROW = {"fc_units": 4, "filters": NARROW_FILTERS}


@pytest.fixture
def data(tmp_path):
    """Folders of four small images and label maps of 3 classes, with 255 in a corner."""
    write_pairs(tmp_path)
    return tmp_path


@pytest.fixture
def three_layers(monkeypatch):
    """`fcn32s` is a network of three layers, where it does not matter what is trained."""
    monkeypatch.setitem(MODELS, "fcn32s", ThreeLayers)


def train(data, *options, out="run"):
    folders = ["--images", str(data / "images"), "--labels", str(data / "labels")]
    return main(["train", *folders, *FAST, "--out", str(data / out), "--epochs", "1", *options])


def error_of(capsys):
    *progress, error = capsys.readouterr().err.strip().splitlines()
    assert all(re.match(r"[a-z ]+: \d+/\d+$", line) for line in progress), progress
    assert error.startswith("keras-fcn: error: ")
    return error


class TestMainJob:
    @pytest.fixture(scope="class")
    def folder(self, tmp_path_factory):
        folder = tmp_path_factory.mktemp("job")
        write_pairs(folder)
        return folder

    @pytest.fixture(scope="class")
    def trained(self, folder):
        """What `train` wrote to standard output and standard error."""
        validation = ["--val-images", str(folder / "images"), "--val-labels"]
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            options = ["--ignore-class", "255", "--epochs", "2", *validation]
            assert train(folder, *options, str(folder / "labels")) == 0
        return out.getvalue(), err.getvalue()

    @pytest.fixture(scope="class")
    def best(self, folder, trained):
        with (folder / "run" / "metrics.csv").open() as file:
            rows = list(csv.DictReader(file))
        assert [row["epoch"] for row in rows] == ["1", "2"]
        return max(float(row["val_mean_iou"]) for row in rows)

    def test_train_leaves_a_run_and_prints_its_best_scores(self, folder, trained, best):
        run = folder / "run"
        files = {path.name for path in run.iterdir()}
        assert files == {
            *("best.keras", "config.toml", "curves.png", "metrics.csv"),
            *("report.html", "tensorboard"),
        }
        assert tomllib.loads((run / "config.toml").read_text())["settings"]["model"] == "fcn32s"
        assert f"mean IoU                   {best:.4f}" in trained[0]
        assert "IoU of class 2" in trained[0]

    def test_training_from_random_values_is_warned_of_in_one_line(self, trained):
        (line,) = [line for line in trained[1].splitlines() if "warning" in line]
        assert line.startswith("keras-fcn: warning: block1_conv1, ")
        assert "random initial values" in line

    def test_evaluate_prints_the_scores_of_the_best_epoch(self, folder, best, capsys):
        folders = ["--images", str(folder / "images"), "--labels", str(folder / "labels")]
        assert main(["evaluate", str(folder / "run"), *folders]) == 0
        assert f"mean IoU                   {best:.4f}" in capsys.readouterr().out

    def test_predict_writes_label_maps_and_overlays(self, folder, trained):
        images = [str(folder / "images" / f"{name}.png") for name in "ab"]
        assert main(["predict", str(folder / "run"), *images, "--out", str(folder / "out")]) == 0
        for name in "ab":
            label_map = Image.open(folder / "out" / f"{name}.png")
            assert label_map.mode == "P"
            assert label_map.size == (40, 36)
            assert np.asarray(label_map).max() <= 2
            overlay = Image.open(folder / "out" / f"{name}_overlay.png")
            assert overlay.mode == "RGB"
            # The legend needs more room than an image of 40 x 36.
            assert (overlay.width, overlay.height) > (40, 36)
            image = np.asarray(Image.open(folder / "images" / f"{name}.png")).astype(int)
            colours = np.array(generic(3).palette)[np.asarray(label_map)]
            blended = np.asarray(overlay)[:36, :40]
            np.testing.assert_allclose(blended, (image + colours) / 2, atol=0.5)

    @pytest.mark.any_backend
    def test_predictions_overwrite_nothing(self, data, capsys):
        image, run, images = data / "images" / "a.png", str(data / "run"), str(data / "images")
        Image.open(image).save(data / "images" / "a.jpg")
        before = image.read_bytes()
        assert main(["predict", run, str(image), "--out", images]) == 1
        assert "would be overwritten" in error_of(capsys)
        assert main(["predict", run, f"{images}/a.png", f"{images}/a.jpg", "--out", run]) == 1
        assert "must differ in their names" in error_of(capsys)
        assert image.read_bytes() == before


@pytest.mark.any_backend
def test_the_best_epoch_of_a_run_is_printed_and_not_the_last(tmp_path, capsys):
    run = Run(tmp_path / "run")
    run.path.mkdir()
    scores = [{"val_mean_iou": value, "val_pixel_accuracy": 0.75} for value in (0.25, 0.5, 0.125)]
    run.write_history([{"epoch": n, "loss": 1.0, **row} for n, row in enumerate(scores, start=1)])
    commands._print_best_epoch(run)
    printed = capsys.readouterr().out
    assert "run: best epoch, 2 of 3" in printed
    assert "mean IoU                   0.5000" in printed


@pytest.mark.any_backend
class TestBadInput:
    """One clear line, a non-zero exit code, and no run folder."""

    @pytest.fixture(autouse=True)
    def leaves_no_run(self, data):
        yield
        assert not (data / "run").exists()
        assert not (data / "out").exists()

    def test_no_matching_pairs(self, data, capsys):
        for path in (data / "labels").iterdir():
            path.rename(path.with_name(f"x{path.name}"))
        assert train(data, "--ignore-class", "255") == 1
        assert "no two names match" in error_of(capsys)

    def test_truncated_image(self, data, capsys):
        path = data / "images" / "c.png"
        path.write_bytes(path.read_bytes()[:60])
        assert train(data, "--ignore-class", "255") == 1
        assert "c.png cannot be read as an image" in error_of(capsys)

    def test_image_and_label_map_of_different_size(self, data, capsys):
        Image.new("RGB", (41, 36)).save(data / "images" / "b.png")
        assert train(data, "--ignore-class", "255") == 1
        error = error_of(capsys)
        assert "same size" in error
        assert "41x36" in error
        assert "40x36" in error

    def test_colour_label_map(self, data, capsys):
        Image.new("RGB", (40, 36)).save(data / "labels" / "a.png")
        assert train(data, "--ignore-class", "255") == 1
        error = error_of(capsys)
        assert "a.png must hold one class id per pixel" in error
        assert "RGB" in error

    def test_label_out_of_range(self, data, capsys):
        assert train(data) == 1
        error = error_of(capsys)
        assert "a.png holds the value 255 at row 0, column 0" in error
        assert "--ignore-class 255" in error

    def test_weights_that_do_not_fit(self, data, capsys, recwarn):
        weights = data / "other.weights.h5"
        source = FCN32s(num_classes=3, fc_units=8, filters=NARROW_FILTERS, padding="same")
        source.save_weights(weights)
        assert train(data, "--ignore-class", "255", "--weights", str(weights)) == 1
        assert "fc6/bias (4,): has shape (8,) in the file" in error_of(capsys)

    def test_missing_folder_and_missing_run(self, data, capsys):
        assert train(data, "--images", str(data / "absent")) == 1
        assert "must be a folder" in error_of(capsys)
        image = str(data / "images" / "a.png")
        assert main(["predict", str(data / "run"), image, "--out", str(data / "out")]) == 1
        assert "MODEL must be a folder written by" in error_of(capsys)

    def test_the_demonstration_looks_for_its_folder_before_it_trains(self, data, capsys):
        assert main(["demo", "--out", str(data / "absent" / "demo.png")]) == 1
        assert "`out` must lie in an existing folder" in error_of(capsys)

    def test_bad_settings(self, data, capsys):
        assert train(data, "--ignore-class", "255", "--epochs", "0") == 1
        assert "`epochs` must be at least 1. Received: epochs=0" in error_of(capsys)
        assert train(data, "--val-images", "somewhere") == 1
        assert "must be given together" in error_of(capsys)
        assert train(data, "--label-space", "camvid") == 1
        assert "(--label-space) must stand without" in error_of(capsys)
        assert train(data, "--ignore-class", "255", "--gradients", "bfloat16") == 1
        assert "`gradients` must be None without `devices`" in error_of(capsys)

    def test_interrupted_before_the_first_epoch_ends(self, data, capsys, monkeypatch):
        def interrupt(*args, **kwargs):
            raise KeyboardInterrupt

        monkeypatch.setattr(keras.callbacks.CallbackList, "on_epoch_begin", interrupt)
        assert train(data, "--ignore-class", "255") == 130


@pytest.mark.any_backend
def test_an_existing_run_is_not_touched(data, capsys):
    (data / "run").mkdir()
    (data / "run" / "precious").write_text("kept")
    assert train(data, "--ignore-class", "255") == 1
    assert "must not exist yet" in error_of(capsys)
    assert [path.name for path in (data / "run").iterdir()] == ["precious"]


@pytest.mark.any_backend
def test_an_unknown_option_is_a_usage_error(capsys):
    with pytest.raises(SystemExit) as exit_:
        main(["train", "--no-such-option"])
    assert exit_.value.code == 2


@pytest.mark.any_backend
def test_the_command_is_installed():
    done = subprocess.run(
        [sys.executable, "-m", "keras_fcn", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("0.")


@pytest.mark.any_backend
class TestTransforms:
    OPTIONS = ("--scale", "0.5", "1.5", "--crop", "32", "48", "--jitter")

    def test_training_on_windows_of_one_size_batches_images_of_any(self, data, three_layers):
        for folder in ("images", "labels"):
            picture = Image.open(data / folder / "a.png")
            picture.crop((0, 0, 30, 33)).save(data / folder / "a.png")
        options = ["--ignore-class", "255", "--batch-size", "4", *self.OPTIONS]
        assert train(data, *options) == 0
        settings = tomllib.loads((data / "run" / "config.toml").read_text())["settings"]
        assert (settings["scale"], settings["crop"], settings["jitter"]) == (
            [0.5, 1.5],
            [32, 48],
            True,
        )

    @pytest.mark.parametrize(
        ("options", "reason"),
        [
            (
                ("--scale", "2", "1"),
                "`scale` must be a smallest factor, greater than 0, and a largest",
            ),
            (("--crop", "0", "5"), "`crop` must be a height and a width of at least 1"),
        ],
    )
    def test_wrong_options_leave_no_run(self, data, options, reason, capsys):
        assert train(data, "--ignore-class", "255", *options) == 1
        assert reason in error_of(capsys)
        assert not (data / "run").exists()

    def test_windows_beyond_small_images_count_for_nothing(self, data, three_layers, capsys):
        # The files hold 255, which must not pass for the padding of windows.
        assert train(data, *self.OPTIONS) == 1
        assert "holds the value 255" in error_of(capsys)
        for path in (data / "labels").iterdir():
            label_map = np.array(Image.open(path))
            Image.fromarray(np.where(label_map == 255, 0, label_map)).save(path)
        assert train(data, *self.OPTIONS) == 0
        assert Run(data / "run").label_space().ignore_class == 255


@pytest.mark.any_backend
class TestEvaluate:
    """Scores of a model that predicts class 0 everywhere, known by counting."""

    @pytest.fixture(scope="class")
    def model(self, tmp_path_factory):
        """Its score layer is zero but for the bias of class 0."""
        model = FCN32s(11, **NARROW, padding="same", data_format="channels_last")
        model.get_layer("score_fr").bias.assign([1.0] + [0.0] * 10)
        path = tmp_path_factory.mktemp("model") / "model.keras"
        model.save(path)
        return str(path)

    @pytest.fixture
    def camvid(self, tmp_path):
        """CamVid's layout with one image; by hand: 20 x 30 pixels, a quarter class 3, rest 0."""
        for folder in ("train", "trainannot", "val", "valannot"):
            (tmp_path / "camvid" / folder).mkdir(parents=True)
        label_map = np.zeros((20, 30), "uint8")
        label_map[:10, :15] = 3
        label_map[19] = 11
        for split in ("train", "val"):
            name = f"{split}_1.png"
            Image.new("RGB", (30, 20)).save(tmp_path / "camvid" / split / name)
            Image.fromarray(label_map).save(tmp_path / "camvid" / f"{split}annot" / name)
        return tmp_path / "camvid"

    def test_everything_about_a_data_set_by_name(self, model, camvid, tmp_path, capsys):
        predictions, confusion = tmp_path / "predictions", tmp_path / "confusion.png"
        places = ["--manual-dir", str(camvid), "--data-dir", str(tmp_path / "tfds")]
        outputs = ["--save-predictions", str(predictions), "--confusion", str(confusion)]
        command = ["evaluate", model, "camvid", *places, *outputs, "--trimap", "1", "--json"]
        assert main(command) == 0
        report = json.loads(capsys.readouterr().out)
        assert report["images"] == 1
        # 150 of 570 valid pixels are class 3.
        assert report["scores"]["pixel_accuracy"] == pytest.approx(420 / 570)
        assert report["scores"]["mean_iou"] == pytest.approx(420 / 570 / 2)
        assert report["class_iou"]["sky"] == pytest.approx(420 / 570)
        assert report["class_iou"]["road"] == 0
        assert report["class_iou"]["car"] is None
        assert report["confusion_matrix"][3][0] == 150
        # 10 + 15 pixels of class 3 lie at the boundary, of which the corner counts once; 10 + 15
        # of class 0 beside them, and 30 above the ignored row.
        assert report["trimap"]["pixel_accuracy"] == pytest.approx((25 + 30) / (24 + 25 + 30))
        label_map = np.asarray(Image.open(predictions / "val_1.png"))
        assert (label_map.shape, label_map.max()) == ((20, 30), 0)
        assert Image.open(confusion).size[0] > 300

    def test_folders_and_a_table(self, model, data, capsys):
        folders = ["--images", str(data / "images"), "--labels", str(data / "labels")]
        command = ["evaluate", model, *folders, "--trimap", "2"]
        for path in (data / "labels").iterdir():
            label_map = np.asarray(Image.open(path))
            Image.fromarray(np.where(label_map == 255, 0, label_map)).save(path)
        assert main(command) == 0
        printed = capsys.readouterr().out
        assert "4 images:" in printed
        assert "Within 2 pixels of a boundary:" in printed

    @pytest.mark.parametrize(
        ("arguments", "reason"),
        [
            ([], "Either DATA or --images and --labels must be given"),
            (["--images", "images"], "must be given together"),
            (["imagenet"], "`name` must be one of"),
            (["pascal_context"], "must have the 60 classes of pascal_context. Received: 11"),
            (["camvid", "--split", "trainval"], "`split` must be"),
        ],
    )
    def test_bad_input_is_one_line(self, model, arguments, reason, capsys):
        assert main(["evaluate", model, *arguments]) == 1
        assert reason in error_of(capsys)


@dataclasses.dataclass
class Caffemodel:
    """A file, the network that it was written from, and what that predicts for a photo."""

    path: str
    source: keras.Model
    photo: np.ndarray
    label_map: np.ndarray


@pytest.fixture(scope="module")
def caffemodel(tmp_path_factory):
    source = FCN8s(21, **NARROW)
    randomize(source, seed=8)
    path = tmp_path_factory.mktemp("caffe") / "net.caffemodel"
    write_caffemodel(path, paper_layers(variables_as_numpy(source)))
    photo = np.random.default_rng(0).integers(0, 256, (30, 41, 3), "uint8")
    return Caffemodel(str(path), source, photo, predict_label_map(source, photo))


def predict(path, photo, tmp_path, *options):
    """The label map that the command writes for a photo."""
    Image.fromarray(photo).save(tmp_path / "photo.png")
    out = tmp_path / "out"
    photo = str(tmp_path / "photo.png")
    assert main(["predict", str(path), photo, "--out", str(out), *options]) == 0
    return np.asarray(Image.open(out / "photo.png"))


class TestBareWeights:
    """Files that hold weights alone are scored and predicted with as they are."""

    def test_a_caffemodel_predicts_as_its_network(self, caffemodel, tmp_path):
        predicted = predict(caffemodel.path, caffemodel.photo, tmp_path)
        assert len(np.unique(predicted)) > 1
        np.testing.assert_array_equal(predicted, caffemodel.label_map)

    @pytest.mark.any_backend
    @pytest.mark.parametrize("network", [FCN32s, FCN16s])
    def test_coarser_networks_are_told_by_their_layers(self, network, tmp_path):
        source = network(5, **NARROW)
        randomize(source, seed=9)
        np.savez(tmp_path / "net.npz", **npz_arrays(source))
        model, _ = open_model(tmp_path / "net.npz")
        assert type(model) is network
        assert_equal_weights(model, source)

    @pytest.mark.any_backend
    def test_an_npz_of_fcn8s_at_once_wants_its_option(self, caffemodel, tmp_path, capsys):
        source, photo = FCN8s(21, **NARROW, skip_scales=AT_ONCE_SKIP_SCALES), caffemodel.photo
        source.set_weights(caffemodel.source.get_weights())
        np.savez(tmp_path / "net.npz", **npz_arrays(source))
        predicted = predict(tmp_path / "net.npz", photo, tmp_path, "--at-once")
        np.testing.assert_array_equal(predicted, predict_label_map(source, photo))
        assert (predicted != caffemodel.label_map).any()
        model, _ = open_model(tmp_path / "net.npz")
        assert model.get_config()["skip_scales"] == (1.0, 1.0)
        assert main(["predict", "pascal_voc", str(tmp_path / "photo.png"), "--at-once"]) == 1
        assert "--at-once must go with a .pth or .npz file" in error_of(capsys)

    @pytest.mark.any_backend
    def test_evaluation_in_folders(self, caffemodel, tmp_path, capsys):
        data = tmp_path / "data"
        write_pairs(data, "abc", size=caffemodel.photo.shape[:2])
        folders = ["--images", str(data / "images"), "--labels", str(data / "labels")]
        assert main(["evaluate", caffemodel.path, *folders, "--json"]) == 0
        matrix = np.array(json.loads(capsys.readouterr().out)["confusion_matrix"])
        expected = np.zeros((21, 21), int)
        for name in "abc":
            image, label_map = (
                np.asarray(Image.open(data / kind / f"{name}.png")) for kind in ("images", "labels")
            )
            valid = label_map != 255
            predicted = predict_label_map(caffemodel.source, image)
            np.add.at(expected, (label_map[valid], predicted[valid]), 1)
        np.testing.assert_array_equal(matrix, expected)

    @pytest.mark.any_backend
    def test_what_tells_no_network_is_refused_in_one_line(self, tmp_path, capsys):
        Image.new("RGB", (8, 8)).save(tmp_path / "photo.png")
        source = FCN32s(3, **NARROW)
        source.save_weights(tmp_path / "net.weights.h5")
        arrays = npz_arrays(source)
        np.savez(tmp_path / "vgg.npz", **{k: v for k, v in arrays.items() if "score" not in k})
        for name, reason in {
            "net.weights.h5": "MODEL must be a .keras file or end in one of .caffemodel",
            "vgg.npz": "MODEL must hold an FCN, with fc6 and score_fr",
            "photo.png": "MODEL must be a .keras file",
        }.items():
            assert main(["predict", str(tmp_path / name), str(tmp_path / "photo.png")]) == 1
            assert reason in error_of(capsys)


def npz_arrays(model):
    """Arrays of a model under the keys of wkentaro/fcn's files."""
    layers = paper_layers(variables_as_numpy(model))
    return {
        f"{layer}/{variable}": array
        for layer, arrays in layers.items()
        for variable, array in zip("Wb", arrays, strict=False)
    }


@pytest.mark.any_backend
class TestConvert:
    @pytest.fixture(autouse=True)
    def narrow(self, monkeypatch):
        """The command makes models of VGG-16's own width."""
        for name, network in {"fcn8s": FCN8s, "fcn16s": FCN16s}.items():
            narrow = functools.partial(network, filters=NARROW_FILTERS)
            monkeypatch.setitem(MODELS, name, narrow)

    OPTIONS = ("--model", "fcn8s", "--label-space", "pascal_voc", "--fc-units", "4")

    def test_converted_weights_are_those_of_the_file(self, caffemodel, tmp_path, capsys):
        path = tmp_path / "net.weights.h5"
        assert main(["convert", caffemodel.path, str(path), *self.OPTIONS]) == 0
        assert "FCN8s, " in capsys.readouterr().out
        model = FCN8s(21, **NARROW)
        model.load_weights(path)
        assert_equal_weights(model, caffemodel.source)

    def test_a_converted_model_predicts_as_its_source(self, caffemodel, tmp_path):
        path = tmp_path / "net.keras"
        assert main(["convert", caffemodel.path, str(path), *self.OPTIONS]) == 0
        assert keras.saving.load_model(path).label_space == PASCAL_VOC
        predicted = predict(path, caffemodel.photo, tmp_path)
        np.testing.assert_array_equal(predicted, caffemodel.label_map)

    @pytest.mark.parametrize(
        ("target", "options", "reason"),
        [
            ("x.weights.h5", ["--num-classes", "3"], "score_fr/bias (3,): has shape (21,)"),
            ("x.weights.h5", ["--num-classes", "21", "--model", "fcn16s"], "not in the model"),
            ("x.weights.h5", ["--num-classes", "21", "--at-once"], "scales pool4 by 1."),
            ("x.h5", ["--num-classes", "21"], "must end in .weights.h5 or .keras"),
            ("net.caffemodel", ["--num-classes", "21"], "must end in .weights.h5 or .keras"),
            ("old.keras", ["--num-classes", "21"], "must not exist yet"),
            ("absent/x.keras", ["--num-classes", "21"], "must lie in an existing folder"),
        ],
    )
    def test_what_does_not_fit_is_one_line_and_leaves_nothing(
        self, caffemodel, target, options, reason, tmp_path, capsys
    ):
        (tmp_path / "old.keras").write_bytes(b"old")
        before = sorted(path.name for path in tmp_path.iterdir())
        command = ["convert", caffemodel.path, str(tmp_path / target), "--fc-units", "4"]
        assert main([*command, *options]) == 1
        assert reason in error_of(capsys)
        assert sorted(path.name for path in tmp_path.iterdir()) == before
        assert (tmp_path / "old.keras").read_bytes() == b"old"

    def test_a_damaged_model_file_is_one_line(self, tmp_path, capsys):
        Image.new("RGB", (8, 8)).save(tmp_path / "photo.png")
        (tmp_path / "model.keras").write_bytes(b"not a model")
        command = ["predict", str(tmp_path / "model.keras"), str(tmp_path / "photo.png")]
        assert main([*command, "--out", str(tmp_path / "out")]) == 1
        assert "model.keras must be a whole .keras file" in error_of(capsys)
        assert not (tmp_path / "out").exists()


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
        for name in LABEL_SPACES:
            assert isinstance(getattr(label_spaces, name.upper()), label_spaces.LabelSpace)
        self.check(data, "pascal_voc")
        assert "aeroplane" in capsys.readouterr().out

    def test_another_name_is_answered_with_the_known_ones(self, data, capsys):
        assert self.check(data, "pascal") == 1
        assert "must be one of ade20k, camvid" in error_of(capsys)


def without_duplicates(data):
    """The data with another first pixel in each image."""
    for shade, path in enumerate(sorted((data / "images").iterdir())):
        image = np.array(Image.open(path))
        image[0, 0] = shade
        Image.fromarray(image).save(path)
    return data


@pytest.mark.any_backend
class TestStreams:
    """Results go to standard output, everything else to standard error."""

    CHECK = ("data", "check", "--num-classes", "3", "--ignore-class", "255")

    @pytest.fixture
    def data(self, data):
        return without_duplicates(data)

    def test_of_a_check(self, data, capsys):
        assert main([*self.CHECK, str(data)]) == 0
        printed = capsys.readouterr()
        assert printed.out.startswith(f"{data.name}: 4 pairs\n")
        assert "checking files" not in printed.out
        assert printed.err.splitlines() == [f"checking files: {done}/4" for done in range(1, 5)]

    def test_of_a_training(self, data, three_layers, capsys):
        options = ("--val-images", str(data / "images"), "--val-labels", str(data / "labels"))
        assert train(data, "--ignore-class", "255", *options) == 0
        printed = capsys.readouterr()
        assert printed.out.startswith("run: best epoch, 1 of 1:\n  pixel accuracy ")
        assert printed.out.endswith(f"Run: {data / 'run'}\n")
        assert "epoch 1: validation loss 1." in printed.err
        assert re.search(r"epoch 1/1: 4/4 loss 1\.\d+, \d+ s left", printed.err)

    def test_a_closed_pipe_ends_quietly(self, data, monkeypatch, capsys):
        read_end, write_end = os.pipe()
        os.close(read_end)
        with open(write_end, "w") as pipe, monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", pipe)
            assert main([*self.CHECK, str(data)]) == 141
        assert "error" not in capsys.readouterr().err

    def test_a_training_goes_on_though_nobody_reads_its_progress(
        self, data, three_layers, monkeypatch
    ):
        read_end, write_end = os.pipe()
        os.close(read_end)
        with open(write_end, "w", buffering=1) as pipe, monkeypatch.context() as patch:
            patch.setattr(sys, "stderr", pipe)
            assert train(data, "--ignore-class", "255") == 0
            # What is left in the buffer would fail again.
            os.dup2(os.open(os.devnull, os.O_WRONLY), pipe.fileno())

    def test_letters_that_a_terminal_lacks_are_escaped(self, data, monkeypatch):
        space = data / "classes.toml"
        # As Windows's Notepad writes it.
        space.write_text('class_names = ["Straße", "Grün", "c"]\nignore_class = 255\n', "utf-8-sig")
        for folder in ("images", "labels"):
            (data / folder / "a.png").rename(data / folder / "Straße.png")
        terminal = io.TextIOWrapper(io.BytesIO(), "ascii")
        monkeypatch.setattr(sys, "stdout", terminal)
        assert main(["data", "check", str(data), "--label-space", str(space)]) == 0
        terminal.flush()
        assert b"Stra\\xdfe" in terminal.buffer.getvalue()

    @pytest.mark.parametrize("has_begun", [True, False])
    def test_an_interrupted_training_says_how_to_go_on(self, data, monkeypatch, capsys, has_begun):
        def interrupted(*args, **kwargs):
            if has_begun:
                (data / "run").mkdir()
                (data / "run" / "config.toml").touch()
            raise KeyboardInterrupt

        monkeypatch.setattr(trainer, "train", interrupted)
        assert train(data) == 130
        way = f"; go on with: keras-fcn train --resume {data / 'run'}" if has_begun else ""
        assert capsys.readouterr().err == f"keras-fcn: interrupted{way}\n"


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


@pytest.mark.any_backend
class TestFoldersOfImages:
    def test_all_images_in_a_folder_are_predicted(self, data, capsys):
        (data / "images" / "oslo").mkdir()
        (data / "images" / "b.png").rename(data / "images" / "oslo" / "a.png")
        model = FCN32s(3, **NARROW, padding="same", data_format="channels_last")
        model.save(data / "model.keras")
        command = ["predict", str(data / "model.keras"), str(data / "images")]
        assert main([*command, "--out", str(data / "out")]) == 0
        written = {path.relative_to(data / "out").as_posix() for path in data.rglob("out/**/*.png")}
        names = ("a", "c", "d", "oslo/a")
        assert written == {f"{name}{end}.png" for name in names for end in ("", "_overlay")}

    def test_a_folder_without_images_is_named(self, data, capsys):
        (data / "empty").mkdir()
        assert main(["predict", str(data / "run"), str(data / "empty")]) == 1
        assert f"Received: {data / 'empty'}, a folder with none." in error_of(capsys)


@pytest.mark.any_backend
class TestMessages:
    """An option that a message names is one of the command that prints it."""

    @staticmethod
    def helps():
        parser = build_parser()
        return {
            name: parser.parse_args(arguments).parser.format_help()
            for name, arguments in {
                "train": ["train"],
                "evaluate": ["evaluate", "model"],
                "predict": ["predict", "model", "image"],
                "convert": ["convert", "source", "target"],
                "check": ["data", "check", "folder"],
                "preview": ["data", "preview", "folder"],
                "demo": ["demo"],
                "reproduce": ["reproduce", "pascal_voc"],
            }.items()
        }

    @staticmethod
    def messages():
        """Every text in the package that names an option, by its file."""
        package = Path(commands.__file__).parents[1]
        for path in sorted(package.rglob("*.py")):
            tree, inner = ast.parse(path.read_text()), set()
            documented = {
                ast.get_docstring(node, clean=False)
                for node in ast.walk(tree)
                if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
            }
            for node in ast.walk(tree):
                parts = node.values if isinstance(node, ast.JoinedStr) else [node]
                inner.update(map(id, parts if parts != [node] else ()))
                if id(node) in inner:
                    continue
                texts = [p.value if isinstance(p, ast.Constant) else "X" for p in parts]
                text = "".join(map(str, texts))
                if re.search(r"--[a-z]", text) and text not in documented and "{" not in text:
                    yield path.relative_to(package).as_posix(), text

    # Of files that one command alone, or some, come to.
    TRAIN_ALONE = re.compile(r"training/(loop|failures|splits|trainer|run|objective|environment)")

    def test_name_options_that_the_command_has(self):
        helps, seen = self.helps(), 0
        for file, text in self.messages():
            if file.startswith("cli/") or "torchrun" in text:
                continue
            names = ["train"] if self.TRAIN_ALONE.match(file) else helps
            if file == "training/trained.py":
                names = ["evaluate", "predict"]
            for name in names:
                shown = of_this_command(text, helps[name])
                for option in re.findall(r"--[a-z][a-z-]*", shown):
                    assert f"{option} " in helps[name] + " ", (name, file, text)
                    seen += 1
        assert seen > 20

    def test_brackets_of_foreign_options_are_left_out(self, data, capsys):
        message = "Pass `ignore_class=7` (--ignore-class 7), or `palette` (--palette)."
        helps = self.helps()
        assert of_this_command(message, helps["train"]) == message
        shown = "Pass `ignore_class=7`, or `palette` (--palette)."
        assert of_this_command(message, helps["evaluate"]) == shown

    def test_a_misspelt_setting_is_answered_with_the_one_that_is_like_it(self, data, capsys):
        assert train(data, "--set", "weight_decey=0") == 1
        assert "Did you mean 'weight_decay'?" in error_of(capsys)
