import contextlib
import csv
import io
import tomllib

import keras
import numpy as np
import pytest
from cli.command_line import error_of, train
from helpers import NARROW_FILTERS, write_pairs
from PIL import Image

from keras_fcn import FCN32s
from keras_fcn.cli import main
from keras_fcn.cli.train import print_best_epoch
from keras_fcn.label_spaces import generic
from keras_fcn.training.run import Run
from keras_fcn.training.run_writer import RunWriter

TWO_EPOCHS = ["--ignore-class", "255", "--epochs", "2"]


def validation(folder):
    return ["--val-images", str(folder / "images"), "--val-labels", str(folder / "labels")]


@pytest.mark.any_backend
class TestMainJob:
    @pytest.fixture(scope="class")
    @classmethod
    def folder(cls, tmp_path_factory):
        folder = tmp_path_factory.mktemp("job")
        write_pairs(folder)
        return folder

    @pytest.fixture(scope="class")
    @classmethod
    def trained(cls, folder):
        """What `train` wrote to standard output and standard error."""
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            assert train(folder, *TWO_EPOCHS, *validation(folder)) == 0
        return out.getvalue(), err.getvalue()

    @pytest.fixture(scope="class")
    @classmethod
    def best(cls, folder, trained):
        with (folder / "run" / "metrics.csv").open() as file:
            rows = list(csv.DictReader(file))
        assert [row["epoch"] for row in rows] == ["1", "2"]
        return max(float(row["val_mean_iou"]) for row in rows)

    def test_train_leaves_a_run_and_prints_its_best_scores(self, folder, trained, best):
        run = folder / "run"
        files = {path.name for path in run.iterdir()}
        assert files == {
            *("best.keras", "config.toml", "curves.png", "metrics.csv"),
            *("report.html", "tensorboard", "image_scores.npz"),
        }
        assert tomllib.loads((run / "config.toml").read_text())["settings"]["model"] == "fcn32s"
        assert f"mean IoU                   {best:.4f}" in trained[0]
        assert "IoU of class 2" in trained[0]

    def test_or_resume_takes_the_same_command_from_another_folder(
        self, folder, trained, monkeypatch, capsys
    ):
        monkeypatch.chdir(folder / "images")
        same = [*TWO_EPOCHS, "--or-resume", "--val-labels", "../labels", "--val-images", "."]
        assert train(folder, *same) == 0
        assert "is finished" in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("changed", "told"),
        [
            (["--epochs", "3"], "epochs=3 instead of 2"),
            (["--set", "seed=7"], "seed=7 instead of 0"),
            (["--val-images", "elsewhere"], "val_images=elsewhere instead of /"),
            (["--weights", "imagenet"], "weights=imagenet instead of None"),
        ],
    )
    def test_or_resume_refuses_what_the_run_would_ignore(
        self, folder, trained, changed, told, capsys
    ):
        options = [*TWO_EPOCHS, *validation(folder), "--or-resume", *changed]
        assert train(folder, *options) == 1
        error = error_of(capsys)
        assert "--or-resume must come with the recipe and the settings of the run" in error
        assert told in error
        settings = tomllib.loads((folder / "run" / "config.toml").read_text())["settings"]
        assert settings["epochs"] == 2

    def test_or_resume_keeps_the_best_model_of_a_run_as_weights(self, folder, trained, capsys):
        start = ["--from", str(folder / "run"), "--weights", "imagenet", *TWO_EPOCHS]
        assert train(folder, *start, "--epochs", "1", out="second") == 0
        assert train(folder, *start, "--epochs", "1", "--or-resume", out="second") == 0
        assert "is finished" in capsys.readouterr().err

    def test_or_resume_refuses_another_recipe(self, folder, trained, capsys):
        out = str(folder / "run")
        assert main(["train", "paper_voc_fcn8s", "--out", out, "--or-resume"]) == 1
        assert "Received: paper_voc_fcn8s instead of folder, for" in error_of(capsys)

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
def test_the_best_epoch_of_a_run_is_printed_and_not_the_last(tmp_path, capsys):
    run = RunWriter(tmp_path / "run")
    run.path.mkdir()
    scores = [{"val_mean_iou": value, "val_pixel_accuracy": 0.75} for value in (0.25, 0.5, 0.125)]
    run.write_history([{"epoch": n, "loss": 1.0, **row} for n, row in enumerate(scores, start=1)])
    print_best_epoch(run)
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
        for command in (["compare", "camvid", "camvid"], ["push", "camvid", "hf://a/b"]):
            assert main(command) == 1
            error = error_of(capsys)
            assert "RUN must be a folder written by" in error
            assert error.endswith("in it. Received: camvid.")

    def test_bad_settings(self, data, capsys):
        assert train(data, "--ignore-class", "255", "--epochs", "0") == 1
        assert "`epochs` must be at least 1. Received: epochs=0" in error_of(capsys)
        assert train(data, "--val-images", "somewhere") == 1
        assert "must be given together" in error_of(capsys)
        assert train(data, "--label-space", "camvid") == 1
        assert "(--label-space) must be used without" in error_of(capsys)
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
def test_a_misspelt_setting_is_answered_with_the_one_that_is_like_it(data, capsys):
    assert train(data, "--set", "weight_decey=0") == 1
    assert "Did you mean weight_decay?" in error_of(capsys)


@pytest.mark.any_backend
class TestTransforms:
    OPTIONS = ("--random-scale", "0.5", "1.5", "--crop", "32", "48", "--jitter")

    def test_training_on_windows_of_one_size_batches_images_of_any(self, data, three_layers):
        for folder in ("images", "labels"):
            picture = Image.open(data / folder / "a.png")
            picture.crop((0, 0, 30, 33)).save(data / folder / "a.png")
        options = ["--ignore-class", "255", "--batch-size", "4", *self.OPTIONS]
        assert train(data, *options) == 0
        settings = tomllib.loads((data / "run" / "config.toml").read_text())["settings"]
        assert (settings["random_scale"], settings["crop"], settings["jitter"]) == (
            [0.5, 1.5],
            [32, 48],
            True,
        )

    @pytest.mark.parametrize(
        ("options", "reason"),
        [
            (
                ("--random-scale", "2", "1"),
                "`random_scale` must be a smallest and a largest factor",
            ),
            (("--crop", "0", "5"), "`crop` must be at least 1 each"),
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
@pytest.mark.parametrize("channels", [1, 4])
def test_images_of_other_channels_train_and_are_shown(channels, tmp_path, three_layers, capsys):
    """From the check of the files to the pictures of the report and of a prediction."""
    write_pairs(tmp_path)
    for path in (tmp_path / "images").iterdir():
        Image.open(path).convert("L" if channels == 1 else "RGBA").save(path.with_suffix(".png"))
    option = ["--channels", str(channels)]
    classes = ["--num-classes", "3", "--ignore-class", "255", *option]
    assert main(["data", "preview", str(tmp_path), *classes, "--out", str(tmp_path / "s.png")]) == 0
    folders = [str(tmp_path / name) for name in ("images", "labels")]
    validation = ["--val-images", folders[0], "--val-labels", folders[1]]
    assert train(tmp_path, "--ignore-class", "255", *option, *validation) == 0
    assert "cannot be drawn" not in capsys.readouterr().err
    assert (tmp_path / "run" / "report.html").is_file()
    photo = next((tmp_path / "images").glob("*.png"))
    out = tmp_path / "predictions"
    assert main(["predict", str(tmp_path / "run"), str(photo), "--out", str(out)]) == 0
    assert list(out.glob("*overlay*"))
