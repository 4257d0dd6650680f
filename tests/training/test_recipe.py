import dataclasses
import re
import shlex
import tomllib

import keras
import numpy as np
import pytest
import tomli_w

from keras_fcn.cli.parser import build_parser
from keras_fcn.label_spaces import generic
from keras_fcn.training.objective import compiled
from keras_fcn.training.recipe import (
    Recipe,
    StagedRecipe,
    as_settings,
    from_settings,
    replace,
)
from keras_fcn.training.recipes import RECIPES, find_recipe
from keras_fcn.training.splits import open_splits

# What the authors published, see their solver.prototxt files: rate, iterations.
PAPER = {
    "paper_voc_fcn32s": (1e-10, 100_000),
    "paper_voc_fcn16s": (1e-12, 100_000),
    "paper_voc_fcn8s": (1e-14, 100_000),
    "paper_voc_fcn8s_atonce": (1e-10, 300_000),
}
CONTEXT = {"fcn32s": 1e-10, "fcn16s": 1e-12, "fcn8s": 1e-14}
SIFT_FLOW = {"fcn32s": 1e-10, "fcn16s": 1e-12, "fcn8s": 1e-12}


def recipes():
    """Every recipe that is not staged, by its name."""
    for name in RECIPES:
        recipe = find_recipe(name)
        if isinstance(recipe, StagedRecipe):
            yield from ((f"{name}/{stage}", one) for stage, one in recipe.stages.items())
        else:
            yield name, recipe


@pytest.mark.any_backend
class TestShippedRecipes:
    @pytest.mark.parametrize("name", RECIPES)
    def test_the_docstring_gives_a_command_that_the_parser_takes_for_this_recipe(self, name):
        # Across line ends that a backslash escapes.
        text = RECIPES[name].__doc__.replace("\\\n", " ")
        command = shlex.split(re.search(r"keras-fcn (train .*)", text)[1])
        options = build_parser().parse_args(command)
        assert options.recipe == name
        assert options.out.startswith("runs/")

    @pytest.mark.parametrize("name", RECIPES)
    def test_the_docstring_names_hours_and_scores_or_says_that_there_are_none(self, name):
        text = RECIPES[name].__doc__
        assert re.search("hour|minutes|Time", text)
        assert "score" in text

    @pytest.mark.parametrize("name", PAPER)
    def test_the_papers_settings_on_pascal_voc(self, name):
        recipe = find_recipe(name)
        assert (recipe.learning_rate, recipe.steps) == PAPER[name]
        assert (recipe.momentum, recipe.weight_decay, recipe.batch_size) == (0.99, 5e-4, 1)
        assert (recipe.optimizer, recipe.normalization) == ("coupled_sgd", "sum")
        assert (recipe.schedule, recipe.warmup, recipe.accumulate) == ("constant", 0, 1)
        assert (recipe.padding, recipe.fc_units, recipe.dropout_rate) == ("paper", 4096, 0.5)
        assert (recipe.flip, recipe.random_scale, recipe.crop, recipe.jitter) == (
            False,
            None,
            None,
            False,
        )
        assert not recipe.trainable_upsampling
        assert recipe.data == "voc_segmentation/2012_sbd"
        assert (recipe.train_split, recipe.val_split) == ("train", "seg11valid")
        at_once = (0.01, 0.0001) if name.endswith("atonce") else None
        assert recipe.skip_scales == at_once

    def test_what_the_papers_models_start_from(self):
        starts = [find_recipe(name).weights for name in PAPER]
        assert starts == ["imagenet", "fcn32s", "fcn16s", "imagenet"]

    @pytest.mark.parametrize(
        ("name", "rates", "mean"),
        [
            ("paper_pascal_context", CONTEXT, (104.007, 116.669, 122.679)),
            ("paper_sift_flow", SIFT_FLOW, (114.578, 115.294, 108.353)),
        ],
    )
    def test_the_papers_settings_on_other_data(self, name, rates, mean):
        stages = find_recipe(name).stages
        assert {stage: recipe.learning_rate for stage, recipe in stages.items()} == rates
        for stage, recipe in stages.items():
            assert (recipe.steps, recipe.mean, recipe.model) == (300_000, mean, stage)

    def test_paper_voc_is_the_three_stages_in_turn(self):
        names = ["paper_voc_fcn32s", "paper_voc_fcn16s", "paper_voc_fcn8s"]
        stages = find_recipe("paper_voc").stages
        assert list(stages) == ["fcn32s", "fcn16s", "fcn8s"]
        assert list(stages.values()) == [find_recipe(name) for name in names]


@pytest.mark.any_backend
class TestSettings:
    @pytest.mark.parametrize(("name", "recipe"), list(recipes()))
    def test_survive_toml(self, name, recipe):
        settings = {name: v for name, v in as_settings(recipe).items() if v is not None}
        written = tomllib.loads(tomli_w.dumps(settings))
        assert as_settings(from_settings(written)) == as_settings(recipe)

    def test_a_recipe_cannot_be_changed(self):
        with pytest.raises(dataclasses.FrozenInstanceError):
            find_recipe("folder").epochs = 3

    def test_replace_changes_every_stage(self):
        changed = replace(find_recipe("paper_voc"), steps=7, batch_size=2)
        assert [(r.steps, r.batch_size) for r in changed.stages.values()] == [(7, 2)] * 3

    def test_epochs_and_steps_take_each_others_place(self):
        recipe = replace(find_recipe("paper_voc_fcn32s"), epochs=3)
        assert (recipe.epochs, recipe.steps) == (3, None)
        recipe = replace(recipe, steps=5)
        assert (recipe.epochs, recipe.steps) == (None, 5)

    def test_the_length_of_a_run(self):
        recipe = Recipe(batch_size=4, epochs=3)
        assert (recipe.steps_per_epoch(10), recipe.num_steps(10)) == (3, 9)
        assert Recipe(batch_size=4, epochs=None, steps=7).num_steps(10) == 7

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"epochs": 0}, "`epochs` must be at least 1. Received: epochs=0."),
            ({"epochs": 2.5}, "`epochs` must be an integer. Received: epochs=2.5."),
            ({"epochs": True}, "`epochs` must be an integer"),
            ({"epochs": None}, "Exactly one of `epochs` and `steps` must be given"),
            ({"learning_rate": "fast"}, "`learning_rate` must be a number"),
            ({"learning_rate": float("nan")}, "`learning_rate` must be a finite number"),
            ({"learning_rate": -1.0}, "`learning_rate` must be greater than 0"),
            ({"momentum": 1.0}, "`momentum` must be at least 0 and less than 1"),
            ({"crop": [320]}, "`crop` must be 2 integers. Received: crop=[320]."),
            ({"crop": [320, 0.5]}, "`crop` must be an integer"),
            ({"test_scales": []}, "`test_scales` must be one or more numbers"),
            ({"test_scales": [1, -2]}, "`test_scales` must be greater than 0 each"),
            ({"crop": [0, 5]}, "`crop` must be at least 1 each"),
            ({"random_scale": [2, 1]}, "`random_scale` must be a smallest and a largest factor"),
            ({"crop": [9, 9], "crop_classes": []}, "one or more names or ids of classes"),
            ({"crop_classes": ["pole"]}, "`crop_classes` must be None without `crop`"),
            ({"crop_classes_share": 0.5}, "must be 0.3333333333333333 without `crop_classes`"),
            ({"class_mix_share": 1}, "`class_mix_share` must be 0.5 without `class_mix`"),
            ({"class_mix_share": 1.1}, "`class_mix_share` must be at least 0 and at most 1"),
            (
                {"random_resized_crop": [9, 9], "random_scale": [1, 2]},
                "`random_scale` must be None with `random_resized_crop`",
            ),
            (
                {"random_resized_crop": [9, 9], "crop": [9, 9]},
                "`crop` must be None with `random_resized_crop`",
            ),
            (
                {"random_resized_crop_area": [0.5, 1]},
                "`random_resized_crop_area` must be (0.25, 1.0) without `random_resized_crop`",
            ),
            (
                {"random_resized_crop": [9, 9], "random_resized_crop_area": [1, 0.5]},
                "`random_resized_crop_area` must be a smallest and a largest fraction",
            ),
            ({"rotation": 181}, "`rotation` must be greater than 0 and at most 180"),
            ({"noise": 0}, "`noise` must be greater than 0 and at most 1"),
            ({"blur": -1}, "`blur` must be greater than 0"),
            ({"cutout": [3]}, "`cutout` must be 2 integers"),
            ({"ohem_min_kept": 0.1}, "`ohem_min_kept` must be 0.0625 without loss='ohem'"),
            ({"loss": "ohem", "ohem_threshold": 0}, "`ohem_threshold` must be greater than 0"),
            ({"normalization": "sum", "loss": "ohem"}, "must go with loss=cross_entropy"),
            ({"dropout_rate": 1}, "`dropout_rate` must be at least 0 and less than 1"),
            ({"num_classes": 1}, "`num_classes` must be at least 2"),
            ({"model": "fcn32s", "deep_supervision": 1}, "which has no coarser head"),
            (
                {"deep_supervision": 1, "gradient_checkpointing": True},
                "`deep_supervision` must be 0 with gradient_checkpointing=True",
            ),
            ({"fc6_kernel_size": 0}, "`fc6_kernel_size` must be at least 1"),
            ({"flip": "yes"}, "`flip` must be true or false"),
            ({"model": "fcn64s"}, "`model` must be one of fcn32s, fcn16s, fcn8s, fcn4s"),
            ({"freeze": "head"}, "`freeze` must be one of none, backbone, block1"),
            ({"ema": 1.0}, "`ema` must be greater than 0 and less than 1"),
            ({"weights": 3}, "`weights` must be a string"),
            ({"no_such": 3}, "'no_such' is not a setting of a recipe"),
            ({"normalization": "sum", "region_loss": "dice"}, "must go with region_loss=None"),
            ({"normalization": "sum", "loss": "focal"}, "must go with loss=cross_entropy"),
        ],
    )
    def test_what_is_refused(self, changes, message):
        with pytest.raises(ValueError, match=re.escape(message)):
            replace(Recipe(), **changes)

    def test_paths_become_absolute_but_names_of_weights_stay(self, tmp_path, monkeypatch):
        (tmp_path / "imagenet").mkdir()
        (tmp_path / "own.npz").touch()
        monkeypatch.chdir(tmp_path)
        assert Recipe(weights="imagenet").with_absolute_paths().weights == "imagenet"
        own = Recipe(weights="own.npz", images="photos").with_absolute_paths()
        assert (own.weights, own.images) == (f"{tmp_path}/own.npz", f"{tmp_path}/photos")

    def test_a_tilde_is_the_home_folder(self, tmp_path, monkeypatch):
        """Bash leaves that of `--data-dir=~/data`, of which a folder named ~ was made."""
        monkeypatch.setenv("HOME", str(tmp_path))
        recipe = Recipe(data="camvid", data_dir="~/data", manual_dir="~").with_absolute_paths()
        assert (recipe.data_dir, recipe.manual_dir) == (f"{tmp_path}/data", str(tmp_path))

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            (
                {"data": "camvid", "ignore_class": 3},
                "used without `ignore_class`. Received: data='camvid'",
            ),
            (
                {"data": "camvid", "labels": "x"},
                "used without `labels`. Received: data='camvid', labels='x'",
            ),
            ({"images": "x"}, "Either `data` or both `images` and `labels`"),
            (
                {"images": "x", "labels": "x", "manual_dir": "y"},
                "must be used with a data set by name",
            ),
        ],
    )
    def test_data_come_by_name_or_from_folders(self, changes, message):
        with pytest.raises(ValueError, match=re.escape(message)):
            open_splits(Recipe(**changes))


@pytest.mark.any_backend
class TestSchedule:
    @pytest.mark.parametrize("accumulate", [1, 4])
    def test_it_follows_the_batches_also_where_several_make_one_update(self, accumulate):
        recipe = Recipe(num_classes=3, learning_rate=1.0, warmup=0.2, accumulate=accumulate)
        model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(3, name="score_fr")])
        trained = compiled(
            model,
            recipe,
            label_spaces={"semantic": generic(3)},
            class_weights=None,
            num_steps=100,
        )
        rates = []
        for _ in range(100):
            trained.train_on_batch(np.zeros((1, 1)), np.zeros((1,)))
            rates.append(float(keras.ops.convert_to_numpy(trained.optimizer.learning_rate)))
        # By hand: the peak after 20 batches, half of it in the middle of the other 80.
        assert rates[19] == pytest.approx(1)
        assert rates[59] == pytest.approx(0.5)
        assert rates[99] == pytest.approx(0)


@pytest.mark.any_backend
class TestLossNormalization:
    def test_the_papers_rate_with_a_mean_loss_is_refused_with_the_reason(self):
        with pytest.raises(ValueError, match=r"2\.5e-05 of the mean at 500x500"):
            replace(find_recipe("paper_voc_fcn32s"), normalization="valid_pixels")

    def test_the_rate_of_the_mean_loss_by_hand(self):
        recipe = find_recipe("paper_voc_fcn32s")
        # 1e-10 of a sum over 375 x 500 pixels.
        assert recipe.mean_loss_rate(375, 500) == pytest.approx(1.875e-5)
        four = replace(recipe, batch_size=2, accumulate=2)
        assert four.mean_loss_rate(375, 500) == pytest.approx(7.5e-5)
