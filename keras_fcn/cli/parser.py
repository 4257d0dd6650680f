"""The options of every command."""

import argparse

from keras_fcn.cli import commands
from keras_fcn.version import __version__

_DIR_HELP = (
    "folder of images/ and labels/; for each split of NAME/images and NAME/labels, images/NAME and "
    "labels/NAME, or NAME and NAMEannot"
)
_MODEL_HELP = (
    "folder written by train, a .keras, .caffemodel, .pth or .npz file, pascal_voc or "
    "pascal_voc_atonce"
)


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser, whose result has the function of its command as `run`."""
    parser = argparse.ArgumentParser(
        prog="keras-fcn", description="Semantic segmentation with fully convolutional networks."
    )
    parser.add_argument("--version", action="version", version=__version__)
    parser.add_argument("--traceback", action="store_true", help="show where an error came from")
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")

    _add_train(subparsers)

    evaluate = subparsers.add_parser("evaluate", help="score a trained model")
    evaluate.set_defaults(run=commands.evaluate)
    _add_trained_model(evaluate)
    evaluate.add_argument(
        "data", nargs="?", metavar="DATA", help="name of a data set; instead of the two folders"
    )
    _add_data(evaluate)
    _add_palette(evaluate, default=False)
    evaluate.add_argument("--split", default="validation", help="split of DATA")
    _add_places(evaluate)
    evaluate.add_argument(
        "--trimap", type=int, metavar="N", help="score the pixels within N of a boundary, too"
    )
    _add_views(evaluate)
    evaluate.add_argument("--confusion", metavar="PNG", help="confusion matrix, which is written")
    evaluate.add_argument(
        "--save-predictions", metavar="DIR", help="folder of label maps, which is written"
    )
    evaluate.add_argument("--json", action="store_true", help="print one JSON object and no table")

    predict = subparsers.add_parser("predict", help="write label maps and overlays of images")
    predict.set_defaults(run=commands.predict)
    _add_trained_model(predict)
    predict.add_argument(
        "images", nargs="+", metavar="IMAGE", help="files, or folders with all the images in them"
    )
    predict.add_argument(
        "--out", default="predictions", metavar="DIR", help="folder that is written to"
    )

    _add_views(predict)

    convert = subparsers.add_parser("convert", help="turn Caffe, PyTorch or npz weights into ours")
    convert.set_defaults(run=commands.convert)
    convert.add_argument("source", metavar="SRC", help=".caffemodel, .pth, .npz or a Keras file")
    convert.add_argument("target", metavar="DST", help=".weights.h5 or .keras, which is made")
    _add_label_space(convert)
    _add_model(convert)
    convert.set_defaults(model="fcn8s", padding="paper", fc_units=4096)
    _add_at_once(convert, "SRC")
    convert.add_argument(
        "--mean",
        type=float,
        nargs=3,
        metavar=("BLUE", "GREEN", "RED"),
        help="mean that SRC was trained with; default: PASCAL VOC's",
    )

    data = subparsers.add_parser("data", help="look into a data set")
    data = data.add_subparsers(required=True, metavar="COMMAND")
    check = data.add_parser("check", help="read every file once and report what is wrong")
    check.set_defaults(run=commands.check_data)
    check.add_argument("folders", nargs="+", metavar="DIR", help=_DIR_HELP)
    _add_label_space(check)
    _add_palette(check, default=False)
    check.add_argument("--json", action="store_true", help="print one JSON object and no table")
    check.add_argument("--chart", metavar="PNG", help="bar chart of the classes, which is written")

    preview = data.add_parser("preview", help="write a sheet of images and overlays")
    preview.set_defaults(run=commands.preview_data)
    preview.add_argument("folders", nargs="+", metavar="DIR", help=_DIR_HELP)
    _add_label_space(preview)
    _add_palette(preview, default=False)
    preview.add_argument("--count", type=int, default=8, metavar="N", help="pairs that are shown")
    preview.add_argument("--out", default="preview.png", metavar="PNG", help="the sheet")

    demo = subparsers.add_parser("demo", help="train FCN-32s, 16s and 8s on drawn shapes, offline")
    demo.set_defaults(run=commands.demo)
    demo.add_argument("--out", default="keras-fcn-demo.png", metavar="PNG", help="the picture")

    reproduce = subparsers.add_parser("reproduce", help="score released models as published")
    reproduce.set_defaults(run=commands.reproduce)
    reproduce.add_argument("experiment", choices=["pascal_voc"])
    models = ["fcn32s", "fcn16s", "fcn8s", "fcn8s_atonce"]
    reproduce.add_argument(
        "--models",
        nargs="+",
        choices=models,
        metavar="MODEL",
        help=f"some of {', '.join(models)}; default: all",
    )
    _add_places(reproduce)
    reproduce.add_argument("--json", action="store_true", help="print one JSON object and no table")
    for name, command in {**subparsers.choices, **data.choices}.items():
        command.set_defaults(parser=command, command=name)
    return parser


def _add_train(subparsers):
    train = subparsers.add_parser(
        "train",
        help="train by a recipe, or on folders of images and label maps",
        # What is not given is as the recipe says.
        argument_default=argparse.SUPPRESS,
    )
    train.set_defaults(run=commands.train)
    train.add_argument(
        "recipe",
        nargs="?",
        default=None,
        metavar="RECIPE",
        help=f"{', '.join(commands.RECIPES)}, or the config.toml of a run; default: folder",
    )
    train.add_argument("--out", default=None, metavar="RUN", help="folder that is made")
    train.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change a setting of the recipe, such as epochs=20 or crop=[320,320]",
    )
    train.add_argument(
        "--from",
        dest="start",
        default=None,
        metavar="RUN",
        help="go on from the best model of another run",
    )
    train.add_argument("--resume", default=None, metavar="RUN", help="go on with a run")
    train.add_argument(
        "--checkpoint-every",
        type=int,
        default=None,
        metavar="STEPS",
        help="write a checkpoint within an epoch, too",
    )
    train.add_argument(
        "--devices",
        default=None,
        metavar="DEVICES",
        help="share each batch among all, or among some, such as cuda:0,cuda:1; default: one",
    )
    train.add_argument(
        "--gradients",
        choices=["bfloat16"],
        default=None,
        help="send gradients among the devices at half the size, rounded; default: as they are",
    )
    train.add_argument(
        "--keep-state",
        action="store_true",
        default=False,
        help="keep the last checkpoint, last.npz, after the run is finished",
    )
    train.add_argument(
        "--or-resume",
        action="store_true",
        default=False,
        help="go on with RUN if it exists, as after a restart",
    )
    _add_data(train)
    train.add_argument("--val-images", metavar="DIR", help="images to validate on")
    train.add_argument("--val-labels", metavar="DIR", help="their label maps")
    _add_places(train)
    _add_label_space(train)
    _add_palette(train, default=argparse.SUPPRESS)
    _add_model(train)
    train.add_argument(
        "--weights", metavar="WEIGHTS", help="imagenet, pascal_voc or a file; default: random"
    )
    train.add_argument("--precision", choices=["float32", "mixed_bfloat16", "mixed_float16"])
    train.add_argument("--epochs", type=int, metavar="N")
    train.add_argument("--batch-size", type=int, metavar="N")
    train.add_argument("--learning-rate", type=float, metavar="RATE")
    train.add_argument("--weight-decay", type=float, metavar="DECAY")
    train.add_argument("--seed", type=int, metavar="N")
    train.add_argument(
        "--scale", type=float, nargs=2, metavar=("MIN", "MAX"), help="resize at random"
    )
    train.add_argument(
        "--crop", type=int, nargs=2, metavar=("HEIGHT", "WIDTH"), help="cut out a random window"
    )
    train.add_argument(
        "--jitter", action=argparse.BooleanOptionalAction, help="change colours at random"
    )


def _add_trained_model(parser):
    parser.add_argument("model", metavar="MODEL", help=_MODEL_HELP)
    _add_at_once(parser, "MODEL, a .pth or .npz file,")


def _add_at_once(parser, subject):
    parser.add_argument(
        "--at-once", action="store_true", help=f"{subject} was trained with FCN-8s at once"
    )


def _add_data(parser):
    parser.add_argument("--images", metavar="DIR")
    parser.add_argument("--labels", metavar="DIR", help="label maps, same names")


def _add_places(parser):
    parser.add_argument("--data-dir", metavar="DIR", help="where TFDS keeps data sets")
    parser.add_argument(
        "--manual-dir", metavar="DIR", help="where files of the data set lie already"
    )


def _add_views(parser):
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


def _add_model(parser):
    parser.add_argument("--model", choices=["fcn32s", "fcn16s", "fcn8s"])
    parser.add_argument("--padding", choices=["paper", "same"])
    parser.add_argument("--fc-units", type=int, metavar="N")


def _add_label_space(parser):
    parser.add_argument("--num-classes", type=int, metavar="N")
    parser.add_argument("--ignore-class", type=int, metavar="ID", help="label that does not count")
    parser.add_argument(
        "--label-space",
        metavar="NAME",
        help=f"{', '.join(commands.LABEL_SPACES)}, or a .toml or .json file; instead of both above",
    )


def _add_palette(parser, default):
    parser.add_argument(
        "--palette",
        action="store_true",
        default=default,
        help="label maps are coded in the label space's colours, not in class ids",
    )
