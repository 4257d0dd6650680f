"""`keras-fcn reproduce`: scores released models and compares them with their published scores."""

import argparse
import contextlib
import json
import sys

from keras_fcn.cli import options as shared

_MODELS = ("fcn32s", "fcn16s", "fcn8s", "fcn8s_atonce")


def add_parser(subparsers: shared.Subparsers) -> None:
    """Adds `keras-fcn reproduce` and its options."""
    parser = shared.add_command(
        subparsers,
        "reproduce",
        run,
        help="score released models and compare with their published scores",
    )
    parser.add_argument("experiment", choices=["pascal_voc"])
    parser.add_argument(
        "--models",
        nargs="+",
        choices=_MODELS,
        metavar="MODEL",
        help=f"some of {', '.join(_MODELS)}; default: all",
    )
    shared.add_setting(parser, "data_dir")
    shared.add_setting(parser, "manual_dir")
    shared.add_json(parser)


def run(options: argparse.Namespace) -> None:
    """Prints the scores of released models next to their published scores."""
    from keras_fcn.training.reproduce import reproduce

    places = {"data_dir": options.data_dir, "manual_dir": options.manual_dir}
    # TFDS prints its progress.
    with contextlib.redirect_stdout(sys.stderr):
        report = reproduce(options.experiment, models=options.models, **places)
    print(json.dumps(report.as_dict(), indent=2) if options.json else report.as_text())
