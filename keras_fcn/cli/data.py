"""`keras-fcn data`: checks, shows or imports pairs of images and label maps, or finds errors."""

import argparse
import itertools
import json
import os
from pathlib import Path

from keras_fcn.cli import data_errors, data_import
from keras_fcn.cli import options as shared
from keras_fcn.cli.output_files import check_picture, check_plot
from keras_fcn.io.atomic import atomic_write
from keras_fcn.spelling import counted

_DIR_HELP = (
    "folder of images/ and labels/; for each split of NAME/images and NAME/labels, images/NAME and "
    "labels/NAME, or NAME and NAMEannot"
)


def add_parser(subparsers: shared.Subparsers) -> None:
    """Adds `keras-fcn data` and its options."""
    data = subparsers.add_parser(
        "data", help="check, preview or import a data set, or find its label errors"
    )
    subparsers = data.add_subparsers(required=True, metavar="COMMAND")

    check = shared.add_command(
        subparsers, "check", run_check, help="read every file once and report problems"
    )
    _add_folders(check)
    shared.add_json(check)
    check.add_argument("--chart", metavar="PNG", help="file for a bar chart of the classes")

    preview = shared.add_command(
        subparsers, "preview", run_preview, help="write a sheet of images and overlays"
    )
    _add_folders(preview)
    preview.add_argument(
        "--count", type=int, default=8, metavar="N", help="number of pairs; default: %(default)s"
    )
    preview.add_argument(
        "--out",
        default="preview.png",
        metavar="PNG",
        help="file for the sheet; default: %(default)s",
    )

    data_import.add_parser(subparsers)
    data_errors.add_parser(subparsers)


def _add_folders(parser):
    parser.add_argument("folders", nargs="+", metavar="DIR", help=_DIR_HELP)
    shared.add_label_space(parser)
    for name in ("palette", "channels"):
        shared.add_setting(parser, name)


def run_check(options: argparse.Namespace) -> int:
    """Reads every file of a data set once; returns 1 if something is wrong with one."""
    from keras_fcn.data.check import check_data
    from keras_fcn.data.files import files_of
    from keras_fcn.training.progress import progress_bar
    from keras_fcn.visualization import plot_class_shares

    space = shared.label_space(options)
    splits, problems = _splits(options.folders)
    if options.chart:
        check_plot("--chart", options.chart, files_of(itertools.chain(*splits.values())))
    with progress_bar("checking files", sum(map(len, splits.values()))) as advance:
        palette = shared.palette(options, space)
        report = check_data(splits, space, palette, advance, channels=options.channels)
    report.problems[:0] = problems
    # The report is printed even if the chart cannot be written.
    print(json.dumps(report.as_dict(), indent=2) if options.json else report.as_text())
    if options.chart:
        plot_class_shares(report.shares, report.label_space, options.chart)
    return 1 if report.errors else 0


def run_preview(options: argparse.Namespace) -> None:
    """Writes a sheet of images and overlays."""
    from keras_fcn.data.examples import read_example
    from keras_fcn.data.files import files_of, name_in
    from keras_fcn.visualization import contact_sheet

    if options.count < 1:
        raise ValueError(f"--count must be at least 1. Received: {options.count}.")
    space = shared.label_space(options)
    splits, _ = _splits(options.folders)
    pairs = [pair for pairs in splits.values() for pair in pairs]
    check_picture("--out", options.out, files_of(pairs))
    shown = pairs[:: max(1, len(pairs) // options.count)][: options.count]
    rules = (
        space.num_classes,
        space.ignore_class,
        shared.palette(options, space),
        options.channels,
    )
    folder = os.path.commonpath([pair.image.parent for pair in pairs])
    examples = {name_in(folder, pair.image): read_example(pair, *rules) for pair in shown}
    with atomic_write(options.out, sync=False) as temporary:
        contact_sheet(examples, space).save(temporary)
    print(f"Preview of {len(examples)} of {counted(len(pairs), 'pair')}: {options.out}")


def _splits(folders):
    """Returns the pairs of each split in some folders, and what has no partner."""
    from keras_fcn.data.check import find_splits, match_pairs
    from keras_fcn.data.files import find_pairs

    splits, problems = {}, []
    for folder in map(Path, folders):
        for name, (images, labels) in find_splits(folder).items():
            name = name if len(folders) == 1 else str(folder / name)
            pairs, unmatched = match_pairs(images, labels)
            problems += unmatched
            if pairs or not unmatched:
                splits[name] = pairs
    if not any(splits.values()):
        find_pairs(images, labels, recursive=True)  # Raises the error that says why.
        raise ValueError(f"DIR must hold pairs of images and label maps. Received: {folders}.")
    return splits, problems
