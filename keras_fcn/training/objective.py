"""The model, the loss and the optimizer of a recipe."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import keras

from keras_fcn import losses
from keras_fcn.label_spaces import LabelSpace
from keras_fcn.models.alexnet import FCNAlexNet
from keras_fcn.models.applications import application
from keras_fcn.models.base import BaseFCN
from keras_fcn.models.deep_supervision import with_coarser_heads
from keras_fcn.models.fcn import FCN4s, FCN8s, FCN16s, FCN32s
from keras_fcn.models.multimodal import MultimodalFCN32s
from keras_fcn.models.multitask import MultitaskFCN8s, MultitaskFCN16s, MultitaskFCN32s
from keras_fcn.spec import VGG16_FILTERS
from keras_fcn.training.optimizer import ALEXNET_MULTIPLIERS, PAPER_MULTIPLIERS, AdamW, CoupledSGD
from keras_fcn.training.recipe import SETTINGS, Recipe
from keras_fcn.training.schedule import schedule
from keras_fcn.weights import load, published_names

if TYPE_CHECKING:
    import tensorflow as tf

MODELS = {
    "fcn32s": FCN32s,
    "fcn16s": FCN16s,
    "fcn8s": FCN8s,
    "fcn4s": FCN4s,
    "fcn_alexnet": FCNAlexNet,
}
_MULTITASK_MODELS = {
    "fcn32s": MultitaskFCN32s,
    "fcn16s": MultitaskFCN16s,
    "fcn8s": MultitaskFCN8s,
}
# What the paper's recipes start from, by the value that stands for it.
_STARTS = {
    **{
        name: f"a trained {name}, from which this recipe starts: pass --from RUN, or --set "
        "weights=FILE"
        for name in MODELS
    },
    "caffenet": "the classifier CaffeNet, bvlc_reference_caffenet.caffemodel of Caffe's model zoo: "
    "pass --weights FILE",
    "nyudv2_streams": "trained networks of the modalities, from which this recipe starts: pass "
    '--set \'stream_weights=["COLOUR", "HHA"]\'',
}
_REGION_LOSSES = {"dice": losses.Dice, "lovasz_softmax": losses.LovaszSoftmax}


def model_class(recipe: Recipe) -> type[BaseFCN]:
    """Returns the class of the model of a recipe."""
    if len(recipe.tasks) > 1:
        return _MULTITASK_MODELS[recipe.model]
    return MODELS[recipe.model] if recipe.modalities == ("image",) else MultimodalFCN32s


def build_model(recipe: Recipe, label_spaces: Mapping[str, LabelSpace]) -> BaseFCN:
    """Returns the model of a recipe with its initial weights.

    Args:
        recipe: The recipe.
        label_spaces: Dictionary from each of its tasks to the `LabelSpace`.

    Raises:
        FileNotFoundError, OSError, ValueError: As the models for `weights`; also if the recipe
            starts from another network and none is given.
    """
    start = None if recipe.stream_weights else _STARTS.get(recipe.weights or "")
    if start is not None:
        raise ValueError(f"`weights` must be {start}. Received: weights={recipe.weights!r}.")
    is_trained = recipe.backbone is not None and recipe.weights not in (None, "imagenet")
    if is_trained and recipe.weights in published_names():
        rule = "imagenet, the file of an FCN on the same one, or none with a `backbone`"
        raise SETTINGS["weights"].error(rule, recipe.weights)
    options: dict[str, Any] = {
        "weights": recipe.weights,
        "filters": recipe.filters,
        "fc_units": recipe.fc_units,
        "dropout_rate": recipe.dropout_rate,
        "trainable_upsampling": recipe.trainable_upsampling,
        "dtype": recipe.precision,
    }
    if len(label_spaces) > 1:
        num_classes = {task: space.num_classes for task, space in label_spaces.items()}
        options |= {"padding": recipe.padding, "mean": recipe.mean, "label_spaces": label_spaces}
        return model_class(recipe)(num_classes, **options)
    (label_space,) = label_spaces.values()
    options["label_space"] = label_space
    if recipe.modalities != ("image",):
        options |= {
            "modalities": recipe.modalities,
            "fusion": recipe.fusion,
            "stacked": True,
            "padding": recipe.padding,
        }
        if recipe.stream_weights is not None:
            options["weights"] = dict(zip(recipe.modalities, recipe.stream_weights, strict=True))
    elif recipe.model == "fcn_alexnet":
        if recipe.filters == VGG16_FILTERS:
            del options["filters"]
        options |= {"mean": recipe.mean, "data_format": "channels_last"}
    else:
        options |= {
            "weights": None if recipe.backbone else recipe.weights,
            "input_shape": (None, None, recipe.channels),
            "backbone": _backbone(recipe),
            "head": recipe.head,
            "freeze_batch_norm": recipe.freeze_batch_norm,
            "padding": recipe.padding,
            "fc6_kernel_size": recipe.fc6_kernel_size,
            "input_upsampling": recipe.input_upsampling,
            "skip_scales": recipe.skip_scales,
            "mean": recipe.mean,
            "data_format": "channels_last",
            "gradient_checkpointing": recipe.gradient_checkpointing,
        }
    model = model_class(recipe)(label_space.num_classes, **options)
    if is_trained:
        load(model, recipe.weights)
    return model


def _backbone(recipe):
    if recipe.backbone is None:
        return None
    # Networks of `keras.applications` take no dtype.
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy(recipe.precision)
    try:
        return application(recipe.backbone, "imagenet" if recipe.weights == "imagenet" else None)
    finally:
        keras.config.set_dtype_policy(policy)


def compiled(
    model: BaseFCN,
    recipe: Recipe,
    *,
    label_spaces: Mapping[str, LabelSpace],
    class_weights: list[float] | None,
    num_steps: int,
    optimizer_averages: bool = False,
) -> keras.Model:
    """Returns the compiled model; with deep supervision, one around it with coarser heads.

    Args:
        model: The model of the recipe.
        recipe: The recipe.
        label_spaces: As for `build_model`.
        class_weights: Weight of each class, if the recipe weights them.
        num_steps: Number of batches of the whole run, over which the schedule extends.
        optimizer_averages: Whether the optimizer keeps the moving average of the weights (`ema`),
            for `keras.callbacks.SwapEMAWeights`.

    Raises:
        ValueError: If it should, but the recipe has no `ema`.
    """
    if optimizer_averages and recipe.ema is None:
        raise ValueError(
            "SwapEMAWeights must be used with a recipe whose `ema` is the decay of the average. "
            "Received: ema=None."
        )
    _freeze(model, recipe)
    trained = with_coarser_heads(model) if recipe.deep_supervision else model
    of_tasks = {
        task: loss_of(recipe, space.ignore_class, class_weights)
        for task, space in label_spaces.items()
    }
    trained.compile(
        optimizer=_optimizer(recipe, num_steps, optimizer_averages),
        **_losses_of_heads(recipe, of_tasks, len(trained.outputs)),
    )
    trained.optimizer.build(trained.trainable_variables)
    return trained


def _losses_of_heads(recipe, of_tasks, heads):
    """Returns the arguments `loss` and `loss_weights` of `compile`."""
    # Keras averages the accumulated gradients; the paper sums them.
    weight = float(recipe.accumulate if recipe.normalization == "sum" else 1)
    if len(of_tasks) > 1:
        return {"loss": of_tasks, "loss_weights": dict.fromkeys(of_tasks, weight)}
    (loss,) = of_tasks.values()
    weights = [weight, *[weight * recipe.deep_supervision] * (heads - 1)]
    return {"loss": [loss] * heads, "loss_weights": weights}


def with_label_map_of_each_head(
    model: keras.Model, batches: "tf.data.Dataset"
) -> "tf.data.Dataset":
    """Returns training batches as a compiled model takes them.

    Deep supervision compares every head with the same label map; the label maps of several tasks
    are a dictionary already.

    Args:
        model: As from `compiled`.
        batches: As from `Split.training_batches`.
    """
    heads = len(model.outputs)
    if heads == 1 or isinstance(model.output, dict):
        return batches
    return batches.map(lambda image, label_map: (image, (label_map,) * heads))


def _freeze(model, recipe):
    freeze = recipe.freeze
    if freeze is None:
        return
    last = int(freeze.removeprefix("block")) if freeze.startswith("block") else None
    for layer in model.layers:
        if recipe.backbone is not None:  # The head in front of its scores has no pretrained values.
            frozen = layer.name == "backbone"
        elif last is None:
            frozen = not layer.name.startswith(("score_", "upscore"))
        else:
            frozen = any(layer.name.startswith(f"block{n}_") for n in range(1, last + 1))
        if frozen:
            layer.trainable = False


def loss_of(
    recipe: Recipe, ignore_class: int | None, class_weights: list[float] | None
) -> keras.losses.Loss:
    """Returns the loss of a recipe, a function of (label maps, logits).

    Args:
        recipe: The recipe.
        ignore_class: Class id of the ignored pixels.
        class_weights: Weight of each class, if the recipe weights them.
    """
    if recipe.loss == "cross_entropy" and class_weights is None:
        loss = losses.SparseCategoricalCrossentropy(
            from_logits=True,
            ignore_class=ignore_class,
            reduction="sum" if recipe.normalization == "sum" else "sum_over_batch_size",
        )
    elif recipe.loss == "ohem":
        loss = losses.OHEM(
            threshold=recipe.ohem_threshold,
            min_kept=recipe.ohem_min_kept,
            ignore_class=ignore_class,
            class_weights=class_weights,
        )
    else:
        # Without its exponent, focal loss is cross-entropy.
        loss = losses.Focal(
            gamma=0.0 if recipe.loss == "cross_entropy" else 2.0,
            ignore_class=ignore_class,
            class_weights=class_weights,
        )
    if recipe.region_loss is None:
        return loss
    region_loss = _REGION_LOSSES[recipe.region_loss](ignore_class=ignore_class)
    return losses.WeightedSum([loss, region_loss], [1.0, recipe.region_loss_weight])


def _optimizer(recipe, num_steps, averages):
    options = {
        "learning_rate": schedule(recipe, num_steps),
        "gradient_accumulation_steps": recipe.accumulate if recipe.accumulate > 1 else None,
    }
    if averages:
        options |= {"use_ema": True, "ema_momentum": recipe.ema}
    if recipe.optimizer == "coupled_sgd":
        multipliers = PAPER_MULTIPLIERS
        if recipe.model == "fcn_alexnet":
            multipliers = ALEXNET_MULTIPLIERS
        return CoupledSGD(
            momentum=recipe.momentum,
            decay=recipe.weight_decay,
            multipliers=multipliers,
            **options,
        )
    optimizer = AdamW(weight_decay=recipe.weight_decay, **options)
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    return optimizer
