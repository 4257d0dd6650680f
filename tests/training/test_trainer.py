import contextlib
import csv
import functools
import json
import os
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import NARROW_FILTERS, randomize, variables_as_numpy, write_pairs
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util.tensor_util import make_ndarray
from training.test_run import files_of_at_most, without_permission
from training.three_layers import FinerThreeLayers

from keras_fcn import FCN16s
from keras_fcn.cli import main
from keras_fcn.data import find_pairs
from keras_fcn.label_spaces import generic
from keras_fcn.training import Recipe, StagedRecipe, loop, trainer, validation
from keras_fcn.training import run as run_module
from keras_fcn.training.checkpoint import read_facts
from keras_fcn.training.evaluate import Scores
from keras_fcn.training.recipe import replace
from keras_fcn.training.run import Run, Stages
from keras_fcn.training.splits import Split
from keras_fcn.training.trained import open_model
from keras_fcn.training.user_code import UserCode

# Small networks are not initialized from VGG-16.
pytestmark = pytest.mark.filterwarnings("ignore:.*random initial values:UserWarning")

# Two steps an epoch, the second of one image.
FAST = {"num_classes": 3, "ignore_class": 255, "padding": "same", "fc_units": 16, "epochs": 2}
FAST |= {"filters": NARROW_FILTERS}
STEPS = 2
HEIGHT, WIDTH = SIZE = (8, 10)
# Their last checkpoints are what is compared.
train = functools.partial(trainer.train, keep_state=True)
resume = functools.partial(trainer.resume, keep_state=True)
of_three_layers = pytest.mark.usefixtures("three_layers", "blank_plots")


def small_recipe(folder):
    images, labels = write_pairs(folder / "train", "abc", SIZE)
    val_images, val_labels = write_pairs(folder / "val", "de", SIZE, seed=1)
    return Recipe(
        images=str(images),
        labels=str(labels),
        val_images=str(val_images),
        val_labels=str(val_labels),
        model="fcn32s",
        batch_size=2,
        **FAST,
    )


@pytest.fixture
def recipe(tmp_path):
    return small_recipe(tmp_path)


def arrays(run):
    """What is in the last checkpoint, by name."""
    with np.load(run.path / "last.npz", allow_pickle=False) as state:
        return {name: state[name] for name in state.files if name != "facts.json"}


def assert_equal(states, others):
    """Bit for bit on TensorFlow and PyTorch."""
    assert states.keys() == others.keys()
    for name, value in states.items():
        if keras.backend.backend() == "jax":
            np.testing.assert_allclose(value, others[name], rtol=0, atol=1e-6, err_msg=name)
        else:
            np.testing.assert_array_equal(value, others[name], err_msg=name)


def rows(run):
    with (run.path / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


class Stop(BaseException):
    """An interruption that nothing handles, like Ctrl-C."""


@contextlib.contextmanager
def interrupted_at(monkeypatch, owner, name, call):
    """Ends the run when a function is called for the `call`-th time."""
    function, calls = getattr(owner, name), []

    def interrupting(*args, **kwargs):
        calls.append(name)
        if len(calls) == call:
            raise Stop
        return function(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, interrupting)
        with pytest.raises(Stop):
            yield


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
            pytest.param(Run, "write_history", 1, 1, [0, 1], marks=pytest.mark.slow),
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
        run = Run(tmp_path / "run")
        run.create("folder", recipe, generic(3, 255))
        (run.path / ".unfinished-last.npz").write_bytes(b"half")
        assert_equal(arrays(resume(run.path)), arrays(expected))
        assert not list(run.path.glob(".unfinished*"))

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
        run = resume(tmp_path / "run")
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
    def test_weights_that_are_not_finite_are_never_written(self, recipe, tmp_path, monkeypatch):
        recipe = replace(recipe, val_images=None, val_labels=None)
        save_state = Run.save_state

        def overflowing(run, variables, facts):
            if facts["epoch"] == 1:
                kernel = variables["model"][0]
                kernel.assign(kernel * np.inf)
            save_state(run, variables, facts)

        monkeypatch.setattr(Run, "save_state", overflowing)
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
        write, calls = getattr(Run, function), []

        def on_a_full_disk(*args):
            calls.append(function)
            full = files_of_at_most(2**10) if len(calls) == call else contextlib.nullcontext()
            with full:
                write(*args)

        monkeypatch.setattr(Run, function, on_a_full_disk)
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


def vars_of(recipe):
    """The settings of the fixture as options of the command line."""
    names = ("images", "labels", "num_classes", "ignore_class", "padding", "fc_units", "model")
    return {name.replace("_", "-"): getattr(recipe, name) for name in names}


def error_of(capsys):
    lines = capsys.readouterr().err.strip().splitlines()
    errors = [line for line in lines if line.startswith("keras-fcn: error: ")]
    assert len(errors) == 1, lines
    return errors[0]


@pytest.mark.any_backend
@of_three_layers
class TestStages:
    def test_each_stage_starts_from_the_best_model_of_the_one_before(
        self, recipe, tmp_path, monkeypatch
    ):
        coarse = replace(recipe, epochs=1)
        # A stage that learns next to nothing keeps what it was given.
        fine = replace(coarse, model="fcn16s", weights="fcn32s", learning_rate=1e-8)
        staged = StagedRecipe(stages={"fcn32s": coarse, "fcn16s": fine})
        with interrupted_at(monkeypatch, loop.Steps, "on_train_batch_end", STEPS + 2):
            train(staged, tmp_path / "run", name="two", checkpoint_every=1)
        stages = resume(tmp_path / "run")
        assert isinstance(stages, Stages)
        first, second = stages.runs()
        assert (first.path.name, second.path.name) == ("fcn32s", "fcn16s")
        assert first.is_finished
        assert second.is_finished
        assert second.recipe()[1].weights == str(first.best_model_path)
        given = variables_as_numpy(first.load_model())
        kept = variables_as_numpy(second.load_model())
        for name in ("fc6/kernel", "score_fr/kernel"):
            np.testing.assert_allclose(kept[name], given[name], atol=1e-6)
        assert np.abs(given["score_fr/kernel"]).max() > 1e-5
        trained = open_model(tmp_path / "run")
        # What a run that was stopped in its second stage says.
        second.best_model_path.rename(tmp_path / "kept")
        with pytest.raises(FileNotFoundError, match=r"fcn16s has no model yet.*run/fcn32s"):
            open_model(tmp_path / "run")
        assert (type(trained.model), trained.label_space.num_classes) == (FinerThreeLayers, 3)

    def test_a_first_stage_that_cannot_begin_leaves_no_folder(self, recipe, tmp_path):
        staged = StagedRecipe(stages={"fcn32s": replace(recipe, images=str(tmp_path / "absent"))})
        with pytest.raises(FileNotFoundError):
            train(staged, tmp_path / "run")
        assert not (tmp_path / "run").exists()

    def test_a_finer_model_wants_a_coarser_one(self, recipe, tmp_path):
        with pytest.raises(ValueError, match=r"pass --from RUN"):
            train(replace(recipe, model="fcn16s", weights="fcn32s"), tmp_path / "run")
        with pytest.raises(FileNotFoundError, match="must be a folder written by"):
            train(recipe, tmp_path / "run", start=tmp_path)
        assert not (tmp_path / "run").exists()


@of_three_layers
def test_frozen_layers_stay_and_the_others_change(recipe, tmp_path):
    recipe = replace(recipe, freeze="block1", val_images=None, val_labels=None)
    keras.utils.set_random_seed(recipe.seed)
    before = variables_as_numpy(loop.build_model(recipe, {"semantic": generic(3, 255)}))
    after = variables_as_numpy(train(recipe, tmp_path / "run").load_model())
    assert before.keys() == after.keys()
    changed = {name.split("/")[0] for name in before if (before[name] != after[name]).any()}
    # The scores start at zero: only in the second step does anything reach what lies below.
    assert changed == {"fc6", "score_fr"}


@pytest.mark.any_backend  # models/test_deep_supervision.py trains them on each.
def test_coarser_heads_learn_too_and_the_model_stays_an_fcn(recipe, tmp_path):
    recipe = replace(recipe, val_images=None, val_labels=None, steps=1, freeze="backbone")
    recipe = replace(recipe, model="fcn16s", deep_supervision=0.5, region_loss="dice")
    run = train(recipe, tmp_path / "run")
    assert type(run.load_model()) is FCN16s
    # Cross-entropy of three classes at the start, 1 - Dice of a third each; one head at 0.5.
    first = np.log(3) + 2 / 3
    assert run.history()[0]["loss"] == pytest.approx(1.5 * first, rel=0.05)


@of_three_layers
class TestHowItLearns:
    @pytest.mark.any_backend
    def test_the_rate_of_a_summed_loss_is_told_as_that_of_a_mean(self, recipe, tmp_path, capsys):
        changes = {"optimizer": "coupled_sgd", "normalization": "sum", "learning_rate": 1e-6}
        loop.Training.begin(
            Run(tmp_path / "run"), replace(recipe, **changes), None, None, None, UserCode()
        )
        # 1e-6 times 8 x 10 pixels times 2 images.
        printed = capsys.readouterr().err
        assert printed.count("amounts to 0.00016 for the mean over the pixels, at 8x10") == 1

    @pytest.mark.any_backend
    def test_a_run_may_end_within_an_epoch_and_validate_rarely_but_at_its_end(
        self, recipe, tmp_path
    ):
        run = train(replace(recipe, steps=5, validate_every=2), tmp_path / "run")
        facts = read_facts(run.state_path)
        assert (facts["epoch"], facts["step"]) == (2, 1)
        assert [row["epoch"] for row in rows(run)] == ["1", "2", "3"]
        assert [bool(row["val_mean_iou"]) for row in rows(run)] == [False, True, True]
        assert [("val_mean_iou" in row) for row in run.history()] == [False, True, True]

    @pytest.mark.any_backend
    def test_the_model_of_the_best_epoch_is_kept(self, recipe, tmp_path, monkeypatch):
        # Shares of right pixels, whose order is that of mean IoU.
        right, kept, save_model = iter([5, 8, 2, 8]), [], Run.save_model

        def evaluate(*args, **kwargs):
            count = next(right)
            return Scores(np.array([[count, 10 - count, 0], [0, 0, 0], [0, 0, 0]]))

        def keep(run, model):
            kept.append(variables_as_numpy(model))
            save_model(run, model)

        monkeypatch.setattr(validation, "evaluate", evaluate)
        monkeypatch.setattr(Run, "save_model", keep)
        run = train(replace(recipe, epochs=4), tmp_path / "run")
        assert len(kept) == 2
        assert (kept[0]["score_fr/kernel"] != kept[1]["score_fr/kernel"]).any()
        assert_equal(variables_as_numpy(run.load_model()), kept[1])

    @pytest.mark.any_backend
    def test_pixels_are_weighted_by_median_frequency_of_their_class(self, recipe, tmp_path):
        paths = sorted(Path(recipe.labels).iterdir())
        Image.fromarray(np.full(SIZE, 1, "uint8")).save(paths[0])
        changes = {"class_weights": "median_frequency", "class_weights_power": 0.5}
        recipe = replace(recipe, val_images=None, val_labels=None, batch_size=3, **changes)
        run = train(replace(recipe, steps=1), tmp_path / "run")
        label_maps = [np.asarray(Image.open(path)) for path in paths]
        counts = np.array([[np.sum(labels == c) for c in range(3)] for labels in label_maps])
        where_present = np.sum((counts > 0) * counts.sum(1, keepdims=True), axis=0)
        frequencies = counts.sum(0) / where_present
        weights = np.sqrt(np.median(frequencies) / frequencies)
        assert len(set(weights)) > 1
        np.testing.assert_allclose(read_facts(run.state_path)["class_weights"], weights, rtol=1e-6)
        # All classes are as likely at the start.
        loss = np.log(3) * np.sum(counts * weights) / counts.sum()
        assert run.history()[0]["loss"] == pytest.approx(loss, rel=1e-5)


@pytest.mark.any_backend
@pytest.mark.usefixtures("three_layers")
class TestWhatARunLeaves:
    @pytest.fixture(scope="class")
    @classmethod
    def run(cls, three_layers, tmp_path_factory):
        folder = tmp_path_factory.mktemp("leaves")
        recipe = replace(small_recipe(folder), test_scales=(1.0, 1.5), test_flip=True)
        # Large steps, so that not all images are predicted alike.
        recipe = replace(recipe, ema=0.5, learning_rate=0.1)
        return train(recipe, folder / "run", name="folder")

    def test_a_configuration_that_repeats_it(self, run, tmp_path):
        arguments = ["train", str(run.path / "config.toml"), "--out", str(tmp_path / "again")]
        arguments.append("--keep-state")
        assert main(arguments) == 0
        assert_equal(arrays(Run(tmp_path / "again")), arrays(run))

    def test_scores_of_the_kept_model_on_the_validation_images(self, run):
        recipe, model = run.recipe()[1], run.load_model()
        best = max(run.history(), key=lambda row: row["val_mean_iou"])
        matrix = np.array(expected_matrix(model, recipe.val_images, recipe.val_labels))
        union = matrix.sum(0) + matrix.sum(1) - np.diag(matrix)
        iou = np.diag(matrix)[union > 0] / union[union > 0]
        assert best["val_mean_iou"] == pytest.approx(iou.mean())
        assert best["val_pixel_accuracy"] == pytest.approx(np.trace(matrix) / matrix.sum())
        of_training = np.array(expected_matrix(model, recipe.images, recipe.labels))
        accuracy = np.trace(of_training) / of_training.sum()
        assert best["val_pixel_accuracy"] != pytest.approx(accuracy)

    def test_events_that_tensorboard_reads(self, run):
        events = EventAccumulator(str(run.path / "tensorboard"))
        events.Reload()
        scalars = {
            tag: [(e.step, float(make_ndarray(e.tensor_proto))) for e in events.Tensors(tag)]
            for tag in events.Tags()["tensors"]
        }
        for name in ("loss", "learning_rate", "val_mean_iou", "val_iou/class 1"):
            wanted = [(int(row["epoch"]), pytest.approx(float(row[name]))) for row in rows(run)]
            assert scalars[name] == wanted

    def test_a_report_with_scores_over_views(self, run):
        page = (run.path / "report.html").read_text()
        assert "IoU, test-time augmentation" in page
        assert "d.png" in page
        assert "class_weights_power" in page
        assert "near boundaries" in page
        assert "within 5 pixels" in page

    def test_learning_rates_that_were_learnt_with(self, run):
        # Four steps, none of them warming up: the last of each epoch by the cosine's formula.
        rates = [float(row["learning_rate"]) for row in rows(run)]
        peak = run.recipe()[1].learning_rate
        expected = [peak * (1 + np.cos(np.pi * step / 4)) / 2 for step in (1, 3)]
        assert rates == pytest.approx(expected, rel=1e-4)

    def test_evaluation_by_the_views_of_its_recipe(self, run, capsys, tmp_path):
        recipe = run.recipe()[1]
        # Random weights, whose predictions differ with the view.
        copy = Run(shutil.copytree(run.path, tmp_path / "run"))
        model = copy.load_model()
        randomize(model, seed=0)
        copy.save_model(model)
        data = ["--images", recipe.val_images, "--labels", recipe.val_labels, "--json"]
        printed = []
        for options in (
            [],
            ["--test-scales", "1", "1.5", "--test-flip"],
            ["--test-scales", "1", "--no-test-flip"],
        ):
            assert main(["evaluate", str(copy.path), *data, *options]) == 0
            printed.append(capsys.readouterr().out)
        assert printed[0] == printed[1]
        expected = expected_matrix(model, recipe.val_images, recipe.val_labels)
        assert json.loads(printed[0])["confusion_matrix"] != expected
        assert json.loads(printed[2])["confusion_matrix"] == expected
        image = Path(recipe.val_images, "d.png")
        assert main(["predict", str(copy.path), str(image), "--out", str(tmp_path / "out")]) == 0
        with Image.open(tmp_path / "out" / image.name) as picture:
            assert picture.size == (WIDTH, HEIGHT)


def expected_matrix(model, images, labels):
    """Confusion matrix of the images of a folder, counted pixel by pixel."""
    matrix = np.zeros((3, 3), int)
    for path in Path(images).iterdir():
        image = np.asarray(Image.open(path))
        label_map = np.asarray(Image.open(Path(labels) / path.name))
        logits = keras.ops.convert_to_numpy(model(image[None].astype("float32"), training=False))
        valid = label_map != 255
        np.add.at(matrix, (label_map[valid], logits[0].argmax(-1)[valid]), 1)
    return matrix.tolist()


@pytest.mark.any_backend
@of_three_layers
class TestCommandLine:
    def test_set_changes_settings_and_names_what_it_cannot_take(self, recipe, tmp_path, capsys):
        options = [f"--{name}={value}" for name, value in vars_of(recipe).items()]
        out = ["--out", str(tmp_path / "run")]
        changes = ["--set", "crop=[32, 32]", "--set", "steps=1", "--set", "region_loss=dice"]
        assert main(["train", "folder", *options, *changes, *out]) == 0
        settings = Run(tmp_path / "run").recipe()[1]
        assert (settings.crop, settings.steps, settings.epochs) == ((32, 32), 1, None)
        assert settings.region_loss == "dice"
        capsys.readouterr()
        for change, message in {
            "epochs": "--set must be KEY=VALUE",
            "epoch=3": "'epoch' is not a setting of a recipe",
            "epochs=many": "`epochs` must be an integer. Received: epochs='many'",
        }.items():
            assert main(["train", "folder", *options, "--set", change, *out]) == 1
            assert message in error_of(capsys)

    def test_an_unknown_recipe_is_answered_with_the_known_ones(self, capsys):
        assert main(["train", "paper_vok", "--out", "nowhere"]) == 1
        assert "RECIPE must be one of camvid_fcn8s, folder" in error_of(capsys)
        assert main(["train", "paper_voc"]) == 1
        assert "--out must be given" in error_of(capsys)


@pytest.mark.any_backend
@of_three_layers
class TestTheEnd:
    def test_the_last_checkpoint_goes_unless_it_is_to_stay(self, recipe, tmp_path, capsys):
        run = trainer.train(recipe, tmp_path / "run")
        assert run.is_finished
        assert not run.has_state
        assert trainer.resume(run.path).runs()[0].path == run.path
        assert "is finished" in capsys.readouterr().err
        assert train(recipe, tmp_path / "kept").has_state

    @pytest.mark.parametrize("what", ["write_final_report", "plot_curves"])
    def test_a_run_is_not_lost_for_what_cannot_be_drawn(self, recipe, tmp_path, monkeypatch, what):
        def failing(*args, **kwargs):
            raise Image.DecompressionBombError("277 megapixels")

        monkeypatch.setattr(loop if what == "write_final_report" else run_module, what, failing)
        with pytest.warns(UserWarning, match="cannot be drawn: 277 megapixels"):
            run = train(recipe, tmp_path / "run")
        assert len(run.history()) == 2
        assert run.has_model
        assert run.has_state  # Without a report the run has not come to its end.

    def test_the_validation_loss_is_the_mean_of_each_images_cross_entropy(self, recipe, tmp_path):
        run = trainer.train(replace(recipe, epochs=1), tmp_path / "run")
        model, losses = run.load_model(), []
        for pair in find_pairs(recipe.val_images, recipe.val_labels):
            image, label_map = (np.asarray(Image.open(p)) for p in (pair.image, pair.label_map))
            logits = model.predict_on_batch(image[None].astype("float32"))[0].astype("float64")
            log_sums = np.log(np.exp(logits).sum(-1))
            counts = label_map != 255
            own = np.take_along_axis(logits, np.where(counts, label_map, 0)[..., None], -1)[..., 0]
            losses.append((log_sums - own)[counts].mean())
        (row,) = run.history()
        assert row["val_loss"] == pytest.approx(np.mean(losses), rel=1e-5)


@pytest.mark.any_backend
def test_the_time_left_is_that_of_all_steps_at_the_pace_after_the_first(monkeypatch):
    training = object.__new__(loop.Training)
    training.state = loop.State()
    vars(training).update(steps_per_epoch=10, num_steps=20, _first_end=None)
    clock = iter((100.0, 103.0, 124.0))
    monkeypatch.setattr(loop.time, "monotonic", lambda: next(clock))
    told = []
    for training.state.epoch, training.state.step in ((0, 1), (0, 2), (1, 3)):
        told.append(training.time_left())
    # 3 s a step and 18 steps; 24 s for 12 steps and 7 steps.
    assert told == ["", ", 54 s left", ", 14 s left"]
