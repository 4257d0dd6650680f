"""`keras-fcn train`: trains by a recipe, or resumes a run."""

import argparse
import os
import tomllib
import typing

from keras_fcn.cli import options as shared
from keras_fcn.cli.scores import print_scores
from keras_fcn.training.recipe import SETTINGS, replace
from keras_fcn.training.recipes import RECIPES, find_recipe

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
    parser.add_argument(
        "recipe",
        nargs="?",
        metavar="RECIPE",
        help=f"{', '.join(RECIPES)}, or the config.toml of a run; default: folder",
    )
    parser.add_argument("--out", metavar="RUN", help="new folder of the run")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change a setting of the recipe, such as epochs=20 or crop=[320,320]",
    )
    parser.add_argument(
        "--from",
        dest="start",
        metavar="RUN",
        help="start from the best model of another run",
    )
    parser.add_argument("--resume", metavar="RUN", help="resume a run")
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
        help="resume RUN if it exists, as after a restart",
    )
    for name, declared in SETTINGS.items():
        if declared.option:
            # An option that is not given leaves the recipe's value.
            shared.add_setting(parser, name, default=argparse.SUPPRESS)


def run(options: argparse.Namespace) -> None:
    """Trains by a recipe, or resumes a run."""
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
    }
    changes = _settings(options)
    if options.resume is not None:
        if changes or options.recipe or options.out or options.start:
            raise ValueError(
                "--resume must be given alone or with --checkpoint-every, --devices, --gradients "
                "or --keep-state: a run keeps its settings."
            )
        trained = trainer.resume(options.resume, **every)
    else:
        if options.out is None:
            raise ValueError("--out must be given: the new folder of the run.")
        name, recipe = _recipe(options.recipe or "folder", changes)
        if options.or_resume and os.path.isdir(options.out):
            trained = trainer.resume(options.out, **every)
        else:
            trained = trainer.train(recipe, options.out, name=name, start=options.start, **every)
    if processes.rank() > 0:
        return
    for stage in trained.runs():
        print_best_epoch(stage)
    print(f"Run: {trained.path}")


def _settings(options):
    """Returns the settings that the options change, by name."""
    given = {name: value for name, value in vars(options).items() if name in SETTINGS}
    for change in options.set:
        name, equals, value = change.partition("=")
        if not equals:
            raise ValueError(f"--set must be KEY=VALUE. Received: {change}.")
        try:
            parsed = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            # A string without quotation marks.
            parsed = None if value.lower() == "none" else value
        given[name.strip().replace("-", "_")] = parsed
    return given


def _recipe(name, changes):
    from keras_fcn.training.run import read_config

    if name.endswith(".toml"):
        name, recipe = read_config(name)
    else:
        recipe = find_recipe(name)
    return name, replace(recipe, **changes)


def print_best_epoch(run: "Run") -> None:
    """Prints the scores of the epoch with the best mean IoU, if the run was validated."""
    history = [row for row in run.history() if row.get("val_mean_iou") is not None]
    if not history:
        return
    best = max(history, key=lambda row: row["val_mean_iou"])
    title = f"{run.path.name}: best epoch, {best['epoch']} of {history[-1]['epoch']}"
    scores = {
        name[4:]: value
        for name, value in best.items()
        if name.startswith("val_") and name != "val_loss"
    }
    names = [name for name in scores if name.startswith("iou/")]
    class_iou = {name[4:]: scores.pop(name) for name in names}
    print_scores(title, scores, class_iou)
