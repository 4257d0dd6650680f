"""Options that several commands share, and what they stand for."""

import argparse
from collections.abc import Callable
from typing import Any

from keras_fcn import label_spaces
from keras_fcn.label_spaces import LabelSpace

Subparsers = Any  # argparse has no public name for what `add_subparsers` returns.

MODEL_HELP = (
    "folder written by train, a .keras, .caffemodel, .pth or .npz file, pascal_voc or "
    "pascal_voc_atonce"
)
LABEL_SPACES = sorted(
    name.lower() for name, space in vars(label_spaces).items() if isinstance(space, LabelSpace)
)


def add_command(
    subparsers: Subparsers, name: str, run: Callable, **arguments: Any
) -> argparse.ArgumentParser:
    """Returns the parser of a command; its result holds `run`, the `parser` and the name."""
    parser = subparsers.add_parser(name, **arguments)
    parser.set_defaults(run=run, parser=parser, command=name)
    return parser


def add_trained_model(parser: argparse.ArgumentParser) -> None:
    """Adds MODEL, see `keras_fcn.training.trained.open_model`, and --at-once."""
    parser.add_argument("model", metavar="MODEL", help=MODEL_HELP)
    add_at_once(parser, "MODEL, a .pth or .npz file,")


def add_at_once(parser: argparse.ArgumentParser, subject: str) -> None:
    """Adds --at-once, whose help begins with `subject`."""
    parser.add_argument(
        "--at-once", action="store_true", help=f"{subject} was trained with FCN-8s at once"
    )


def add_data(parser: argparse.ArgumentParser) -> None:
    """Adds --images and --labels."""
    parser.add_argument("--images", metavar="DIR")
    parser.add_argument("--labels", metavar="DIR", help="label maps, same names")


def add_places(parser: argparse.ArgumentParser) -> None:
    """Adds --data-dir and --manual-dir of a data set by name."""
    parser.add_argument("--data-dir", metavar="DIR", help="where TFDS keeps data sets")
    parser.add_argument(
        "--manual-dir", metavar="DIR", help="where files of the data set lie already"
    )


def add_model(parser: argparse.ArgumentParser) -> None:
    """Adds --model, --padding and --fc-units."""
    parser.add_argument("--model", choices=["fcn32s", "fcn16s", "fcn8s"])
    parser.add_argument("--padding", choices=["paper", "same"])
    parser.add_argument("--fc-units", type=int, metavar="N")


def add_label_space(parser: argparse.ArgumentParser) -> None:
    """Adds --num-classes, --ignore-class and --label-space."""
    parser.add_argument("--num-classes", type=int, metavar="N")
    parser.add_argument("--ignore-class", type=int, metavar="ID", help="label that does not count")
    parser.add_argument(
        "--label-space",
        metavar="NAME",
        help=f"{', '.join(LABEL_SPACES)}, or a .toml or .json file; instead of both above",
    )


def add_palette(parser: argparse.ArgumentParser, default: bool | str = False) -> None:
    """Adds --palette."""
    parser.add_argument(
        "--palette",
        action="store_true",
        default=default,
        help="label maps are coded in the label space's colours, not in class ids",
    )


def add_json(parser: argparse.ArgumentParser) -> None:
    """Adds --json."""
    parser.add_argument("--json", action="store_true", help="print one JSON object and no table")


def add_views(parser: argparse.ArgumentParser) -> None:
    """Adds the options of test-time augmentation."""
    parser.add_argument(
        "--scales",
        type=float,
        nargs="+",
        metavar="FACTOR",
        help="average predictions over resized images; default: as the run's recipe, or 1",
    )
    parser.add_argument(
        "--flip", action=argparse.BooleanOptionalAction, help="average with the mirrored images"
    )


def label_space(options: argparse.Namespace) -> LabelSpace:
    """Returns the `LabelSpace` that the options describe."""
    return label_spaces.choose(options.label_space, options.num_classes, options.ignore_class)


def palette(options: argparse.Namespace, space: LabelSpace) -> tuple | None:
    """Returns the colours that label maps hold, or `None` for class ids."""
    return space.palette if options.palette else None


def views(options: argparse.Namespace) -> dict[str, Any]:
    """Returns `scales` and `flip` of a prediction: from the options, else from the run's recipe."""
    from keras_fcn.training.trained import final_views

    scales, flip = final_views(options.model)
    return {
        "scales": scales if options.scales is None else tuple(options.scales),
        "flip": flip if options.flip is None else options.flip,
    }
