"""The parser of the command line, with all commands."""

import argparse

from keras_fcn.cli import (
    compare,
    convert,
    data,
    demo,
    evaluate,
    export,
    lr_find,
    predict,
    push,
    receptive_field,
    reproduce,
    serve,
    train,
    weights,
)
from keras_fcn.version import __version__

_COMMANDS = (
    train,
    lr_find,
    evaluate,
    compare,
    predict,
    serve,
    export,
    push,
    convert,
    data,
    receptive_field,
    weights,
    demo,
    reproduce,
)


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser; its result holds the function of the command as `run`."""
    parser = argparse.ArgumentParser(
        prog="keras-fcn", description="Semantic segmentation with fully convolutional networks."
    )
    parser.add_argument("--version", action="version", version=__version__)
    parser.add_argument("--traceback", action="store_true", help="show where an error came from")
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in _COMMANDS:
        command.add_parser(subparsers)
    return parser
