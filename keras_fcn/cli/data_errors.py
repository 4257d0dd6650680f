"""`keras-fcn data errors`: shows the labels that trained models contradict."""

import argparse
import json

from keras_fcn.cli import options as shared
from keras_fcn.cli.output_files import check_picture
from keras_fcn.cli.quiet_imports import import_tensorflow
from keras_fcn.io.atomic import atomic_write


def add_parser(subparsers: shared.Subparsers) -> None:
    """Adds `keras-fcn data errors` and its options."""
    parser = shared.add_command(
        subparsers,
        "errors",
        run,
        help="show the images whose labels trained models contradict",
        description="Shows the training and validation images whose labels the models of runs "
        "contradict most confidently, each judged by a run that held it out, if there is one.",
    )
    parser.add_argument(
        "runs",
        nargs="+",
        metavar="RUN",
        help="folders written by train, such as those of all folds of a cross-validation",
    )
    parser.add_argument(
        "--count", type=int, default=12, metavar="N", help="number of images; default: %(default)s"
    )
    parser.add_argument(
        "--out",
        default="errors.png",
        metavar="PNG",
        help="file for the sheet; default: %(default)s",
    )
    shared.add_json(parser)


def run(options: argparse.Namespace) -> None:
    """Prints the images whose labels are contradicted, and writes them as a sheet."""
    import_tensorflow()
    from keras_fcn.training.label_errors import find_label_errors

    if options.count < 1:
        raise ValueError(f"--count must be at least 1. Received: {options.count}.")
    check_picture("--out", options.out)
    found = find_label_errors(options.runs, options.count)
    # The errors are printed even if the sheet cannot be written.
    print(json.dumps(found.as_dict(), indent=2) if options.json else found.as_text())
    if found.errors:
        with atomic_write(options.out, sync=False) as temporary:
            found.sheet().save(temporary)
        if not options.json:
            print(f"Sheet: {options.out}")
