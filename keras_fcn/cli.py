"""The command `keras-fcn`: parses, calls the package, prints.

Keras is imported by the commands that need it and not before, so that `--help` answers at once.
"""

import argparse
import contextlib
import dataclasses
import os
import sys
import warnings

from keras_fcn.version import __version__

_LABEL_SPACES = (
    *("ade20k", "camvid", "cityscapes", "nyudv2_40", "oxford_iiit_pet", "pascal_context"),
    *("pascal_voc", "sift_flow", "sift_flow_geometric"),
)
_DIR_HELP = "folder of images/ and labels/, or of NAME/ and NAMEannot/ for each split"
_MODEL_HELP = "folder written by train, a .keras file, pascal_voc or pascal_voc_atonce"


def main(arguments=None):
    """Runs the command line and returns its exit code: 0, 1 for a failure, 2 for wrong options."""
    options = _parser().parse_args(arguments)
    try:
        with _quiet_imports():
            import tensorflow

            import keras_fcn.training.train  # noqa: F401

            tensorflow.config.list_physical_devices()
        warnings.showwarning = _show_warning
        return options.run(options) or 0
    except (ImportError, OSError, ValueError) as error:
        if options.traceback:
            raise
        print(f"keras-fcn: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("keras-fcn: interrupted", file=sys.stderr)
        return 130


def _parser():
    parser = argparse.ArgumentParser(
        prog="keras-fcn", description="Semantic segmentation with fully convolutional networks."
    )
    parser.add_argument("--version", action="version", version=__version__)
    parser.add_argument("--traceback", action="store_true", help="show where an error came from")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    train = commands.add_parser("train", help="train on folders of images and label maps")
    train.set_defaults(run=_train)
    _add_data(train)
    train.add_argument("--val-images", metavar="DIR", help="images to validate on")
    train.add_argument("--val-labels", metavar="DIR", help="their label maps")
    _add_label_space(train)
    train.add_argument("--out", required=True, metavar="RUN", help="folder that is made")
    _add_model(train)
    train.add_argument(
        "--weights", metavar="WEIGHTS", help="imagenet, pascal_voc or a file; default: random"
    )
    train.add_argument(
        "--precision", default="float32", choices=["float32", "mixed_bfloat16", "mixed_float16"]
    )
    train.add_argument("--epochs", type=int, default=10, metavar="N")
    train.add_argument("--batch-size", type=int, default=1, metavar="N")
    train.add_argument("--learning-rate", type=float, default=1e-4, metavar="RATE")
    train.add_argument("--weight-decay", type=float, default=1e-4, metavar="DECAY")
    train.add_argument("--seed", type=int, default=0, metavar="N")

    evaluate = commands.add_parser("evaluate", help="score a trained model")
    evaluate.set_defaults(run=_evaluate)
    evaluate.add_argument("model", metavar="MODEL", help=_MODEL_HELP)
    _add_data(evaluate)

    predict = commands.add_parser("predict", help="write label maps and overlays of images")
    predict.set_defaults(run=_predict)
    predict.add_argument("model", metavar="MODEL", help=_MODEL_HELP)
    predict.add_argument("images", nargs="+", metavar="IMAGE")
    predict.add_argument(
        "--out", default="predictions", metavar="DIR", help="folder that is written to"
    )

    convert = commands.add_parser("convert", help="turn Caffe, PyTorch or npz weights into Keras's")
    convert.set_defaults(run=_convert)
    convert.add_argument("source", metavar="SRC", help=".caffemodel, .pth, .npz or a Keras file")
    convert.add_argument("target", metavar="DST", help=".weights.h5 or .keras, which is made")
    _add_label_space(convert)
    _add_model(convert)
    convert.add_argument(
        "--at-once", action="store_true", help="SRC was trained with FCN-8s at once"
    )
    convert.add_argument(
        "--mean",
        type=float,
        nargs=3,
        metavar=("BLUE", "GREEN", "RED"),
        help="mean that SRC was trained with; default: PASCAL VOC's",
    )

    data = commands.add_parser("data", help="look into a data set").add_subparsers(
        required=True, metavar="COMMAND"
    )
    check = data.add_parser("check", help="read every file once and report what is wrong")
    check.set_defaults(run=_check_data)
    check.add_argument("folders", nargs="+", metavar="DIR", help=_DIR_HELP)
    _add_label_space(check)
    _add_palette(check)
    check.add_argument("--json", action="store_true", help="print one JSON object and no table")
    check.add_argument("--chart", metavar="PNG", help="bar chart of the classes, which is written")

    preview = data.add_parser("preview", help="write a sheet of images and overlays")
    preview.set_defaults(run=_preview_data)
    preview.add_argument("folders", nargs="+", metavar="DIR", help=_DIR_HELP)
    _add_label_space(preview)
    _add_palette(preview)
    preview.add_argument("--count", type=int, default=8, metavar="N", help="pairs that are shown")
    preview.add_argument("--out", default="preview.png", metavar="PNG", help="the sheet")

    demo = commands.add_parser("demo", help="train FCN-32s, 16s and 8s on drawn shapes, offline")
    demo.set_defaults(run=_demo)
    demo.add_argument("--out", default="keras-fcn-demo.png", metavar="PNG", help="the picture")
    return parser


def _add_data(parser):
    parser.add_argument("--images", required=True, metavar="DIR")
    parser.add_argument("--labels", required=True, metavar="DIR", help="label maps, same names")


def _add_model(parser):
    parser.add_argument("--model", default="fcn8s", choices=["fcn32s", "fcn16s", "fcn8s"])
    parser.add_argument("--padding", default="paper", choices=["paper", "same"])
    parser.add_argument("--fc-units", type=int, default=4096, metavar="N")


def _add_label_space(parser):
    parser.add_argument("--num-classes", type=int, metavar="N")
    parser.add_argument("--ignore-class", type=int, metavar="ID", help="label that does not count")
    parser.add_argument(
        "--label-space",
        metavar="NAME",
        help=f"{', '.join(_LABEL_SPACES)}, or a .toml or .json file; instead of the two above",
    )


def _add_palette(parser):
    parser.add_argument(
        "--palette", action="store_true", help="label maps hold the label space's colours"
    )


def _label_space(options):
    from keras_fcn import label_spaces

    if options.label_space is None:
        if options.num_classes is None:
            raise ValueError("--num-classes must be given, or else --label-space.")
        return label_spaces.generic(options.num_classes, options.ignore_class)
    if options.num_classes is not None or options.ignore_class is not None:
        raise ValueError("--label-space must stand without --num-classes and --ignore-class.")
    if options.label_space in _LABEL_SPACES:
        return getattr(label_spaces, options.label_space.upper())
    if not options.label_space.endswith((".toml", ".json")):
        raise ValueError(
            f"--label-space must be one of {', '.join(_LABEL_SPACES)}, or a .toml or .json file. "
            f"Received: {options.label_space}."
        )
    return label_spaces.from_file(options.label_space)


def _train(options):
    from keras_fcn.data.files import find_pairs
    from keras_fcn.training.train import Settings, train

    if (options.val_images is None) != (options.val_labels is None):
        raise ValueError("--val-images and --val-labels must be given together.")
    names = [field.name for field in dataclasses.fields(Settings)]
    settings = Settings(**{name: getattr(options, name) for name in names})
    label_space = _label_space(options)
    train_pairs = find_pairs(options.images, options.labels)
    val_pairs = find_pairs(options.val_images, options.val_labels) if options.val_images else []
    history = train(settings, train_pairs, val_pairs, label_space, options.out)
    if val_pairs:
        best = max(history, key=lambda row: row["val_mean_iou"])
        title = f"Best epoch, {best['epoch']} of {settings.epochs}"
        scores = {name[4:]: value for name, value in best.items() if name.startswith("val_")}
        class_iou = {name: scores.pop(f"iou/{name}") for name in label_space.class_names}
        _print_scores(title, scores, class_iou)
    print(f"Run: {options.out}")


def _evaluate(options):
    from keras_fcn.data.batches import evaluation_batches
    from keras_fcn.data.examples import check_pairs
    from keras_fcn.data.files import find_pairs
    from keras_fcn.training.evaluate import evaluate
    from keras_fcn.training.progress import progress_bar
    from keras_fcn.training.run import open_model

    model, space = open_model(options.model)
    classes = {"num_classes": space.num_classes, "ignore_class": space.ignore_class}
    pairs = find_pairs(options.images, options.labels)
    with progress_bar("checking files", len(pairs)) as advance:
        check_pairs(pairs, **classes, progress=lambda done, of: advance())
    batches = evaluation_batches(pairs, **classes, data_format=model.data_format)
    with progress_bar("evaluating", len(pairs)) as advance:
        scores = evaluate(model, batches, **classes, progress=advance)
    class_iou = dict(zip(space.class_names, scores.class_iou, strict=True))
    _print_scores(f"{len(pairs)} images", scores.as_dict(), class_iou)


def _print_scores(title, scores, class_iou):
    lines = {name.replace("_", " ").replace("iou", "IoU"): score for name, score in scores.items()}
    lines |= {f"IoU of {name}": iou for name, iou in class_iou.items()}
    print(f"{title}:")
    for name, value in lines.items():
        print(f"  {name:<26} {value:.4f}")


def _predict(options):
    from pathlib import Path

    from keras_fcn.data.examples import read_image
    from keras_fcn.inference import predict_label_map
    from keras_fcn.training.progress import progress_bar
    from keras_fcn.training.run import open_model
    from keras_fcn.visualization import save_label_map, save_overlay

    outputs = _prediction_paths([Path(image) for image in options.images], Path(options.out))
    for path in outputs:
        read_image(path)
    model, space = open_model(options.model)
    os.makedirs(options.out, exist_ok=True)
    with progress_bar("predicting", len(outputs)) as advance:
        for path, (label_map_path, overlay_path) in outputs.items():
            image = read_image(path)
            label_map = predict_label_map(model, image)
            save_label_map(label_map_path, label_map, space)
            save_overlay(overlay_path, image, label_map, space)
            advance()
    print(f"Label maps and overlays: {options.out}")


def _convert(options):
    from keras_fcn.models.convert import convert
    from keras_fcn.models.fcn import AT_ONCE_SKIP_SCALES
    from keras_fcn.training.train import MODELS

    label_space = _label_space(options)
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


def _prediction_paths(images, out):
    """Returns a dictionary from each image to the files of its label map and its overlay."""
    outputs, owners = {}, {}
    for image in images:
        outputs[image] = (out / f"{image.stem}.png", out / f"{image.stem}_overlay.png")
        for path in outputs[image]:
            if path in owners:
                raise ValueError(
                    f"Images must differ in their names without folder and suffix, which name the "
                    f"outputs. Received: {owners[path]} and {image}."
                )
            owners[path] = image
            if path.exists() and any(path.samefile(other) for other in images if other.exists()):
                raise ValueError(f"--out must be another folder: {path} would be overwritten.")
    return outputs


def _check_data(options):
    import json

    from keras_fcn.data.check import check_data
    from keras_fcn.training.progress import progress_bar
    from keras_fcn.visualization import plot_class_shares

    space = _label_space(options)
    splits, problems = _splits(options.folders)
    num_pairs = sum(map(len, splits.values()))
    quiet = contextlib.nullcontext(lambda: None)
    with quiet if options.json else progress_bar("checking files", num_pairs) as advance:
        report = check_data(splits, space, space.palette if options.palette else None, advance)
    report.problems[:0] = problems
    if options.chart:
        plot_class_shares(report.shares, report.label_space, options.chart)
    print(json.dumps(report.as_dict(), indent=2) if options.json else report.as_text())
    return 1 if report.problems else 0


def _preview_data(options):
    from keras_fcn.data.examples import read_example
    from keras_fcn.visualization import contact_sheet

    if options.count < 1:
        raise ValueError(f"--count must be at least 1. Received: {options.count}.")
    space = _label_space(options)
    splits, _ = _splits(options.folders)
    pairs = [pair for pairs in splits.values() for pair in pairs]
    shown = pairs[:: max(1, len(pairs) // options.count)][: options.count]
    palette = space.palette if options.palette else None
    examples = {
        pair.image.name: read_example(pair, space.num_classes, space.ignore_class, palette)
        for pair in shown
    }
    contact_sheet(examples, space).save(options.out)
    print(f"Preview of {len(examples)} of {len(pairs)} pairs: {options.out}")


def _splits(folders):
    """Returns the pairs of each split in some folders, and what has no partner."""
    from pathlib import Path

    from keras_fcn.data.check import find_splits, match_pairs

    splits, problems = {}, []
    for folder in map(Path, folders):
        for name, (images, labels) in find_splits(folder).items():
            name = name if len(folders) == 1 else str(folder / name)
            splits[name], unmatched = match_pairs(images, labels)
            problems += unmatched
    if not any(splits.values()):
        raise ValueError(f"DIR must hold pairs of images and label maps. Received: {folders}.")
    return splits, problems


def _demo(options):
    from keras_fcn.training.demo import demo

    demo(options.out)


def _show_warning(message, category, filename, lineno, file=None, line=None):
    if "keras_fcn" in filename:
        print(f"keras-fcn: warning: {message}", file=sys.stderr)


@contextlib.contextmanager
def _quiet_imports():
    """Keeps away what TensorFlow's libraries write to standard error while they load."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    sys.stderr.flush()
    kept = os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(kept, 2)
        os.close(kept)


if __name__ == "__main__":
    sys.exit(main())
