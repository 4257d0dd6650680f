import json
import shutil
import tomllib
from pathlib import Path

import keras
import numpy as np
import pytest
from helpers import randomize, variables_as_numpy
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util.tensor_util import make_ndarray
from training.small_runs import (
    HEIGHT,
    SIZE,
    STEPS,
    WIDTH,
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
from training.three_layers import FinerThreeLayers

from keras_fcn import FCN16s
from keras_fcn.cli import main
from keras_fcn.data import find_pairs
from keras_fcn.label_spaces import generic
from keras_fcn.spec import VGG16_FILTERS
from keras_fcn.training import StagedRecipe, loop, run_writer, trainer, validation
from keras_fcn.training.checkpoint import read_facts
from keras_fcn.training.evaluate import Scores
from keras_fcn.training.recipe import replace
from keras_fcn.training.run import Run, Stages
from keras_fcn.training.run_writer import RunWriter
from keras_fcn.training.trained import open_model
from keras_fcn.training.user_code import UserCode

# Small networks are not initialized from VGG-16.
pytestmark = pytest.mark.filterwarnings("ignore:.*random initial values:UserWarning")


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

    def test_data_that_were_moved_are_those_of_the_stages_to_come(
        self, recipe, tmp_path, monkeypatch
    ):
        coarse = replace(recipe, epochs=1)
        fine = replace(coarse, model="fcn16s", weights="fcn32s")
        staged = StagedRecipe(stages={"fcn32s": coarse, "fcn16s": fine})
        with interrupted_at(monkeypatch, loop.Steps, "on_train_batch_end", STEPS):
            train(staged, tmp_path / "run", checkpoint_every=1)
        moved = Path(shutil.move(recipe.images, tmp_path / "moved"))
        first, second = resume(tmp_path / "run", folders={"images": moved}).runs()
        assert second.is_finished
        whole = tomllib.loads((tmp_path / "run" / "config.toml").read_text())["stages"]
        own = [tomllib.loads((r.path / "config.toml").read_text()) for r in (first, second)]
        settings = [*whole.values(), *(config["settings"] for config in own)]
        assert [each["images"] for each in settings] == [str(moved)] * 4

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


class TestFromARunOnABackbone:
    """`Tiny` is one of `keras.applications`, as far as recipes can see."""

    @pytest.fixture
    def on_tiny(self, recipe, monkeypatch):
        def tiny(include_top, weights, input_shape):
            x = image = keras.Input(input_shape)
            for number in range(5):
                x = keras.layers.Conv2D(4, 3, 2, padding="same", name=f"conv{number}")(x)
                x = keras.layers.BatchNormalization(name=f"norm{number}")(x)
            return keras.Model(image, x)

        monkeypatch.setattr(keras.applications, "Tiny", tiny, raising=False)
        unset = {"padding": "paper", "filters": VGG16_FILTERS, "val_images": None}
        unset |= {"val_labels": None, "steps": 1}
        return replace(recipe, backbone="tiny", **unset)

    @pytest.mark.parametrize("finer", ["fcn32s", "fcn16s"])
    def test_its_weights_are_those_of_the_new_run(self, on_tiny, finer, tmp_path):
        first = train(on_tiny, tmp_path / "first")
        second = replace(on_tiny, model=finer, backbone="Tiny", learning_rate=1e-8)
        second = train(replace(second, freeze_batch_norm=True), tmp_path / "run", start=first.path)
        given, kept = (variables_as_numpy(run.load_model()) for run in (first, second))
        for name in ("head_conv/kernel", "score_fr/kernel"):
            assert np.abs(given[name]).max() > 1e-5
            np.testing.assert_allclose(kept[name], given[name], atol=1e-6)
        backbones = (run.load_model().get_layer("backbone") for run in (first, second))
        for theirs, ours in zip(*(backbone.get_weights() for backbone in backbones), strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-6)

    def test_a_run_on_another_network_is_named(self, on_tiny, recipe, tmp_path):
        run = train(on_tiny, tmp_path / "tiny")
        for other, received in ((recipe, "none"), (replace(on_tiny, backbone="vgg19"), "vgg19")):
            with pytest.raises(ValueError, match=f"{run.path}: tiny. Received: {received}"):
                train(other, tmp_path / "run", start=run.path)
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
            RunWriter(tmp_path / "run"), replace(recipe, **changes), None, None, None, UserCode()
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
    def test_a_run_too_short_for_one_update_is_refused(self, recipe, tmp_path):
        recipe = replace(recipe, steps=3, learning_rate=1e-2, schedule="constant", warmup=0)
        message = "`accumulate` must be at most the number of batches of the run, 3: .*=4"
        with pytest.raises(ValueError, match=message):
            train(replace(recipe, accumulate=4), tmp_path / "run")
        assert not (tmp_path / "run").exists()
        train(replace(recipe, accumulate=3), tmp_path / "run")

    @pytest.mark.any_backend
    def test_the_model_of_the_best_epoch_is_kept(self, recipe, tmp_path, monkeypatch):
        # Shares of right pixels, whose order is that of mean IoU.
        right, kept, save_model = iter([5, 8, 2, 8]), [], RunWriter.save_model

        def evaluate(*args, **kwargs):
            count = next(right)
            return Scores(np.array([[count, 10 - count, 0], [0, 0, 0], [0, 0, 0]]))

        def keep(run, model):
            kept.append(variables_as_numpy(model))
            save_model(run, model)

        monkeypatch.setattr(validation, "evaluate", evaluate)
        monkeypatch.setattr(RunWriter, "save_model", keep)
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
        copy = RunWriter(shutil.copytree(run.path, tmp_path / "run"))
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

        monkeypatch.setattr(loop if what == "write_final_report" else run_writer, what, failing)
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
