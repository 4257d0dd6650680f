"""Trains by a recipe, stage by stage where it has stages, and goes on with what was interrupted."""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

from keras_fcn.distribution import processes
from keras_fcn.training.failures import (
    one_line_for_files,
    one_line_for_lost_processes,
    removed_if_in_vain,
)
from keras_fcn.training.loop import Training, scope
from keras_fcn.training.progress import say
from keras_fcn.training.recipe import Recipe, StagedRecipe, replace
from keras_fcn.training.recipes import find_recipe
from keras_fcn.training.run import Run, Stages
from keras_fcn.training.trained import open_run


def train(
    recipe: Recipe | StagedRecipe | str,
    out: str | os.PathLike,
    *,
    name: str | None = None,
    start: str | os.PathLike | None = None,
    checkpoint_every: int | None = None,
    devices: str | Sequence[str] | None = None,
    gradients: str | None = None,
    keep_state: bool = False,
) -> Run | Stages:
    """Trains by a recipe and leaves a run folder behind.

    Every file is read and checked, and the weights are loaded, before the folder is made. The
    folder goes again if the run fails before its first checkpoint, unless the disk refused it: then
    `resume` begins anew.

    Args:
        recipe: A `Recipe`, a `StagedRecipe`, or the name of one of `keras_fcn.training.recipes`.
        out: Folder that is made; it must not exist.
        name: What the recipe is called, if it has no name among those.
        start: Run folder whose best model is what the first stage goes on from, instead of the
            recipe's `weights`: the hand-over from 32s to 16s to 8s.
        checkpoint_every: Steps between two checkpoints, beside those at the end of each epoch.
        devices: What shares each batch, see `keras_fcn.distribution.data_parallel`; `None` for the
            one device of the backend. Several processes must call this alike, with a common `out`,
            which the first one writes. When one of them ends, the others are ended with code 1.
        gradients: `"bfloat16"` sends the gradients among the `devices` at half the size and
            rounded; `None` sends them as they are. See `keras_fcn.distribution.data_parallel`.
        keep_state: Whether to keep the last checkpoint, with the optimizer's state, after the run
            is finished.

    Returns:
        The `Run`, or the `Stages` of a staged recipe.

    Raises:
        FileExistsError: If `out` exists.
        FileNotFoundError, ValueError: If a file cannot be used, or the weights do not fit; if the
            loss is no longer finite.
        OSError: If the run folder cannot be written, or another process has been lost; its last
            checkpoint is whole.

    Examples:
        >>> from keras_fcn.training import recipes, train
        >>> recipe = recipes.CamvidFCN8s(manual_dir="camvid", epochs=20)
        >>> train(recipe, "runs/camvid")  # doctest: +SKIP
    """
    if isinstance(recipe, str):
        name, recipe = name or recipe, find_recipe(recipe)
    name = name or type(recipe).__name__
    options = {
        "checkpoint_every": checkpoint_every,
        "devices": devices,
        "gradients": gradients,
        "keep_state": keep_state,
    }
    _join_processes(devices, gradients)
    with one_line_for_lost_processes(Path(out)):
        return _begin(recipe, out, name, start, options)


def resume(
    path: str | os.PathLike,
    *,
    checkpoint_every: int | None = None,
    devices: str | Sequence[str] | None = None,
    gradients: str | None = None,
    keep_state: bool = False,
) -> Run | Stages:
    """Goes on with an interrupted run from its last checkpoint, as if it had not been interrupted.

    Args:
        path: The run folder, of one recipe or of a staged one.
        checkpoint_every: As in `train`.
        devices: As in `train`; they may be others than before.
        gradients: As in `train`, and may be another than before.
        keep_state: As in `train`.

    Returns:
        The `Run` or `Stages`.

    Raises:
        FileNotFoundError: If there is no such run, or its data are gone.
        ValueError: If its checkpoint is damaged, or its data have changed.
    """
    options = {
        "checkpoint_every": checkpoint_every,
        "devices": devices,
        "gradients": gradients,
        "keep_state": keep_state,
    }
    _join_processes(devices, gradients)
    with one_line_for_lost_processes(Path(path)):
        if Stages(path).exists:
            return _train_stages(Stages(path), options)
        return _go_on(Run(path), options)


def _go_on(run, options):
    keep_state = options.pop("keep_state")
    if processes.gather(run.is_finished and not run.has_state)[0]:
        say(f"{run.path} is finished.")
        return run
    with one_line_for_files():
        Training.resume(run, **options).run_to_end(keep_state)
    return run


def _begin(recipe, out, name, start, options):
    processes.first_before_others(lambda: _check_absent(out))
    if start is not None:
        recipe = _starting_from(open_run(start), recipe)
    if isinstance(recipe, StagedRecipe):
        stages = Stages(out)
        processes.first_before_others(lambda: stages.exists or stages.create(name, recipe))
        with removed_if_in_vain(stages.path, lambda: any(run.exists for run in stages.runs())):
            return _train_stages(stages, options)
    run, keep_state = Run(out), options.pop("keep_state")
    recipe = recipe.with_absolute_paths()
    with one_line_for_files():
        training = Training.begin(run, recipe, **options)
        run.create(name, recipe, training.train_split.label_space)
        with removed_if_in_vain(run.path, lambda: run.has_state or run.has_model):
            training.run_to_end(keep_state)
    return run


def _join_processes(devices, gradients):
    """Before anything is done that only one of them may do."""
    with scope(devices, gradients):
        pass


def _check_absent(out):
    if Path(out).exists():
        raise FileExistsError(
            f"`out` must not exist yet, so that no run is overwritten. Received: {out}. Remove it, "
            "name another one, or go on with it (--resume)."
        )


def _starting_from(run, recipe):
    """The recipe, or the first stage of a staged one, with the best model of a run as weights."""
    if not isinstance(recipe, StagedRecipe):
        return replace(recipe, weights=str(run.best_model_path))
    first, *_ = recipe.stages
    stages = {**recipe.stages, first: _starting_from(run, recipe.stages[first])}
    return dataclasses.replace(recipe, stages=stages)


def _train_stages(stages, options):
    name, staged = stages.recipe()
    coarser = None
    for stage, recipe in staged.stages.items():
        run = stages.run(stage)
        # As the first process finds it: others may look when it has gone on.
        exists, is_finished = processes.gather((run.exists, run.is_finished))[0]
        if not is_finished:
            say(f"stage {stage}")
            if exists:
                resume(run.path, **options)
            else:
                train(recipe, run.path, name=f"{name}/{stage}", start=coarser, **options)
        coarser = run.path
    return stages
