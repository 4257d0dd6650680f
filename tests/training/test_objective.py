"""What a recipe trains and how, worked out by hand for one step."""

import inspect

import keras
import numpy as np
import pytest
from helpers import NARROW_FILTERS

from keras_fcn import FCN32s
from keras_fcn.label_spaces import generic
from keras_fcn.training import Recipe
from keras_fcn.training.objective import build_model, compiled
from keras_fcn.training.recipe import SETTINGS, replace
from keras_fcn.training.schedule import learning_rate

IGNORED = 255
# Rows of one image each: three classes, of which the last column does not count.
LABEL_MAPS = np.array([[[0, 0, 1, IGNORED]], [[2, 2, 2, IGNORED]]], "int32")
SPACES = {"semantic": generic(3, IGNORED)}
IMAGES = np.random.default_rng(0).integers(0, 256, (2, 1, 4, 3)).astype("float32")
RECIPE = Recipe(
    model="fcn32s",
    padding="same",
    num_classes=3,
    fc_units=4,
    dropout_rate=0.0,
    optimizer="coupled_sgd",
    schedule="constant",
    warmup=0.0,
    weight_decay=0.0,
    learning_rate=0.5,
)


def trained(recipe, class_weights=None, num_steps=4):
    """The model of a recipe, and what `fit` trains of it."""
    model = build_model(recipe, SPACES)
    options = {"class_weights": class_weights, "num_steps": num_steps}
    return model, compiled(model, recipe, label_spaces=SPACES, **options)


def step_of_bias(label_map, weights=(1.0, 1.0, 1.0), mean=True):
    """What the first step takes off the biases of the scores, in units of the learning rate.

    All scores are zero at the start, so that every class has a third of the probability.
    """
    valid = label_map[label_map != IGNORED]
    gradients = [np.array(weights)[label] * (1 / 3 - np.eye(3)[label]) for label in valid]
    # The paper lets biases learn twice as fast as kernels.
    return 2 * (np.mean(gradients, axis=0) if mean else np.sum(gradients, axis=0))


def bias_of(model):
    return keras.ops.convert_to_numpy(model.get_layer("score_fr").bias)


@pytest.mark.any_backend
def test_every_setting_that_a_model_has_reaches_it():
    changes = {
        "padding": "paper",
        "filters": NARROW_FILTERS,
        "fc_units": 3,
        "fc6_kernel_size": 5,
        "input_upsampling": 2,
        "dropout_rate": 0.25,
        "trainable_upsampling": True,
        "skip_scales": (0.5, 0.25),
        "mean": (1.0, 2.0, 3.0),
        "gradient_checkpointing": True,
    }
    of_model = set(inspect.signature(FCN32s).parameters) & set(SETTINGS)
    of_backbones = {"backbone", "head", "freeze_batch_norm"}
    assert of_model - of_backbones - set(changes) == {"num_classes", "label_space", "weights"}
    config = build_model(replace(RECIPE, **changes), SPACES).get_config()
    assert {name: config[name] for name in changes} == changes


def test_a_backbone_of_keras_applications_is_built_by_name():
    changes = {"backbone": "mobilenet_v2", "precision": "mixed_bfloat16", "channels": 1}
    with pytest.warns(UserWarning, match="kernel of Conv1 for 3 channels was summed for 1"):
        model = build_model(replace(RECIPE, padding="paper", **changes), SPACES)
    backbone = model.get_layer("backbone")
    assert backbone.get_layer("Conv1").kernel.shape == (3, 3, 1, 32)
    assert backbone.get_layer("Conv1").compute_dtype == "bfloat16"
    assert keras.config.dtype_policy().name == "float32"
    assert model.num_channels == 1


@pytest.mark.any_backend
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"backbone": "resnet51"}, "Did you mean ResNet50"),
        ({"model": "fcn4s"}, "`backbone` must be a network of keras.applications for fcn4s"),
        ({"backbone": "resnet50", "weights": "pascal_voc"}, "`weights` must be imagenet, the file"),
        ({"backbone": "resnet50", "freeze": "block2"}, "`freeze` must be `backbone` or none"),
        (
            {"backbone": "resnet50", "gradient_checkpointing": True},
            "`gradient_checkpointing` must be False",
        ),
        ({"data": "camvid", "channels": 4}, "`channels` must be 3 for a data set by name"),
        ({"channels": 4, "jitter": True}, "`jitter` must be false for images that are not RGB"),
        ({"head": "fc"}, "`head` must be conv without a `backbone`"),
        ({"model": "fcn_alexnet", "freeze": "block2"}, "`freeze` must be `backbone` or none"),
    ],
)
def test_what_does_not_go_with_a_backbone_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        build_model(replace(RECIPE, padding="paper", **changes), SPACES)


@pytest.mark.any_backend
@pytest.mark.parametrize(
    ("network", "first"), [("fcn_alexnet", "conv1"), ("fcn32s", "block1_conv1")]
)
def test_only_the_bias_of_alexnets_scores_learns_twice_as_fast_and_does_not_decay(network, first):
    """At the start all scores are zero, so that weights before them change by their decay alone."""
    changes = {"padding": "paper", "filters": (4, 4, 4, 4, 4), "weight_decay": 0.1}
    model, training = trained(replace(RECIPE, model=network, **changes))
    scores = model.get_layer("score_fr")
    # What a pixel has of the bias, near the end of a map of scores of one pixel.
    scores.bias.assign(np.ones(3))
    share = keras.ops.convert_to_numpy(model(IMAGES[:1])).mean()
    scores.bias.assign(np.zeros(3))
    model.get_layer(first).bias.assign(np.ones(4))
    label_maps = np.zeros((1, 1, 4), "int32")
    training.train_on_batch(IMAGES[:1], label_maps)
    bias = keras.ops.convert_to_numpy(model.get_layer(first).bias)
    np.testing.assert_allclose(bias, 1 - 0.5 * 0.1 if network == "fcn_alexnet" else 1.0, rtol=1e-6)
    np.testing.assert_allclose(bias_of(model), -0.5 * share * step_of_bias(label_maps), rtol=1e-4)


@pytest.mark.any_backend
def test_settings_of_the_network_reach_the_model():
    changes = {
        "padding": "paper",
        "filters": NARROW_FILTERS,
        "fc_units": 5,
        "fc6_kernel_size": 3,
        "dropout_rate": 0.25,
        "skip_scales": (0.5, 0.125),
        "mean": (1.0, 2.0, 3.0),
        "trainable_upsampling": True,
        "gradient_checkpointing": True,
    }
    model = build_model(replace(RECIPE, model="fcn8s", **changes), SPACES)
    config = model.get_config()
    assert {name: config[name] for name in changes} == changes
    assert model.label_space == SPACES["semantic"]
    assert model.get_layer("fc6").kernel.shape == (3, 3, NARROW_FILTERS[-1], 5)


@pytest.mark.usefixtures("three_layers")
class TestLoss:
    def check(self, recipe, expected, class_weights=None):
        model, train = trained(recipe, class_weights)
        train.train_on_batch(IMAGES, LABEL_MAPS)
        np.testing.assert_allclose(bias_of(model), -0.5 * expected, rtol=1e-5, atol=1e-6)

    def test_it_is_the_mean_over_the_pixels_that_count(self):
        self.check(RECIPE, step_of_bias(LABEL_MAPS))

    def test_the_papers_is_their_sum(self):
        self.check(replace(RECIPE, normalization="sum"), step_of_bias(LABEL_MAPS, mean=False))

    def test_class_weights_scale_the_pixels_of_their_class(self):
        weights = [0.5, 3.0, 1.0]
        recipe = replace(RECIPE, class_weights="median_frequency")
        self.check(recipe, step_of_bias(LABEL_MAPS, weights), weights)

    def test_focal_loss_weights_pixels_by_the_square_of_what_they_lack(self):
        # (1 - p)^2 -log(p) at p = 1/3 changes by 4/9 - 2 * 2/3 * 1/3 * log(1/3) as much as -log(p).
        factor = 4 / 9 + 4 / 9 * np.log(3)
        self.check(replace(RECIPE, loss="focal"), factor * step_of_bias(LABEL_MAPS))

    def test_ohem_takes_the_mean_over_the_pixels_below_its_threshold_or_a_fraction(self):
        # All pixels have p = 1/3 at the start, and ties are all kept.
        for settings in ({"ohem_threshold": 0.4}, {"ohem_threshold": 0.3, "ohem_min_kept": 0.1}):
            self.check(replace(RECIPE, loss="ohem", **settings), step_of_bias(LABEL_MAPS))
        settings = {"ohem_threshold": 0.3, "ohem_min_kept": 0}
        self.check(replace(RECIPE, loss="ohem", **settings), np.zeros(3))
        weights = [0.5, 3.0, 1.0]
        recipe = replace(RECIPE, loss="ohem", class_weights="median_frequency")
        self.check(recipe, step_of_bias(LABEL_MAPS, weights), weights)

    @pytest.mark.parametrize("region_loss", ["dice", "lovasz_softmax"])
    def test_a_region_loss_is_added_with_its_weight(self, region_loss):
        _, train = trained(replace(RECIPE, region_loss=region_loss, region_loss_weight=0.5))
        # Two pixels of each class, and a third of it in all six: 1 - Dice is 1 - 2 * 2/3 / (2 + 2).
        # By Lovász-Softmax the pixels of the class, with errors of 2/3, come first and are all of
        # it: 2/3, too.
        label_maps = np.array([[[0, 1, 2, IGNORED]], [[0, 1, 2, IGNORED]]], "int32")
        loss = train.test_on_batch(IMAGES, label_maps)
        assert loss == pytest.approx(np.log(3) + 0.5 * 2 / 3, rel=1e-4)


@pytest.mark.usefixtures("three_layers")
class TestAccumulation:
    @pytest.mark.parametrize(
        ("normalization", "expected"),
        [
            # The sum of both images' pixels; the mean of the means of each image.
            ("sum", step_of_bias(LABEL_MAPS, mean=False)),
            ("valid_pixels", (step_of_bias(LABEL_MAPS[:1]) + step_of_bias(LABEL_MAPS[1:])) / 2),
        ],
    )
    def test_two_batches_make_one_step(self, normalization, expected):
        model, train = trained(replace(RECIPE, normalization=normalization, accumulate=2))
        train.train_on_batch(IMAGES[:1], LABEL_MAPS[:1])
        np.testing.assert_array_equal(bias_of(model), 0)
        train.train_on_batch(IMAGES[1:], LABEL_MAPS[1:])
        np.testing.assert_allclose(bias_of(model), -0.5 * expected, rtol=1e-5, atol=1e-6)


class TestFreezing:
    """Of the real networks, whose layers it goes by."""

    def trainable(self, **changes):
        """Names of the layers that learn."""
        _, train = trained(replace(RECIPE, filters=NARROW_FILTERS, **changes))
        paths = [variable.path.split("/") for variable in train.trainable_variables]
        assert len(train.optimizer.variables) > len(paths)
        return {path[-2] for path in paths}

    def test_the_papers_ablation_trains_the_scores_alone(self):
        expected = {"score_fr", "score_pool4"}
        assert self.trainable(freeze="backbone", model="fcn16s") == expected

    @pytest.mark.parametrize(
        ("head", "layers"), [("conv", {"head_conv"}), ("fc", {"fc6", "fc7"}), (None, set())]
    )
    def test_the_head_of_a_frozen_backbone_learns(self, head, layers):
        backbone = {"backbone": "mobilenet_v2", "padding": "paper", "head": head}
        _, train = trained(replace(RECIPE, **backbone, freeze="backbone"))
        learning = {variable.path.split("/")[-2] for variable in train.trainable_variables}
        assert learning == layers | {"score_fr"}

    def test_blocks_can_be_frozen_up_to_one(self):
        convolutions = {f"block{block}_conv{n}" for block in (3, 4, 5) for n in (1, 2, 3)}
        assert self.trainable(freeze="block2") == convolutions | {"fc6", "fc7", "score_fr"}

    def test_all_but_the_upsampling_learns_if_nothing_is_frozen(self):
        learning = self.trainable()
        assert {"block1_conv1", "block2_conv2", "fc7", "score_fr"} < learning
        assert len(learning) == 13 + 3

    def test_the_upsampling_learns_if_it_is_asked_to(self):
        changes = {"trainable_upsampling": True, "freeze": "backbone"}
        assert self.trainable(**changes) == {"score_fr", "upscore"}


@pytest.mark.usefixtures("three_layers")
class TestOptimizer:
    def test_adamw_decays_kernels_and_no_biases(self):
        changes = {"optimizer": "adamw", "learning_rate": 0.125, "weight_decay": 0.5}
        model, train = trained(replace(RECIPE, **changes))
        layer = model.get_layer("block1_conv1")
        layer.bias.assign(np.ones(layer.bias.shape))
        before = keras.ops.convert_to_numpy(layer.kernel)
        # The scores are zero, so that no gradient comes this far.
        train.train_on_batch(IMAGES, LABEL_MAPS)
        after = keras.ops.convert_to_numpy(layer.kernel)
        np.testing.assert_allclose(after, (1 - 0.125 * 0.5) * before, rtol=1e-5)
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(layer.bias), 1)

    def test_the_papers_has_its_momentum_and_decay(self):
        recipe = replace(RECIPE, momentum=0.75, weight_decay=0.25)
        _, train = trained(recipe)
        assert (train.optimizer.momentum, train.optimizer.decay) == (0.75, 0.25)


@pytest.mark.any_backend
class TestLearningRate:
    def test_it_rises_in_a_line_and_falls_as_a_cosine(self):
        recipe = replace(RECIPE, schedule="cosine", warmup=0.25, learning_rate=1.0)
        rates = [learning_rate(recipe, 8, step) for step in range(9)]
        cosine = [(1 + np.cos(np.pi * step / 6)) / 2 for step in range(7)]
        assert rates == pytest.approx([0.5, 0.75, *cosine], abs=1e-6)

    def test_a_constant_one_stays(self):
        assert [learning_rate(RECIPE, 8, step) for step in (0, 7)] == [0.5, 0.5]
