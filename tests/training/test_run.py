"""The run folder: what is in it, and that every file in it is whole at every moment."""

import contextlib
import csv
import os
import resource
import shutil

import keras
import numpy as np
import pytest

from keras_fcn.label_spaces import generic
from keras_fcn.training import Recipe, StagedRecipe
from keras_fcn.training import run_writer as module
from keras_fcn.training.checkpoint import read_facts
from keras_fcn.training.run import Run
from keras_fcn.training.run_writer import RunWriter, StagesWriter

pytestmark = pytest.mark.any_backend

SCORES = {"val_mean_iou": 0.125, "val_pixel_accuracy": 0.5}
HISTORY = [{"epoch": 1, "loss": 0.5}, {"epoch": 2, "loss": 0.25, **SCORES}]


def variables(count):
    return {
        "model": [keras.Variable(np.full(1000, number), trainable=False) for number in range(count)]
    }


@pytest.fixture
def run(tmp_path):
    """A run with a checkpoint."""
    run = RunWriter(tmp_path / "run")
    run.create("folder", Recipe(images="i", labels="l", num_classes=3), generic(3, None))
    run.save_state(variables(1), {"epoch": 0})
    return run


@contextlib.contextmanager
def files_of_at_most(size):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@contextlib.contextmanager
def without_permission(folder):
    """Root may write everywhere: become somebody else for a while."""
    mode = folder.stat().st_mode
    folder.chmod(0o555)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)
        folder.chmod(mode)


class TestReplacing:
    def test_until_a_checkpoint_is_whole_the_last_one_is_in_its_place(self, run, monkeypatch):
        save_state, seen = module.save_state, []

        def watched(path, *arguments):
            save_state(path, *arguments)
            seen.append((read_facts(run.state_path)["epoch"], read_facts(path)["epoch"]))

        monkeypatch.setattr(module, "save_state", watched)
        run.save_state(variables(1), {"epoch": 1})
        assert seen == [(0, 1)]
        assert read_facts(run.state_path)["epoch"] == 1
        assert not list(run.path.glob(".unfinished*"))

    def test_a_full_disk_leaves_the_last_checkpoint(self, run):
        with (
            files_of_at_most(run.state_path.stat().st_size),
            pytest.raises(OSError, match=r"last\.npz cannot be written.*File too large") as caught,
        ):
            run.save_state(variables(2), {"epoch": 1})
        assert f"keras-fcn train --resume {run.path}" in str(caught.value)
        assert read_facts(run.state_path)["epoch"] == 0
        assert not list(run.path.glob(".unfinished*"))

    def test_a_full_disk_under_the_model_leaves_none(self, run):
        model = keras.Sequential([keras.Input((100,)), keras.layers.Dense(1000)])
        with files_of_at_most(2**16), pytest.raises(OSError, match=r"best\.keras cannot be"):
            run.save_model(model)
        assert not run.has_model
        assert not list(run.path.glob(".unfinished*"))

    def test_a_full_disk_under_the_events_is_one_line(self, run, blank_plots):
        # Table and curves fit; the events of four scores do not.
        row = {"epoch": 1, "loss": 0.5, "a": 1.0, "b": 1.0, "c": 1.0}
        with files_of_at_most(100), pytest.raises(OSError, match="tensorboard cannot") as caught:
            run.write_history([row])
        assert "File too large. What" in str(caught.value)
        assert f"keras-fcn train --resume {run.path}" in str(caught.value)
        assert "function_node" not in str(caught.value)

    def test_the_run_to_resume_is_that_of_all_stages(self, run, tmp_path):
        stages = StagesWriter(tmp_path / "staged")
        stages.create("two", StagedRecipe(stages={"32s": run.recipe()[1]}))
        stage = stages.run("32s")
        shutil.copytree(run.path, stage.path)
        with files_of_at_most(64), pytest.raises(OSError, match="too large") as caught:
            stage.save_state(variables(1), {"epoch": 1})
        assert str(caught.value).endswith(f"`keras-fcn train --resume {stages.path}`.")

    def test_a_folder_that_cannot_be_written_any_more(self, run):
        refused = pytest.raises(OSError, match=r"last\.npz cannot be written.*Permission denied")
        with without_permission(run.path), refused:
            run.save_state(variables(1), {"epoch": 1})
        assert read_facts(run.state_path)["epoch"] == 0

    def test_an_error_that_is_not_the_disks_keeps_its_words(self, run):
        def failing(path):
            path.write_text("half")
            raise ValueError("a model of another kind")

        with pytest.raises(ValueError, match=r"^a model of another kind$"):
            run.write_report(failing)
        assert not run.is_finished
        assert not list(run.path.glob(".unfinished*"))

    def test_what_an_interrupted_process_left_is_removed(self, run):
        (run.path / ".unfinished-last.npz").write_bytes(b"half")
        run.clean()
        assert sorted(path.name for path in run.path.iterdir()) == ["config.toml", "last.npz"]


class TestHistory:
    def test_it_comes_back_without_what_was_not_measured(self, run):
        run.write_history(HISTORY)
        assert run.history() == HISTORY
        with (run.path / "metrics.csv").open() as file:
            rows = list(csv.DictReader(file))
        assert [row["val_mean_iou"] for row in rows] == ["", "0.125"]

    def test_it_is_written_anew(self, run):
        run.write_history(HISTORY)
        run.write_history(HISTORY[:1])
        assert run.history() == HISTORY[:1]

    def test_in_a_folder_whose_name_is_not_utf_8(self, run):
        folder = run.path.rename(run.path.with_name(os.fsdecode(b"stra\xdfe")))
        RunWriter(folder).write_history(HISTORY)
        assert Run(folder).history() == HISTORY
        assert len(list((folder / "tensorboard").iterdir())) == 1

    def test_a_run_that_has_none(self, run):
        run.write_history([])
        assert run.history() == []


class TestConfiguration:
    def test_it_repeats_the_run(self, run):
        name, recipe = run.recipe()
        assert (name, recipe.images, recipe.num_classes) == ("folder", "i", 3)
        assert run.label_space() == generic(3, None)

    def test_a_folder_is_made_once(self, run):
        with pytest.raises(FileExistsError, match="made by another process meanwhile"):
            run.create("folder", Recipe(num_classes=3), generic(3, None))
        assert run.has_state

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("[settings", "cannot be read as TOML"),
            ('recipe = "folder"', "must hold a recipe"),
            ('recipe = "folder"\n[settings]\nepochs = 0', "must hold a recipe.*`epochs`"),
        ],
    )
    def test_a_damaged_one_is_named(self, run, text, message):
        (run.path / "config.toml").write_text(text)
        with pytest.raises(ValueError, match=f"config.toml {message}"):
            run.recipe()

    def test_one_without_classes_is_named(self, run):
        (run.path / "config.toml").write_text('recipe = "folder"\n[settings]\n')
        with pytest.raises(ValueError, match=r"config.toml must hold the classes"):
            run.label_space()
        assert run.environment() == {}
