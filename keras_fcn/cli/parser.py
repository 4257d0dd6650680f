"""The parser of the command line, with all commands."""

import argparse
import re
import typing

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
from keras_fcn.spelling import proposal
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
    parser = _Parser(
        prog="keras-fcn", description="Semantic segmentation with fully convolutional networks."
    )
    parser.add_argument("--version", action="version", version=__version__)
    parser.add_argument("--traceback", action="store_true", help="show where an error came from")
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in _COMMANDS:
        command.add_parser(subparsers)
    return parser


class _Parser(argparse.ArgumentParser):
    """A parser that proposes the closest choice; Python 3.14's own `suggest_on_error` does, too."""

    def error(self, message: str) -> typing.NoReturn:
        found = re.search(r"invalid choice: '?(.+?)'? \(choose from (.+)\)$", message)
        if found is not None:
            message += "." + proposal(found[1], re.findall(r"[\w.-]+", found[2]))
        super().error(message)
