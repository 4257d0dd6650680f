"""`keras-fcn compare`: runs side by side."""

import argparse
import json

from keras_fcn.cli import options as shared
from keras_fcn.cli.output_files import check_file
from keras_fcn.cli.quiet_imports import import_tensorflow


def add_parser(subparsers: shared.Subparsers) -> None:
    """Adds `keras-fcn compare` and its options."""
    parser = shared.add_command(
        subparsers,
        "compare",
        run,
        help="put runs side by side: settings, scores, curves, classes",
    )
    parser.add_argument(
        "runs",
        nargs="+",
        metavar="RUN",
        help="folders written by train; differences are those to the first",
    )
    parser.add_argument(
        "--out",
        default="comparison.html",
        metavar="HTML",
        help="file for the tables and curves; default: %(default)s",
    )
    shared.add_json(parser)


def run(options: argparse.Namespace) -> None:
    """Prints runs side by side and writes them as a page."""
    check_file("--out", options.out)
    import_tensorflow()
    from keras_fcn.training.comparison import Comparison

    comparison = Comparison(options.runs)
    comparison.write_html(options.out)
    print(json.dumps(comparison.as_dict(), indent=2) if options.json else comparison.as_text())
    if not options.json:
        print(f"\nComparison: {options.out}")
