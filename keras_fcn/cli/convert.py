"""`keras-fcn convert`: turns a weight file into one of this package."""

import argparse

from keras_fcn.cli import options as shared
from keras_fcn.spec import AT_ONCE_SKIP_SCALES, MODEL_NAMES


def add_parser(subparsers: shared.Subparsers) -> None:
    """Adds `keras-fcn convert` and its options."""
    parser = shared.add_command(
        subparsers, "convert", run, help="convert Caffe, PyTorch or npz weights"
    )
    parser.add_argument("source", metavar="SRC", help=".caffemodel, .pth, .npz or a Keras file")
    parser.add_argument("target", metavar="DST", help="new .weights.h5 or .keras file")
    shared.add_label_space(parser)
    # Nobody else has weights of FCN-4s, and those of AlexNet are read as they are.
    shared.add_setting(parser, "model", choices=MODEL_NAMES[:3])
    for name in ("padding", "fc_units"):
        shared.add_setting(parser, name)
    shared.add_at_once(parser, "SRC")
    parser.add_argument(
        "--mean",
        type=float,
        nargs=3,
        metavar=("BLUE", "GREEN", "RED"),
        help="mean that SRC was trained with; default: PASCAL VOC's",
    )


def run(options: argparse.Namespace) -> None:
    """Writes a weight file in Keras's format."""
    from keras_fcn.models.convert import convert
    from keras_fcn.training.objective import MODELS

    label_space = shared.label_space(options)
    model = MODELS[options.model](
        num_classes=label_space.num_classes,
        label_space=label_space,
        skip_scales=AT_ONCE_SKIP_SCALES if options.at_once else None,
        mean=options.mean,
        padding=options.padding,
        fc_units=options.fc_units,
        data_format="channels_last",
    )
    convert(options.source, options.target, model)
    print(f"{type(model).__name__}, {model.count_params():,} values: {options.target}")
