"""`keras-fcn data import`: turns what labelling tools write into images and label maps."""

import argparse
import contextlib
import json
from collections.abc import Callable
from typing import Any

from keras_fcn.cli import options as shared

_CLASSES = (
    "names with commas between them, or a file: .txt with a name per line, labelmap.txt, .json or "
    ".toml"
)
_OPTIONS: dict[str, dict[str, Any]] = {
    "images": {"metavar": "DIR", "help": "folder of the images"},
    "classes": {"metavar": "NAMES", "help": _CLASSES},
    "overlap": {
        "choices": ("area", "order"),
        "default": "area",
        "help": "which instance is on top: the smallest, or the last in the file; "
        "default: %(default)s",
    },
    "image_column": {"metavar": "NAME", "help": "column of the images"},
    "label_column": {"metavar": "NAME", "help": "column of the label maps"},
    "rle_column": {"metavar": "NAME", "help": "column of the run lengths"},
    "class_column": {"metavar": "NAME", "help": "column of the classes"},
    "unlisted": {
        "action": "store_true",
        "help": "import images without a row as all background",
    },
    "mapping": {
        "metavar": "KEY=CLASS",
        "nargs": "+",
        "action": "extend",
        "help": "value (255=1), colour (128,0,0=3), subfolder or suffix (_cat=cat) of each class; "
        "the class may be ignore",
    },
}
# Format -> what it reads, what SRC is, its options.
_FORMATS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "coco": ("COCO's instances", "JSON file, or folder of one per split", ("images", "overlap")),
    "labelme": ("labelme", "folder of JSON files", ("images", "classes")),
    "cvat": ("CVAT's Segmentation mask 1.1", "extracted folder", ("images",)),
    "voc": ("PASCAL VOC", "folder of JPEGImages and SegmentationClass", ("images", "classes")),
    "label-studio": ("Label Studio's JSON", "JSON file", ("images", "classes")),
    "rle-csv": (
        "Kaggle's run lengths",
        "CSV file",
        ("images", "classes", "image_column", "rle_column", "class_column", "unlisted"),
    ),
    "hf": (
        "a data set of Hugging Face",
        "folder, Parquet file, or name of a data set",
        ("image_column", "label_column", "classes"),
    ),
    "masks": (
        "masks of values, colours or binary files",
        "folder",
        ("images", "mapping", "classes"),
    ),
}


def add_parser(subparsers: shared.Subparsers) -> None:
    """Adds `keras-fcn data import` with a command for each format."""
    parser = subparsers.add_parser("import", help="import what labelling tools write")
    formats = parser.add_subparsers(required=True, metavar="FORMAT")
    for name, (what, source, names) in _FORMATS.items():
        command = shared.add_command(formats, name, run, help=what, description=f"Imports {what}.")
        command.add_argument("source", metavar="SRC", help=source)
        command.add_argument("out", metavar="OUT", help="folder to write, new or of this import")
        for option in names:
            flag = "map" if option == "mapping" else option.replace("_", "-")
            command.add_argument(f"--{flag}", dest=option, **_OPTIONS[option])
        command.add_argument(
            "--link", action="store_true", help="hard-link the images instead of copying them"
        )
        shared.add_json(command)
        command.set_defaults(format=name, command="import")


def run(options: argparse.Namespace) -> None:
    """Imports a data set and prints what it holds."""
    from keras_fcn.data.formats import import_data

    chosen = {name: getattr(options, name) for name in _FORMATS[options.format][2]}
    if chosen.get("mapping") is not None:
        chosen["mapping"] = _mapping(chosen["mapping"])
    with contextlib.ExitStack() as stack:
        report = import_data(
            options.format,
            options.source,
            options.out,
            link=options.link,
            progress=_progress(stack),
            **chosen,
        )
    print(json.dumps(report.as_dict(), indent=2) if options.json else report.as_text())


def _progress(stack: contextlib.ExitStack) -> Callable[[int, int], None]:
    """Returns a function that opens a bar when it first hears how many pairs there are."""
    from keras_fcn.training.progress import progress_bar

    bar: list[Callable] = []

    def progress(done, total):
        if not bar:
            bar.append(stack.enter_context(progress_bar("importing", total)))
        bar[0]()

    return progress


def _mapping(pairs):
    mapping = {}
    for pair in pairs:
        key, equals, target = pair.rpartition("=")
        if not (key and equals and target) or key in mapping:
            raise ValueError(f"--map must be KEY=CLASS, each KEY once. Received: {pair}.")
        mapping[key] = target
    return mapping
