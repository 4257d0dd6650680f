"""`keras-fcn convert`: turns a weight file into one of this package."""

import argparse

from keras_fcn.cli import options as shared
from keras_fcn.cli.quiet_imports import import_tensorflow
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
    shared.add_setting(parser, "model", choices=MODEL_NAMES[:3], help="the network")
    shared.add_setting(parser, "padding")
    shared.add_setting(
        parser,
        "fc_units",
        default=None,
        help="outputs of fc6 and of fc7; default: those of SRC",
    )
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
    from keras_fcn.weights.files import local_file
    from keras_fcn.weights.published import published_names

    label_space = shared.label_space(options)
    if options.source in ("imagenet", *published_names()):
        raise ValueError(
            f"SRC must be a file. Received: {options.source}, a name of weights, which need no "
            "conversion: pass the name as `weights` or as MODEL of another command."
        )
    source = local_file(options.source)
    shapes = _shapes_of(source)
    if options.fc_units is not None:
        shapes["fc_units"] = options.fc_units
    model = MODELS[options.model](
        num_classes=label_space.num_classes,
        label_space=label_space,
        skip_scales=AT_ONCE_SKIP_SCALES if options.at_once else None,
        mean=options.mean,
        padding=options.padding,
        data_format="channels_last",
        **shapes,
    )
    if options.target.endswith(".keras"):
        import_tensorflow()  # Keras imports it to save a model, on every backend.
    convert(source, options.target, model)
    print(f"{type(model).__name__}, {model.count_params():,} values: {options.target}")


def _shapes_of(source):
    """Returns the arguments of the model that follow from the shapes of the kernels in the file."""
    from keras_fcn.data.files import first_few
    from keras_fcn.models.from_file import filters_of
    from keras_fcn.weights.files import open_file

    with open_file(source) as contents:
        entries = contents.entries
        if ("block1_conv1", "kernel") not in entries:
            layers = first_few(sorted({layer for layer, _ in entries})) or "no layer"
            raise ValueError(
                f"SRC must hold an FCN on VGG-16, whose first layer is block1_conv1 or conv1_1. "
                f"Received: {source}, with {layers}. Files of FCNAlexNet, MultimodalFCN32s and "
                "other backbones need no conversion: pass them as `weights` to their model."
            )
        if not any(layer.startswith("score_fr") for layer, _ in entries):
            raise ValueError(
                f"SRC must hold an FCN, with the layer score_fr. Received: {source}, a VGG-16 "
                "without it. It needs no conversion: pass it as `weights` to a model or a recipe."
            )
        fc6 = entries.get(("fc6", "kernel"))
        shapes = {"filters": filters_of(entries)}
        if fc6 is not None and len(fc6.shape) == 4:
            shapes |= {"fc6_kernel_size": fc6.shape[0], "fc_units": fc6.shape[-1]}
    return shapes
