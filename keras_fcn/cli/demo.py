"""`keras-fcn demo`: segments three street scenes, then trains a small model."""

import argparse

from keras_fcn.cli import options as shared
from keras_fcn.cli.output_files import check_picture
from keras_fcn.cli.quiet_imports import import_tensorflow


def add_parser(subparsers: shared.Subparsers) -> None:
    """Adds `keras-fcn demo` and its options."""
    parser = shared.add_command(
        subparsers,
        "demo",
        run,
        help="segment street scenes and train a small FCN-8s, offline",
    )
    parser.add_argument(
        "--out",
        default="keras-fcn-demo.png",
        metavar="PNG",
        help="file for the picture; default: %(default)s",
    )


def run(options: argparse.Namespace) -> None:
    """Segments three street scenes, then trains a small model."""
    check_picture("--out", options.out)
    import_tensorflow()
    from keras_fcn.training.demo import demo

    demo(options.out)
