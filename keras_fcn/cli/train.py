"""`keras-fcn train`: trains by a recipe, or resumes a run."""

import argparse
import os
import typing

from keras_fcn.cli import options as shared
from keras_fcn.cli import recipe_options
from keras_fcn.cli.quiet_imports import import_tensorflow
from keras_fcn.cli.scores import print_scores
from keras_fcn.io import hub
from keras_fcn.training import trackers
from keras_fcn.training.recipe import PATHS, SETTINGS

if typing.TYPE_CHECKING:
    from keras_fcn.training.run import Run


def add_parser(subparsers: shared.Subparsers) -> None:
    """Adds `keras-fcn train` and its options."""
    parser = shared.add_command(
        subparsers,
        "train",
        run,
        help="train by a recipe, or on folders of images and label maps",
    )
    recipe_options.add_recipe(parser)
    parser.add_argument("--out", metavar="RUN", help="new folder of the run")
    parser.add_argument(
        "--from",
        dest="start",
        metavar="RUN",
        help="start from the best model of another run",
    )
    parser.add_argument(
        "--resume", metavar="RUN", help="resume a run; with --data-dir and so on if its data moved"
    )
    parser.add_argument(
        "--checkpoint-every",
        type=int,
        metavar="STEPS",
        help="write a checkpoint within an epoch, too",
    )
    parser.add_argument(
        "--devices",
        metavar="DEVICES",
        help="split each batch over all devices, or over some, such as cuda:0,cuda:1; default: one",
    )
    parser.add_argument(
        "--gradients",
        choices=["bfloat16"],
        help="all-reduce gradients at half the size, rounded; default: in their own dtype",
    )
    parser.add_argument(
        "--keep-state",
        action="store_true",
        help="keep the last checkpoint, last.npz, after the run is finished",
    )
    parser.add_argument(
        "--or-resume",
        action="store_true",
        help="resume RUN if it exists, as after a restart; it must have the same settings",
    )
    parser.add_argument(
        "--track",
        action="append",
        default=[],
        choices=trackers.NAMES,
        help="log the run to an experiment tracker, too; may be given several times",
    )
    recipe_options.add_settings(parser)


def run(options: argparse.Namespace) -> None:
    """Trains by a recipe, or resumes a run."""
    import_tensorflow()
    from keras_fcn.distribution import processes
    from keras_fcn.training import trainer

    devices = options.devices
    if devices not in (None, "all"):
        devices = devices.split(",")
    every = {
        "checkpoint_every": options.checkpoint_every,
        "devices": devices,
        "gradients": options.gradients,
        "keep_state": options.keep_state,
        "track": options.track,
    }
    changes = recipe_options.changes(options)
    if options.resume is not None:
        if changes.keys() - set(PATHS) or options.recipe or options.out or options.start:
            folders = [SETTINGS[name].option_name for name in PATHS]
            raise ValueError(
                "--resume must be given alone or with --checkpoint-every, --devices, --gradients, "
                f"--keep-state or --track, and for data that moved with {', '.join(folders[:-1])} "
                f"or {folders[-1]}: a run keeps its other settings."
            )
        trained = trainer.resume(options.resume, folders=changes, **every)
    else:
        if options.out is None:
            raise ValueError("--out must be given: the new folder of the run.")
        name, recipe = recipe_options.find(options.recipe, changes)
        if options.or_resume and trainer.exists(options.out, devices, options.gradients):
            # The best model of --from takes the place of other weights.
            kept = changes.keys() - ({"weights"} if options.start else set())
            _check_same_settings(options.out, name, recipe, sorted(kept))
            trained = trainer.resume(options.out, **every)
        else:
            trained = trainer.train(recipe, options.out, name=name, start=options.start, **every)
    if processes.rank() > 0:
        return
    for stage in trained.runs():
        print_best_epoch(stage)
    print(f"Run: {trained.path}")


def _check_same_settings(path, name, recipe, changes):
    """Raises an error if the recipe, or a setting that an option changes, is not the run's.

    Args:
        path: The run folder.
        name: Name of the recipe.
        recipe: The recipe with the changes.
        changes: Names of the settings.
    """
    from keras_fcn.training.recipe import StagedRecipe, as_settings
    from keras_fcn.training.run_config import CONFIG, read_config

    def stages(recipe):
        return recipe.stages if isinstance(recipe, StagedRecipe) else {"": recipe}

    begun_name, begun = read_config(os.path.join(path, CONFIG))
    differences = [f"{name} instead of {begun_name}"] if name != begun_name else []
    for (stage, own), run_stage in zip(
        stages(recipe).items(), stages(begun).values(), strict=False
    ):
        own, run_settings = as_settings(own), as_settings(run_stage)
        differences += [
            f"{setting}={own[setting]} instead of {run_settings[setting]}"
            + (f" in {stage}" if stage else "")
            for setting in changes
            if not _is_same(own[setting], run_settings[setting])
        ]
    if differences:
        raise ValueError(
            "--or-resume must come with the recipe and the settings of the run, which it keeps. "
            f"Received: {', '.join(differences)}, for {path}. Repeat those of the run, or choose "
            "another --out."
        )


def _is_same(setting, run_setting):
    """Whether two values are the same once paths are absolute; a run pins revisions of the Hub."""
    if isinstance(setting, tuple) and isinstance(run_setting, tuple):
        return len(setting) == len(run_setting) and all(map(_is_same, setting, run_setting))
    if not isinstance(setting, str) or not isinstance(run_setting, str):
        return setting == run_setting
    if hub.is_address(setting):
        return setting.partition("@")[0] == run_setting.partition("@")[0]
    return run_setting in (setting, os.path.abspath(os.path.expanduser(setting)))


def print_best_epoch(run: "Run") -> None:
    """Prints the scores of the epoch with the best mean IoU, if the run was validated."""
    from keras_fcn.training.evaluate import SCORE_NAMES

    best = run.best_epoch()
    if best is None:
        return
    last = max(row["epoch"] for row in run.history() if "val_mean_iou" in row)
    title = f"{run.path.name}: best epoch, {best['epoch']} of {last}"
    for name in best:
        # Of further tasks, such as `val_geometric_mean_iou`, the scores follow.
        if name.startswith("val_") and name.endswith("_mean_iou"):
            prefix = name.removesuffix("mean_iou")
            task = prefix.removeprefix("val_").removesuffix("_")
            scores = {n: best[prefix + n] for n in SCORE_NAMES if prefix + n in best}
            start = f"{prefix}iou/"
            class_iou = {n.removeprefix(start): v for n, v in best.items() if n.startswith(start)}
            print_scores(f"{title}, {task}" if task else title, scores, class_iou)
