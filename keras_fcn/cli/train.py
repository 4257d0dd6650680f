"""`keras-fcn train`: trains by a recipe, or resumes a run."""

import argparse
import os
import tomllib

from keras_fcn.cli import options as shared
from keras_fcn.cli.scores import print_scores

RECIPES = (
    *("camvid_fcn8s", "folder", "modern_voc_fcn8s", "paper_pascal_context", "paper_sift_flow"),
    *("paper_voc", "paper_voc_fcn16s", "paper_voc_fcn32s", "paper_voc_fcn8s"),
    *("paper_voc_fcn8s_atonce", "pets_fcn8s"),
)
# Settings of a recipe that have an option of their own; the others are set by --set.
SETTINGS = (
    *("data_dir", "manual_dir", "images", "labels", "val_images", "val_labels", "label_space"),
    *("palette", "num_classes", "ignore_class", "model", "weights", "padding", "fc_units"),
    *("precision", "epochs", "batch_size", "learning_rate", "weight_decay", "seed", "scale"),
    *("crop", "jitter"),
)


def add_parser(subparsers: shared.Subparsers) -> None:
    """Adds `keras-fcn train` and its options."""
    parser = shared.add_command(
        subparsers,
        "train",
        run,
        help="train by a recipe, or on folders of images and label maps",
        # What is not given is as the recipe says.
        argument_default=argparse.SUPPRESS,
    )
    parser.add_argument(
        "recipe",
        nargs="?",
        default=None,
        metavar="RECIPE",
        help=f"{', '.join(RECIPES)}, or the config.toml of a run; default: folder",
    )
    parser.add_argument("--out", default=None, metavar="RUN", help="folder that is made")
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
        default=None,
        metavar="RUN",
        help="go on from the best model of another run",
    )
    parser.add_argument("--resume", default=None, metavar="RUN", help="go on with a run")
    parser.add_argument(
        "--checkpoint-every",
        type=int,
        default=None,
        metavar="STEPS",
        help="write a checkpoint within an epoch, too",
    )
    parser.add_argument(
        "--devices",
        default=None,
        metavar="DEVICES",
        help="share each batch among all, or among some, such as cuda:0,cuda:1; default: one",
    )
    parser.add_argument(
        "--gradients",
        choices=["bfloat16"],
        default=None,
        help="send gradients among the devices at half the size, rounded; default: as they are",
    )
    parser.add_argument(
        "--keep-state",
        action="store_true",
        default=False,
        help="keep the last checkpoint, last.npz, after the run is finished",
    )
    parser.add_argument(
        "--or-resume",
        action="store_true",
        default=False,
        help="go on with RUN if it exists, as after a restart",
    )
    shared.add_data(parser)
    parser.add_argument("--val-images", metavar="DIR", help="images to validate on")
    parser.add_argument("--val-labels", metavar="DIR", help="their label maps")
    shared.add_places(parser)
    shared.add_label_space(parser)
    shared.add_palette(parser, default=argparse.SUPPRESS)
    shared.add_model(parser)
    parser.add_argument(
        "--weights", metavar="WEIGHTS", help="imagenet, pascal_voc or a file; default: random"
    )
    parser.add_argument("--precision", choices=["float32", "mixed_bfloat16", "mixed_float16"])
    parser.add_argument("--epochs", type=int, metavar="N")
    parser.add_argument("--batch-size", type=int, metavar="N")
    parser.add_argument("--learning-rate", type=float, metavar="RATE")
    parser.add_argument("--weight-decay", type=float, metavar="DECAY")
    parser.add_argument("--seed", type=int, metavar="N")
    parser.add_argument(
        "--scale", type=float, nargs=2, metavar=("MIN", "MAX"), help="resize at random"
    )
    parser.add_argument(
        "--crop", type=int, nargs=2, metavar=("HEIGHT", "WIDTH"), help="cut out a random window"
    )
    parser.add_argument(
        "--jitter", action=argparse.BooleanOptionalAction, help="change colours at random"
    )


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
                "--resume must stand alone, but for --checkpoint-every, --devices, --gradients and "
                "--keep-state: a run goes on with the settings that it began with."
            )
        trained = trainer.resume(options.resume, **every)
    else:
        if options.out is None:
            raise ValueError("--out must be given: the folder that is made.")
        name, recipe = _recipe(options.recipe or "folder", changes)
        if options.or_resume and os.path.isdir(options.out):
            trained = trainer.resume(options.out, **every)
        else:
            trained = trainer.train(recipe, options.out, name=name, start=options.start, **every)
    if processes.index() > 0:
        return
    for stage in trained.runs():
        print_best_epoch(stage)
    print(f"Run: {trained.path}")


def _settings(options):
    """The settings that the options change, by name."""
    given = {name: value for name, value in vars(options).items() if name in SETTINGS}
    for change in options.set:
        name, equals, value = change.partition("=")
        if not equals:
            raise ValueError(f"--set must be KEY=VALUE. Received: {change}.")
        try:
            parsed = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            # A text without quotation marks.
            parsed = None if value.lower() == "none" else value
        given[name.strip().replace("-", "_")] = parsed
    return given


def _recipe(name, changes):
    from keras_fcn.training.recipe import replace
    from keras_fcn.training.recipes import find_recipe
    from keras_fcn.training.run import read_config

    if name.endswith(".toml"):
        name, recipe = read_config(name)
    else:
        recipe = find_recipe(name)
    return name, replace(recipe, **changes)


def print_best_epoch(run):
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
