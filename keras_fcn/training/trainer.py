"""Trains a recipe, stage by stage where it has stages, and resumes interrupted runs."""

import contextlib
import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import keras

from keras_fcn.backends import backend
from keras_fcn.distribution import processes
from keras_fcn.io.links import check_links
from keras_fcn.models.applications import plain_name
from keras_fcn.training.augmentation import Augmenter
from keras_fcn.training.failures import (
    one_line_for_files,
    one_line_for_lost_processes,
    removed_unless_resumable,
)
from keras_fcn.training.loop import Training, scope
from keras_fcn.training.moved_data import record_folders
from keras_fcn.training.progress import say
from keras_fcn.training.recipe import Recipe, StagedRecipe, replace
from keras_fcn.training.recipes import find_recipe
from keras_fcn.training.run import Run, Stages
from keras_fcn.training.run_config import CONFIG
from keras_fcn.training.run_writer import RunWriter, StagesWriter
from keras_fcn.training.trackers import check_names
from keras_fcn.training.trained import open_run
from keras_fcn.training.user_code import UserCode


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
    callbacks: Sequence[keras.callbacks.Callback] = (),
    transforms: Sequence[Augmenter] = (),
    track: Sequence[str] = (),
) -> Run | Stages:
    """Trains a recipe and writes a run folder.

    Every file is read and checked, and the weights are loaded, before the folder is created. The
    folder is removed if the run fails before its first checkpoint, unless the disk refused that
    checkpoint: then `resume` starts over.

    Args:
        recipe: A `Recipe`, a `StagedRecipe`, or the name of one of `keras_fcn.training.recipes`.
        out: Folder to create; it must not exist.
        name: Name of the recipe, if it has none among those.
        start: Run folder whose best model initializes the first stage, instead of the recipe's
            `weights`: stage-wise training from 32s to 16s to 8s.
        checkpoint_every: Steps between two checkpoints, in addition to one at each epoch's end.
        devices: Devices that each batch is split among, see
            `keras_fcn.distribution.data_parallel`; `None` for the backend's single device. Several
            processes must make the same call, with a common `out`, which rank 0 writes. When one of
            them ends, the others end with exit code 1.
        gradients: `"bfloat16"` all-reduces the gradients at half the size, rounded; `None` in their
            own dtype. See `keras_fcn.distribution.data_parallel`.
        keep_state: Whether to keep the last checkpoint, with the optimizer's state, after the run
            is finished.
        callbacks: Keras callbacks, called as by one `fit` over the whole run: `on_train_begin`
            before the first step, `on_epoch_end` after the validation, with its scores in the logs
            (`val_mean_iou`, `val_loss`, `val_iou/CLASS`), and `on_train_end` when the report is
            written. Callbacks that set the learning rate need `schedule="constant"` and
            `warmup=0`, and `SwapEMAWeights` an `ema`. Each stage of a staged recipe is a run. With
            several processes, each calls its own.
        transforms: Augmentation that follows that of the recipe: transforms of
            `keras_fcn.data.transforms`, functions of (image, label_map), Albumentations, or layers
            of Keras; see `keras_fcn.data.transforms.as_transform`.
        track: Experiment trackers that the run is logged to, of `"mlflow"`, `"wandb"` and
            `"tensorboard"`; see `keras_fcn.training.trackers`. The server, the project and so on
            are the tracker's own environment variables. A tracker that fails is a warning.

    Returns:
        The `Run`, or the `Stages` of a staged recipe.

    Raises:
        FileExistsError: If `out` exists.
        FileNotFoundError, ValueError: If a file cannot be used, or the weights do not fit; if the
            loss is no longer finite.
        ImportError: If the package of a tracker is not installed.
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
        "user_code": UserCode(callbacks, transforms),
        "track": check_names(track),
    }
    _join_processes(devices, gradients)
    with one_line_for_lost_processes(Path(out)):
        processes.first_before_others(lambda: _check_absent(out))
        if start is not None:
            recipe = _starting_from(open_run(start), recipe)
        if not isinstance(recipe, StagedRecipe):
            return _begin_run(RunWriter(out), recipe, name, options)
        stages = StagesWriter(out)
        processes.first_before_others(lambda: stages.exists or stages.create(name, recipe))  # type: ignore[func-returns-value]
        with removed_unless_resumable(stages.path, lambda: any(r.exists for r in stages.runs())):
            return _train_stages(stages, options)


def resume(
    path: str | os.PathLike,
    *,
    folders: Mapping[str, str | os.PathLike] | None = None,
    checkpoint_every: int | None = None,
    devices: str | Sequence[str] | None = None,
    gradients: str | None = None,
    keep_state: bool = False,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    transforms: Sequence[Augmenter] = (),
    track: Sequence[str] = (),
) -> Run | Stages:
    """Resumes an interrupted run from its last checkpoint, as if it had not been interrupted.

    Args:
        path: The run folder, of one recipe or of a staged one.
        folders: Where its data lie now, if they were moved: paths by the names of the settings that
            change, such as `data_dir` or `images`. The run keeps them.
        checkpoint_every: As in `train`.
        devices: As in `train`; they may be others than before.
        gradients: As in `train`, and may be another than before.
        keep_state: As in `train`.
        callbacks: As in `train`, of the same classes in the same order; their state is restored.
        transforms: As in `train`, of the same names in the same order.
        track: As in `train`, and may be others than before; a tracker continues its tracked run.

    Returns:
        The `Run` or `Stages`.

    Raises:
        FileNotFoundError: If there is no such run, or its data are gone.
        OSError: If another process trains the run now, or as in `train`.
        ValueError: If its checkpoint is damaged, its data have changed, or it was begun with other
            callbacks or transforms; if a setting that its checkpoint holds, such as `fc_units`, was
            edited in `config.toml`.
    """
    options = {
        "checkpoint_every": checkpoint_every,
        "devices": devices,
        "gradients": gradients,
        "keep_state": keep_state,
        "user_code": UserCode(callbacks, transforms),
        "track": check_names(track),
    }
    _join_processes(devices, gradients)
    with one_line_for_lost_processes(Path(path)):
        processes.exists(Path(path, CONFIG))
        if folders:
            processes.first_before_others(lambda: _record_folders(path, folders))
        if Stages(path).exists:
            return _train_stages(StagesWriter(path), options)
        return _resume_run(RunWriter(path), options)


def exists(
    path: str | os.PathLike,
    devices: str | Sequence[str] | None = None,
    gradients: str | None = None,
) -> bool:
    """Returns whether there is a run to resume, the same in all processes, which it joins.

    Args:
        path: The run folder.
        devices: As in `train`.
        gradients: As in `train`.

    Raises:
        ValueError: If some processes see the run and others do not.
    """
    _join_processes(devices, gradients)
    with one_line_for_lost_processes(Path(path)):
        return processes.exists(Path(path, CONFIG))


def _record_folders(path, folders):
    if processes.rank() == 0:
        record_folders(path, folders)


def _train_stages(stages, options):
    """Trains the stages one after the other, each from the best model of the one before."""
    name, staged = stages.recipe()
    coarser = None
    for stage, recipe in staged.stages.items():
        run = stages.run(stage)
        # As rank 0 finds it: other ranks may look after rank 0 has changed it.
        exists, is_finished = processes.gather((run.exists, run.is_finished))[0]
        if not is_finished:
            say(f"stage {stage}")
            if exists:
                _resume_run(run, options)
            else:
                processes.first_before_others(lambda path=run.path: _check_absent(path))
                if coarser is not None:
                    recipe = _starting_from(coarser, recipe)
                _begin_run(run, recipe, f"{name}/{stage}", options)
        coarser = run
    return stages


def _begin_run(run, recipe, name, options):
    options = dict(options)
    keep_state = options.pop("keep_state")
    recipe = recipe.with_absolute_paths()
    with one_line_for_files():
        training = Training.begin(run, recipe, **options)
        label_space = next(iter(training.train_split.label_spaces.values()))
        run.create(name, recipe, label_space, options["user_code"].names())
        with (
            _only_writer(run),
            removed_unless_resumable(run.path, lambda: run.has_state or run.has_model),
        ):
            training.run_to_end(keep_state)
    return run


def _resume_run(run, options):
    options = dict(options)
    keep_state = options.pop("keep_state")
    if processes.gather(run.is_finished and not run.has_state)[0]:
        say(f"{run.path} is finished.")
        return run
    with one_line_for_files(), _only_writer(run):
        Training.resume(run, **options).run_to_end(keep_state)
    return run


@contextlib.contextmanager
def _only_writer(run):
    """`RunWriter.only_writer`, whose error all processes raise."""
    with contextlib.ExitStack() as stack:
        processes.first_before_others(lambda: stack.enter_context(run.only_writer()))
        yield


def _join_processes(devices, gradients):
    """Joins the processes before anything is done that only one of them may do."""
    started = backend.started_processes()
    if devices is None and started > 1:
        raise ValueError(
            "`devices` must be given where several processes are started (--devices all): else "
            f"each trains a network of its own. Received: {devices=} in one of {started} processes."
        )
    with scope(devices, gradients):
        pass


def _check_absent(out):
    check_links(out)
    if Path(out).exists():
        raise FileExistsError(
            f"`out` must not exist yet, so that no run is overwritten. Received: {out}. Remove it, "
            "name another one, or resume it (--resume)."
        )


def _starting_from(run, recipe):
    """The recipe, or the first stage of a staged one, with the best model of a run as weights."""
    if not isinstance(recipe, StagedRecipe):
        _, theirs = run.recipe()
        if plain_name(theirs.backbone or "") != plain_name(recipe.backbone or ""):
            raise ValueError(
                f"`backbone` must be that of the run to start from (--from), {run.path}: "
                f"{theirs.backbone or 'none'}. Received: {recipe.backbone or 'none'}."
            )
        return replace(recipe, weights=str(run.best_model_path))
    first, *_ = recipe.stages
    stages = {**recipe.stages, first: _starting_from(run, recipe.stages[first])}
    return dataclasses.replace(recipe, stages=stages)
