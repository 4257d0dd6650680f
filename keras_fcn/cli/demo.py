"""`keras-fcn demo`: trains the three models on drawn shapes."""

import argparse

from keras_fcn.cli import options as shared


def add_parser(subparsers: shared.Subparsers) -> None:
    """Adds `keras-fcn demo` and its options."""
    parser = shared.add_command(
        subparsers, "demo", run, help="train FCN-32s, 16s and 8s on drawn shapes, offline"
    )
    parser.add_argument(
        "--out", default="keras-fcn-demo.png", metavar="PNG", help="file for the picture"
    )


def run(options: argparse.Namespace) -> None:
    """Trains the three models on drawn shapes."""
    from keras_fcn.training.demo import demo

    demo(options.out)
