"""Options that several commands share, and what they stand for."""

import argparse
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_fcn import label_spaces
from keras_fcn.cli.quiet_imports import import_tensorflow
from keras_fcn.label_spaces import LabelSpace
from keras_fcn.training.recipe import SETTINGS

if TYPE_CHECKING:
    from keras_fcn.training.trained import TrainedModel

Subparsers = Any  # argparse has no public name for what `add_subparsers` returns.

MODEL_HELP = (
    "folder written by train, a .keras, .caffemodel, .pth or .npz file, a file of the Hugging Face "
    "Hub (hf://OWNER/REPO/FILE@REVISION), or published weights: "
    "camvid, pascal_voc, pascal_voc_atonce, pascal_voc_alexnet, pascal_context, sift_flow or nyudv2"
)
_EXPORTED_HELP = ", or what export wrote: a .onnx or .tflite file, or a folder"
_METAVARS = {int: "N", float: "NUMBER", str: "TEXT"}


def add_command(
    subparsers: Subparsers, name: str, run: Callable, **arguments: Any
) -> argparse.ArgumentParser:
    """Returns the parser of a command; its result holds `run`, the `parser` and the name."""
    parser = subparsers.add_parser(name, **arguments)
    parser.set_defaults(run=run, parser=parser, command=name)
    return parser


def add_trained_model(parser: argparse.ArgumentParser, *, predicts: bool = True) -> None:
    """Adds MODEL, see `keras_fcn.export.open_model`, --at-once, --task and, where the model
    predicts, --precision.
    """
    exported = _EXPORTED_HELP if predicts else ""
    parser.add_argument("model", metavar="MODEL", help=MODEL_HELP + exported)
    add_at_once(parser, "MODEL, a .pth or .npz file,")
    parser.add_argument(
        "--task", help="label map of a MODEL of several tasks; by default that of the first"
    )
    if predicts:
        parser.add_argument(
            "--precision",
            choices=SETTINGS["precision"].choices,
            help="dtype policy in which MODEL computes; by default that of its training",
        )


def model_options(options: argparse.Namespace) -> dict[str, Any]:
    """Returns what `open_model` takes of the options of `add_trained_model`."""
    names = ("at_once", "task", "precision")
    return {name: getattr(options, name) for name in names if name in options}


def open_model(options: argparse.Namespace, **wishes: Any) -> "TrainedModel":
    """Returns what `keras_fcn.export.open_model` opens with the options of `add_trained_model`;
    warns if its precision is slow on this machine.

    Args:
        options: With the path `model`.
        **wishes: Further arguments of `keras_fcn.export.open_model`.
    """
    from keras_fcn import export
    from keras_fcn.export.formats import find_format
    from keras_fcn.training.environment import warn_of_slow_precision

    if (find_format(Path(options.model)) or ("",))[0] == "saved_model":
        import_tensorflow()  # It runs the file on every backend.
    trained = export.open_model(options.model, **model_options(options), **wishes)
    if not isinstance(trained.model, export.ExportedModel):
        warn_of_slow_precision(trained.model.dtype_policy.name)
    return trained


def add_at_once(parser: argparse.ArgumentParser, subject: str) -> None:
    """Adds --at-once, whose help begins with `subject`."""
    parser.add_argument(
        "--at-once", action="store_true", help=f"{subject} was trained with FCN-8s at once"
    )


def add_setting(parser: argparse.ArgumentParser, name: str, **changes: Any) -> None:
    """Adds the option of a setting of `Recipe` as it is declared, but for some `changes`."""
    declared = SETTINGS[name]
    arguments = {"default": declared.default, "help": _as_text(declared.help)}
    if declared.item_type is bool:
        arguments["action"] = argparse.BooleanOptionalAction
    else:
        arguments |= {"type": declared.item_type, "choices": declared.choices}
        if declared.choices is None:
            kind = "DIR" if declared.is_folder else _METAVARS[declared.item_type]
            arguments["metavar"] = declared.metavar or kind
    if declared.is_tuple:
        arguments["nargs"] = declared.length or "+"
    arguments |= changes
    if arguments["default"] not in (None, False, argparse.SUPPRESS):
        arguments["help"] += "; default: %(default)s"
    parser.add_argument(declared.option_name, **arguments)


def _as_text(phrase):
    """Returns a declared help as argparse prints it, with options in place of settings."""

    def shown(name):
        declared = SETTINGS.get(name[1])
        return declared.option_name if declared is not None and declared.option else name[1]

    return re.sub("`([^`]*)`", shown, phrase).replace("%", "%%")


def add_label_space(parser: argparse.ArgumentParser) -> None:
    """Adds --label-space, --num-classes and --ignore-class."""
    for name in ("label_space", "num_classes", "ignore_class"):
        add_setting(parser, name)


def add_json(parser: argparse.ArgumentParser) -> None:
    """Adds --json."""
    parser.add_argument("--json", action="store_true", help="print one JSON object and no table")


def add_colour_blind(parser: argparse.ArgumentParser) -> None:
    """Adds --colour-blind."""
    parser.add_argument(
        "--colour-blind",
        action="store_true",
        help="use colours that people with a colour vision deficiency can tell apart",
    )


def shown_space(options: argparse.Namespace, trained: "TrainedModel") -> LabelSpace:
    """Returns the model's `LabelSpace`, in the colours that the options ask for."""
    space = trained.label_space
    return label_spaces.in_colour_blind_palette(space) if options.colour_blind else space


def add_views(parser: argparse.ArgumentParser) -> None:
    """Adds the options of test-time augmentation."""
    for name in ("test_scales", "test_flip"):
        help_text = f"{_as_text(SETTINGS[name].help)}; default: as in the run's recipe"
        add_setting(parser, name, default=None, help=help_text)


def label_space(options: argparse.Namespace) -> LabelSpace:
    """Returns the `LabelSpace` that the options describe."""
    return label_spaces.choose(options.label_space, options.num_classes, options.ignore_class)


def palette(options: argparse.Namespace, space: LabelSpace) -> Any:
    """Returns the colours that label maps hold, or `None` for class ids."""
    return space.colours if options.palette else None


def views(options: argparse.Namespace, trained: "TrainedModel") -> dict[str, Any]:
    """Returns `scales` and `flip` of a prediction: from the options, else as the run's recipe.

    Raises:
        ValueError: If a scale is no finite number greater than 0.
    """
    scales, flip = options.test_scales, options.test_flip
    for scale in scales or ():
        if not 0 < scale < math.inf:
            raise ValueError(
                f"--test-scales must be finite numbers greater than 0. Received: {scale:g}."
            )
    return {
        "scales": trained.test_scales if scales is None else tuple(scales),
        "flip": trained.test_flip if flip is None else flip,
    }
