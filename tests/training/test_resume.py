"""Interrupted runs go on, and failed ones say why and leave nothing half-written."""

import contextlib
import os
import shutil
import tomllib

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import variables_as_numpy, write_pairs
from PIL import Image
from training.small_runs import (
    FAST,
    SIZE,
    STEPS,
    arrays,
    assert_equal,
    error_of,
    interrupted_at,
    of_three_layers,
    resume,
    rows,
    small_recipe,
    train,
    vars_of,
)
from training.test_run import files_of_at_most, without_permission

from keras_fcn.cli import main
from keras_fcn.data import find_pairs
from keras_fcn.label_spaces import generic
from keras_fcn.training import Recipe, loop, validation
from keras_fcn.training.checkpoint import read_facts
from keras_fcn.training.recipe import replace
from keras_fcn.training.run import Run
from keras_fcn.training.run_writer import RunWriter
from keras_fcn.training.splits import Split

# Small networks are not initialized from VGG-16.
pytestmark = pytest.mark.filterwarnings("ignore:.*random initial values:UserWarning")


def edit_settings(run, name, value):
    """Writes a setting into `config.toml`, as a user does in an editor."""
    path = run.path / "config.toml"
    lines = path.read_text().splitlines()
    lines = [line for line in lines if not line.startswith(f"{name} = ")]
    lines.insert(lines.index("[settings]") + 1, f"{name} = {value}")
    path.write_text("\n".join(lines))


@of_three_layers
class TestResume:
    @pytest.fixture(scope="class")
    @classmethod
    def unbroken(cls, three_layers, blank_plots, tmp_path_factory):
        """The recipe, which is that of every test here, and a run that nothing interrupted."""
        folder = tmp_path_factory.mktemp("unbroken")
        # Steps large enough that the losses of the two batches differ.
        recipe = replace(small_recipe(folder), ema=0.9, jitter=True, learning_rate=1e-2)
        return recipe, train(recipe, folder / "run")

    @pytest.mark.parametrize(
        ("owner", "function", "call", "checkpoint_every", "steps_to_do"),
        [
            # In the last step, with the state of the epoch before or of the step before.
            (loop.Steps, "on_train_batch_end", 4, None, [0, 1]),
            pytest.param(loop.Steps, "on_train_batch_end", 4, 1, [0], marks=pytest.mark.slow),
            # Trained, but not validated; and validated, but not written down.
            (validation, "evaluate", 2, None, []),
            pytest.param(RunWriter, "write_history", 1, 1, [0, 1], marks=pytest.mark.slow),
        ],
    )
    def test_goes_on_to_the_weights_of_an_unbroken_run(
        self, unbroken, tmp_path, monkeypatch, owner, function, call, checkpoint_every, steps_to_do
    ):
        recipe, expected = unbroken
        with interrupted_at(monkeypatch, owner, function, call):
            train(recipe, tmp_path / "run", checkpoint_every=checkpoint_every)
        after_step, steps = loop.Steps.on_train_batch_end, []

        def counting(self, batch, logs=None):
            steps.append(batch)
            after_step(self, batch, logs)

        monkeypatch.setattr(loop.Steps, "on_train_batch_end", counting)
        run = resume(tmp_path / "run", checkpoint_every=checkpoint_every)
        assert steps == steps_to_do
        assert run.is_finished
        assert_equal(arrays(run), arrays(expected))
        assert_equal(
            variables_as_numpy(run.load_model()), variables_as_numpy(expected.load_model())
        )
        for row, wanted in zip(rows(run), rows(expected), strict=True):
            numbers = {name: float(value) for name, value in row.items()}
            wanted = {name: float(value) for name, value in wanted.items()}
            assert numbers == pytest.approx(wanted, abs=1e-5, nan_ok=True)

    @pytest.mark.any_backend
    def test_of_a_run_without_checkpoint_begins_anew(self, unbroken, tmp_path):
        recipe, expected = unbroken
        run = RunWriter(tmp_path / "run")
        run.create("folder", recipe, generic(3, 255))
        (run.path / ".unfinished-last.npz").write_bytes(b"half")
        assert_equal(arrays(resume(run.path)), arrays(expected))
        assert not list(run.path.glob(".unfinished*"))

    @pytest.mark.any_backend
    def test_while_it_is_trained_is_refused(self, unbroken, tmp_path, capsys):
        recipe, run = unbroken
        path, codes = tmp_path / "run", []

        class ResumesIt(keras.callbacks.Callback):
            def on_epoch_begin(self, epoch, logs=None):
                codes.append(main(["train", "--resume", str(path)]))

        trained = train(recipe, path, callbacks=[ResumesIt()])
        assert codes == [1, 1]
        assert capsys.readouterr().err.count("another process trains it now") == 2
        assert_equal(arrays(trained), arrays(run))

    @pytest.mark.any_backend
    def test_refuses_other_data_and_a_damaged_checkpoint(self, unbroken, tmp_path, capsys):
        recipe, expected = unbroken
        # As many as before, one of which is another.
        images, labels = write_pairs(tmp_path / "others", "abd", SIZE)
        run = Run(tmp_path / "run")
        shutil.copytree(expected.path, run.path)
        config = (run.path / "config.toml").read_text()
        config = config.replace(recipe.images, str(images)).replace(recipe.labels, str(labels))
        (run.path / "config.toml").write_text(config)
        assert main(["train", "--resume", str(run.path)]) == 1
        assert "must resume with the data it was trained on, 3 training images" in error_of(capsys)

        shutil.copy(expected.path / "config.toml", run.path)
        state = bytearray((run.path / "last.npz").read_bytes())
        state[len(state) // 2] ^= 1
        (run.path / "last.npz").write_bytes(state)
        assert main(["train", "--resume", str(run.path)]) == 1
        assert "last.npz is damaged" in error_of(capsys)

    @pytest.mark.any_backend
    @pytest.mark.parametrize(
        ("name", "edited", "was"),
        [
            ("fc_units", "32", "16"),
            ("model", "'fcn16s'", "'fcn32s'"),
            ("class_weights", "'median_frequency'", "None"),
        ],
    )
    def test_refuses_a_setting_that_the_checkpoint_holds(
        self, unbroken, tmp_path, capsys, name, edited, was
    ):
        run = Run(shutil.copytree(unbroken[1].path, tmp_path / "run"))
        edit_settings(run, name, edited)
        assert main(["train", "--resume", str(run.path)]) == 1
        assert f"{name}={edited} instead of {was}. Put it back" in error_of(capsys)

    @pytest.mark.any_backend
    @pytest.mark.parametrize("has_state", [True, False])
    def test_refuses_other_classes(self, unbroken, tmp_path, capsys, has_state):
        run = Run(shutil.copytree(unbroken[1].path, tmp_path / "run"))
        if not has_state:
            run.state_path.unlink()
            (run.path / "report.html").unlink()
        edit_settings(run, "num_classes", "4")
        assert main(["train", "--resume", str(run.path)]) == 1
        assert "begun with. Received: num_classes=4 instead of 3" in error_of(capsys)

    def test_takes_data_that_were_moved(self, unbroken, tmp_path, monkeypatch, capsys):
        recipe, expected = small_recipe(tmp_path), unbroken[1]
        recipe = replace(recipe, ema=0.9, jitter=True, learning_rate=1e-2)
        with interrupted_at(monkeypatch, loop.Steps, "on_train_batch_end", 3):
            train(recipe, tmp_path / "run")
        for folder in ("train", "val"):
            os.renames(tmp_path / folder, tmp_path / "moved" / folder)
        resumes = ["train", "--resume", str(tmp_path / "run"), "--keep-state"]
        config = (tmp_path / "run" / "config.toml").read_text()
        others, labels = write_pairs(tmp_path / "others", "abd", SIZE)
        folders = {"images": "moved/train/images", "labels": "moved/train/labels"}
        folders |= {"val_images": "moved/val/images", "val_labels": "moved/val/labels"}
        monkeypatch.chdir(tmp_path)
        options = {f"--{name.replace('_', '-')}": folder for name, folder in folders.items()}
        for wrong, told in (
            ({}, "must be a folder"),
            (options | {"--images": str(others), "--labels": str(labels)}, "must resume with the"),
            (options | {"--data-dir": "."}, "`data_dir` (--data-dir) must be a folder that the"),
            (options | {"--epochs": "3"}, "a run keeps its other settings"),
        ):
            assert main([*resumes, *(word for pair in wrong.items() for word in pair)]) == 1
            assert told in error_of(capsys)
            assert (tmp_path / "run" / "config.toml").read_text() == config
        assert main([*resumes, *(word for pair in options.items() for word in pair)]) == 0
        assert_equal(arrays(Run(tmp_path / "run")), arrays(expected))
        settings = tomllib.loads((tmp_path / "run" / "config.toml").read_text())["settings"]
        assert {name: settings[name] for name in folders} == {
            name: str(tmp_path / folder) for name, folder in folders.items()
        }
        assert main(resumes) == 0

    @pytest.mark.any_backend
    @pytest.mark.filterwarnings("ignore:camvid is built without its split test:UserWarning")
    def test_of_a_data_set_by_name_within_an_epoch(self, tmp_path, monkeypatch):
        for split, names in {"train": "abcde", "val": "fg"}.items():
            images, labels = write_pairs(tmp_path / split, names, SIZE)
            os.renames(images, tmp_path / "camvid" / split)
            os.renames(labels, tmp_path / "camvid" / f"{split}annot")
        for path in tmp_path.glob("camvid/*annot/*.png"):
            label_map = np.asarray(Image.open(path))
            Image.fromarray(np.where(label_map == 255, 11, label_map)).save(path)
        settings = {name: FAST[name] for name in ("padding", "filters", "fc_units")}
        recipe = Recipe(
            data="camvid",
            manual_dir=str(tmp_path / "camvid"),
            data_dir=str(tmp_path / "tfds"),
            model="fcn32s",
            batch_size=2,
            epochs=1,
            jitter=True,
            **settings,
        )
        expected = train(recipe, tmp_path / "unbroken")
        with interrupted_at(monkeypatch, loop.Steps, "on_train_batch_end", 2):
            train(recipe, tmp_path / "run", checkpoint_every=1)
        assert read_facts(tmp_path / "run" / "last.npz")["step"] == 1
        os.rename(tmp_path / "tfds", tmp_path / "moved")
        run = resume(tmp_path / "run", folders={"data_dir": tmp_path / "moved"})
        assert run.recipe()[1].data_dir == str(tmp_path / "moved")
        assert_equal(arrays(run), arrays(expected))
        assert "camvid 1.0.0, train" in read_facts(run.state_path)["data"]
        assert "f.png" in (run.path / "report.html").read_text()

    @pytest.mark.any_backend
    def test_refuses_settings_and_a_folder_without_a_run(self, tmp_path, capsys):
        assert main(["train", "--resume", str(tmp_path), "--epochs", "3"]) == 1
        assert "--resume must be given alone" in error_of(capsys)
        assert main(["train", "--resume", str(tmp_path / "absent")]) == 1
        assert "RUN must be a folder written by" in error_of(capsys)


@of_three_layers
class TestMisfortune:
    """One clear line, and a last checkpoint that is whole."""

    def test_a_loss_that_is_not_a_number(self, recipe, tmp_path, monkeypatch, capsys):
        batches = Split.training_batches

        def poisoned(split, recipe, epoch, *place):
            found = batches(split, recipe, epoch, *place)
            if epoch == 0:
                return found
            return found.enumerate().map(lambda step, batch: (poison(step, batch[0]), batch[1]))

        def poison(step, image):
            """Floating-point images, those of the second batch not numbers."""
            image = tf.cast(image, tf.float32)
            return tf.where(step == 1, image * float("nan"), image)

        monkeypatch.setattr(Split, "training_batches", poisoned)
        order = Split(find_pairs(recipe.images, recipe.labels), generic(3, 255))
        (last,) = order.names_of_batch(recipe, epoch=1, step=1)
        with pytest.raises(ValueError, match="finite") as caught:
            train(recipe, tmp_path / "run")
        # In the loss, or first in the weights that the step left behind.
        assert f" step 2 of epoch 2, with {last}" in str(caught.value)
        run = Run(tmp_path / "run")
        assert np.isfinite(np.concatenate([v.ravel() for v in arrays(run).values()])).all()
        assert read_facts(run.state_path)["epoch"] == 0
        assert run.has_model

    def test_a_loss_that_is_not_a_number_before_the_first_checkpoint(self, recipe, tmp_path):
        # The first step makes weights whose products overflow in the second.
        recipe = replace(recipe, learning_rate=1e30)
        with pytest.raises(ValueError, match="is removed, as it had no checkpoint yet") as caught:
            train(recipe, tmp_path / "run")
        # In the loss, or in the weights where ReLU makes 0 of what is not a number.
        assert "must stay finite" in str(caught.value)
        assert " step 2 of epoch 1, with " in str(caught.value)
        assert not (tmp_path / "run").exists()

    @pytest.mark.any_backend
    def test_a_resumed_run_is_kept_and_says_so(self, recipe, tmp_path):
        run = RunWriter(tmp_path / "run")
        run.create("folder", replace(recipe, learning_rate=1e30), generic(3, 255))
        with pytest.raises(ValueError, match=r"run holds no checkpoint yet\. Train with"):
            resume(run.path)
        assert [path.name for path in run.path.iterdir()] == ["config.toml"]

    @pytest.mark.any_backend
    def test_weights_that_are_not_finite_are_never_written(self, recipe, tmp_path, monkeypatch):
        recipe = replace(recipe, val_images=None, val_labels=None)
        save_state = RunWriter.save_state

        def overflowing(run, variables, facts):
            if facts["epoch"] == 1:
                kernel = variables["model"][0]
                kernel.assign(kernel * np.inf)
            save_state(run, variables, facts)

        monkeypatch.setattr(RunWriter, "save_state", overflowing)
        with pytest.raises(ValueError, match="The weights must stay finite"):
            train(recipe, tmp_path / "run")
        assert read_facts(tmp_path / "run" / "last.npz")["epoch"] == 0

    @pytest.mark.any_backend
    @pytest.mark.parametrize(
        ("function", "call", "file"),
        [
            pytest.param("save_state", 2, "last.npz", marks=pytest.mark.gate),
            ("save_model", 1, "best.keras"),
        ],
    )
    def test_a_full_disk(self, recipe, tmp_path, monkeypatch, function, call, file):
        write, calls = getattr(RunWriter, function), []

        def on_a_full_disk(*args):
            calls.append(function)
            full = files_of_at_most(2**10) if len(calls) == call else contextlib.nullcontext()
            with full:
                write(*args)

        monkeypatch.setattr(RunWriter, function, on_a_full_disk)
        with pytest.raises(OSError, match=f"{file} cannot be written"):
            train(recipe, tmp_path / "run")
        self.check_that_it_goes_on(tmp_path / "run", monkeypatch)

    @pytest.mark.any_backend
    def test_a_folder_in_which_none_can_be_made(self, recipe, tmp_path, capsys):
        folder = tmp_path / "protected"
        folder.mkdir()
        options = [f"--{name}={value}" for name, value in vars_of(recipe).items()]
        with without_permission(folder):
            assert main(["train", *options, "--out", str(folder / "run")]) == 1
        assert "Permission denied" in error_of(capsys)
        assert not list(folder.iterdir())

    @pytest.mark.any_backend
    def test_a_lost_validation_set(self, recipe, tmp_path, monkeypatch):
        evaluate, calls = validation.evaluate, []

        def losing(*args, **kwargs):
            calls.append(1)
            if len(calls) == 2:
                os.rename(recipe.val_labels, tmp_path / "lost")
            return evaluate(*args, **kwargs)

        monkeypatch.setattr(validation, "evaluate", losing)
        with pytest.raises(ValueError, match="A file cannot be opened") as caught:
            train(recipe, tmp_path / "run")
        assert recipe.val_labels in str(caught.value)
        assert "\n" not in str(caught.value)
        # The epoch whose validation failed is trained: only its validation comes again.
        facts = read_facts(tmp_path / "run" / "last.npz")
        assert (facts["epoch"], facts["step"], len(facts["history"])) == (1, STEPS, 1)
        with pytest.raises(FileNotFoundError):
            resume(tmp_path / "run")
        os.rename(tmp_path / "lost", recipe.val_labels)
        self.check_that_it_goes_on(tmp_path / "run", monkeypatch)

    @staticmethod
    def check_that_it_goes_on(path, monkeypatch):
        monkeypatch.undo()
        assert not list(path.glob(".unfinished*"))
        assert resume(path).is_finished
