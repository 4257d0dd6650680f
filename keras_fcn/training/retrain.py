"""Trains the recipes of released models and compares the scores with the published ones."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from keras_fcn.backends import backend
from keras_fcn.data import load
from keras_fcn.io.links import check_links
from keras_fcn.spelling import counted
from keras_fcn.training.progress import say
from keras_fcn.training.recipe import PATHS, Recipe, as_settings, replace
from keras_fcn.training.recipes import find_recipe
from keras_fcn.training.reproduce import (
    Experiment,
    chosen_models,
    find_experiment,
    published_of,
    score_model,
)
from keras_fcn.training.run import Run
from keras_fcn.training.step_times import SOURCE, step_times
from keras_fcn.training.trainer import resume, train

TOLERANCE = 0.01
"""Largest difference in mean IoU: wkentaro/pytorch-fcn retrained these models to within 0.008."""


@dataclasses.dataclass(frozen=True)
class Step:
    """A model to train, and where it starts.

    Args:
        model: Its name in the experiment.
        recipe_name: Name of the recipe.
        recipe: The recipe, with changed settings.
        start: Name of the model whose weights it starts from, `None` for those of the recipe.
    """

    model: str
    recipe_name: str
    recipe: Recipe
    start: str | None


@dataclasses.dataclass(frozen=True)
class Retraining:
    """Mean IoU of retrained models, compared with the published one.

    Args:
        experiment: The `Experiment`.
        num_images: Number of evaluated images.
        obtained: Measured mean IoU by model.
        expected: Published mean IoU by model.
        tolerance: Largest difference between the two.
        changes: Settings that differ from those of the recipes.
    """

    experiment: Experiment
    num_images: int
    obtained: dict[str, float]
    expected: dict[str, float]
    tolerance: float
    changes: dict[str, Any]

    def verdict(self, model: str) -> str:
        """Returns `"within"`, `"below"` or `"above"`; `"not comparable"` for other images."""
        if self.num_images != self.experiment.num_images:
            return "not comparable"
        difference = self.obtained[model] - self.expected[model]
        if abs(difference) <= self.tolerance:
            return "within"
        return "below" if difference < 0 else "above"

    @property
    def is_reproduced(self) -> bool:
        """Whether every model is within the tolerance."""
        return all(self.verdict(model) == "within" for model in self.obtained)

    def as_dict(self) -> dict:
        """Returns everything as JSON values; scores are fractions."""
        models = {
            model: {
                "expected": self.expected[model],
                "obtained": obtained,
                "verdict": self.verdict(model),
            }
            for model, obtained in self.obtained.items()
        }
        return {
            **self.experiment.as_dict(self.num_images),
            "tolerance": self.tolerance,
            "changes": self.changes,
            "models": models,
        }

    def as_text(self) -> str:
        """Returns a table of mean IoU with an explanation of its numbers."""
        lines = [f"{'mean IoU':<16} {'expected':>9} {'obtained':>9} {'tolerance':>10}  verdict"]
        lines += [
            f"{model:<16} {self.expected[model]:>9.4f} {obtained:>9.4f} {self.tolerance:>10.4f}  "
            f"{self.verdict(model)}"
            for model, obtained in self.obtained.items()
        ]
        lines.append(
            f"Expected: {self.experiment.source}; obtained: {self.experiment.data}, "
            f"{self.experiment.split}, {counted(self.num_images, 'image')} at their own size."
        )
        if self.num_images != self.experiment.num_images:
            lines.append(
                f"The expected scores are of {counted(self.experiment.num_images, 'image')}, these "
                f"of {self.num_images}: they cannot be compared."
            )
        if self.changes:
            changes = ", ".join(f"{name}={value}" for name, value in self.changes.items())
            lines.append(f"Settings that differ from the recipes': {changes}.")
        return "\n".join(lines)


def retrain(
    name: str,
    out: str | os.PathLike,
    *,
    models: Sequence[str] | None = None,
    data_dir: str | os.PathLike | None = None,
    manual_dir: str | os.PathLike | None = None,
    changes: Mapping[str, Any] | None = None,
    tolerance: float = TOLERANCE,
) -> Retraining:
    """Trains the recipes of released models from ImageNet weights, and evaluates the best models.

    FCN-16s starts from the retrained FCN-32s and FCN-8s from the retrained FCN-16s, which are
    trained first. The expected hours are printed before. Each run is a folder in `out`: the same
    call resumes an interrupted run and skips finished ones.

    Args:
        name: Name of a table, see `keras_fcn.training.reproduce.EXPERIMENTS`.
        out: Folder of the runs.
        models: Names of models of the table; `None` for all.
        data_dir: See `keras_fcn.data.load`.
        manual_dir: See `keras_fcn.data.load`.
        changes: Settings of every recipe that differ from the published training, by name.
        tolerance: Largest difference in mean IoU, a fraction from 0 to 1.

    Returns:
        `Retraining`, models in the order of the table.

    Raises:
        FileExistsError: If `out` is a file.
        FileNotFoundError: If the data are missing and cannot be downloaded.
        OSError: If the ImageNet weights cannot be downloaded.
        ValueError: If there is no such table, model or setting, `tolerance` is not from 0 to 1, or
            `out` holds runs of other settings, or an interrupted one of another `data_dir`.
    """
    if not 0 <= tolerance <= 1:
        raise ValueError(f"`tolerance` must be from 0 to 1. Received: {tolerance=}.")
    check_links(out)
    if Path(out).exists() and not Path(out).is_dir():
        raise FileExistsError(f"`out` must be a folder. Received: {out}, a file.")
    experiment = find_experiment(name)
    chosen = chosen_models(experiment, models)
    given = {"data_dir": data_dir, "manual_dir": manual_dir}
    given = {key: os.fspath(place) for key, place in given.items() if place is not None}
    settings = {**(changes or {}), **given}
    steps = plan(experiment, chosen, settings)
    # `changes` may set the folders, too.
    places = {key: settings.get(key) for key in ("data_dir", "manual_dir")}
    say(expected_hours(steps))
    examples = load(experiment.data, experiment.split, **places)
    runs = {}
    for step in steps:
        say(f"{step.model}: recipe {step.recipe_name}")
        runs[step.model] = _trained(step, Path(out))
    scores = {
        model: score_model(experiment, model, runs[model].load_model(), examples)
        for model in chosen
    }
    return Retraining(
        experiment,
        len(examples),
        {model: each.as_dict()["mean_iou"] for model, each in scores.items()},
        {model: published_of(experiment, model).scores["mean_iou"] for model in chosen},
        tolerance,
        dict(changes or {}),
    )


def plan(experiment: Experiment, models: Sequence[str], changes: Mapping[str, Any]) -> list[Step]:
    """Returns the trainings that models need, each after the one that it starts from.

    Args:
        experiment: The `Experiment`.
        models: Names of its models.
        changes: Settings to change in every recipe.
    """
    steps: dict[str, Step] = {}

    def add(model):
        if model in steps:
            return
        recipe_name = published_of(experiment, model).recipe
        recipe = find_recipe(recipe_name)
        start = recipe.weights if recipe.weights in experiment.models else None
        if start is not None:
            add(start)
        steps[model] = Step(model, recipe_name, replace(recipe, **changes), start)

    for model in models:
        add(model)
    return list(steps.values())


def expected_hours(steps: Sequence[Step]) -> str:
    """Returns a table of the expected hours of each training by GPU, and where they come from.

    Args:
        steps: As from `plan`.
    """
    recipe = steps[0].recipe
    width = max(len(step.model) for step in steps) + 2
    lines = [f"{'expected hours':<34}" + "".join(f"{step.model:>{width}}" for step in steps)]
    times = step_times(recipe)
    for time in times:
        title = f"{time.card}, {time.backend}, {time.precision}"
        cells = [_hours(time, step.recipe) for step in steps]
        lines.append(f"{title:<34}" + "".join(f"{cell:>{width}}" for cell in cells))
    lines += [
        f"From {time.seconds:g} s for a step of {counted(time.batch_size, 'image')} of 500x500 on "
        f"{time.card}, {time.backend} ({SOURCE})."
        for time in times
    ]
    device = ", ".join(backend.gpu_names()) or "a CPU"
    here = (time for time in times if (time.card, time.backend) == (device, backend.name))
    if next(here, None) is None:
        lines.append(
            f"This device, {device} with {backend.name}, is none of them: the progress of each run "
            "estimates the time left from its own steps, after the second."
        )
    return "\n".join(lines)


def _hours(time, recipe):
    if recipe.steps is None:
        return "unknown"
    # Fewer images in a step than were measured take longer than in proportion.
    bound = "> " if recipe.batch_size < time.batch_size else ""
    return f"{bound}{time.hours(recipe):.1f}"


def _trained(step, out):
    run = Run(out / step.model)
    if run.exists:
        stored, wanted = run.recipe()[1], step.recipe.with_absolute_paths()
        if _fixed_settings(stored, step) != _fixed_settings(wanted, step):
            raise ValueError(
                f"`out` must hold runs of the same settings. Received: {run.path}, of others. "
                "Remove it, or name another folder (--out)."
            )
        if not run.is_finished and wanted.data_dir not in (None, stored.data_dir):
            raise ValueError(
                f"`data_dir` must be the folder that the interrupted run {run.path} reads, "
                f"{stored.data_dir}. Received: {wanted.data_dir}. Pass that folder, or remove the "
                "run."
            )
        resume(run.path)
    else:
        out.mkdir(parents=True, exist_ok=True)
        start = None if step.start is None else out / step.start
        train(step.recipe, run.path, name=step.recipe_name, start=start)
    return run


def _fixed_settings(recipe, step):
    """Returns the settings but for folders, and for the weights if they are another stage's."""
    free = PATHS if step.start is None else (*PATHS, "weights")
    return {name: value for name, value in as_settings(recipe).items() if name not in free}
