"""Before the first training step: errors of settings; warnings of rate and weights."""

import warnings
from collections.abc import Mapping
from typing import Any

import keras

from keras_fcn.spelling import counted
from keras_fcn.training.progress import say
from keras_fcn.training.recipe import SETTINGS, Recipe
from keras_fcn.training.run import Run
from keras_fcn.training.run_config import CONFIG
from keras_fcn.training.splits import Split
from keras_fcn.weights.diagnose import check_rate, diagnose, is_head


def check_interval(checkpoint_every: int | None) -> None:
    """Raises a ValueError if checkpoints are less than a step apart."""
    if checkpoint_every is not None and checkpoint_every < 1:
        raise ValueError(f"`checkpoint_every` must be at least 1. Received: {checkpoint_every=}.")


def check_divides(batch_size: int, world_size: int) -> None:
    """Raises a ValueError if the processes cannot have equal shards of each batch."""
    if batch_size % world_size:
        raise ValueError(
            f"`batch_size` must divide by the number of processes, {world_size}, which share "
            f"each batch. Received: batch_size={batch_size}."
        )


def check_enough_images(num_images: int, world_size: int) -> None:
    """Raises a ValueError if there are fewer training images than processes."""
    if num_images < world_size:
        raise ValueError(
            f"The training images must be at least as many as the processes, {world_size}: each "
            f"trains on its own. Received: {counted(num_images, 'training image')}. Start fewer "
            "processes."
        )


def check_updates(accumulate: int, num_steps: int) -> None:
    """Raises a ValueError if a run ends before its first update of the weights."""
    if accumulate > num_steps:
        raise ValueError(
            f"`accumulate` must be at most the number of batches of the run, {num_steps}: "
            f"otherwise the weights are never updated. Received: accumulate={accumulate}. Train "
            "for more `epochs`, or with a smaller `accumulate` (--set accumulate=1)."
        )


def settings_of_checkpoint(recipe: Recipe) -> dict[str, Any]:
    """Returns the settings by which a checkpoint was made, which `config.toml` must keep."""
    return {name: getattr(recipe, name) for name in SETTINGS if SETTINGS[name].in_checkpoint}


def check_settings_of_checkpoint(run: Run, recipe: Recipe, stored: Mapping[str, Any]) -> None:
    """Raises a ValueError if `config.toml` was edited where the checkpoint decides.

    Args:
        run: The run, which has a checkpoint.
        recipe: The recipe in its `config.toml`.
        stored: As `settings_of_checkpoint` when it was written, from JSON.
    """
    for name, value in stored.items():
        kept, edited = SETTINGS[name].checked(value), getattr(recipe, name)
        if edited != kept:
            raise ValueError(
                f"{run.path / CONFIG} must keep the settings of the run's checkpoint. Received: "
                f"{name}={edited!r} instead of {kept!r}. Put it back, or train a new run with it "
                f"(--from {run.path} starts from its best model)."
            )


def check_classes(run: Run, train_split: Split) -> None:
    """Raises a ValueError if a run was begun with other classes than it would resume with."""
    found, begun = next(iter(train_split.label_spaces.values())), run.label_space()
    for name in ("num_classes", "ignore_class", "class_names"):
        kept, edited = getattr(begun, name), getattr(found, name)
        if edited != kept:
            raise ValueError(
                f"{run.path} must resume with the classes it was begun with. Received: "
                f"{name}={edited!r} instead of {kept!r}. Put them back in {CONFIG}, or train a new "
                "run."
            )


def print_mean_loss_rate(recipe: Recipe, split: Split) -> None:
    """Prints the learning rate of a mean loss equivalent to the recipe's summed loss, to stderr."""
    # AdamW's steps do not depend on the scale of the loss.
    if recipe.normalization != "sum" or recipe.optimizer != "coupled_sgd":
        return
    height, width = recipe.crop or next(iter(split.batches()))[1].shape[1:]
    say(
        f"A learning rate of {recipe.learning_rate:g} for the summed loss amounts to "
        f"{recipe.mean_loss_rate(height, width):.3g} for the mean over the pixels, at {height}x"
        f"{width}."
    )


def warn_of_bad_start(model: keras.Model, learning_rate: float) -> None:
    """Warns in one line of what keeps the model from learning. Scores may be zero at the start.

    Args:
        model: The model before its first step.
        learning_rate: The largest rate of its training.
    """
    # A schedule may begin with a smaller one.
    findings = [finding for finding in diagnose(model) if finding.problem != "high_rate"]
    findings = [f for f in findings if not (_is_normal_at_start(f) or _is_known(f))]
    findings += check_rate(model, learning_rate)
    if findings:
        warnings.warn("; ".join(str(finding) for finding in findings), stacklevel=3)


def _is_normal_at_start(finding):
    if finding.problem == "zero":
        return all(name.startswith("score_") for name in finding.layers)
    return is_head(finding)


def _is_known(finding):
    # Loading weights without a classifier has warned of it.
    return finding.problem == "random" and set(finding.layers) <= {"fc6", "fc7"}
