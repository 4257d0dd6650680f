"""`keras-fcn export`: writes a model for another runtime, and checks the file there."""

import argparse
from pathlib import Path

from keras_fcn.cli import options as shared
from keras_fcn.cli.quiet_imports import import_tensorflow
from keras_fcn.spec import EXPORT_FORMATS, EXPORT_OUTPUTS
from keras_fcn.spelling import counted


def add_parser(subparsers: shared.Subparsers) -> None:
    """Adds `keras-fcn export` and its options."""
    parser = shared.add_command(
        subparsers, "export", run, help="write a model in the format of another runtime"
    )
    shared.add_trained_model(parser, predicts=False)
    parser.add_argument(
        "--format",
        choices=EXPORT_FORMATS,
        required=True,
        help="TensorFlow's SavedModel, or another",
    )
    parser.add_argument(
        "--out",
        required=True,
        metavar="PATH",
        help="new .onnx or .tflite file, or new folder for saved_model and openvino",
    )
    parser.add_argument(
        "--output",
        choices=EXPORT_OUTPUTS,
        default=EXPORT_OUTPUTS[0],
        help="what the file returns for each pixel; default: %(default)s",
    )
    parser.add_argument(
        "--size",
        type=int,
        nargs=2,
        metavar=("HEIGHT", "WIDTH"),
        help="size of the images in pixels; default: every size",
    )
    parser.add_argument(
        "--quantize",
        choices=("float16", "int8"),
        help="store the weights in float16, or compute convolutions in int8 (onnx and litert)",
    )
    parser.add_argument(
        "--calibration", metavar="DIR", help="folder of typical images for --quantize int8"
    )
    parser.add_argument(
        "--license", metavar="TEXT", help="license of the model; default: of published weights"
    )
    parser.add_argument(
        "--evaluate",
        nargs=2,
        metavar=("IMAGES", "LABELS"),
        help="folders of images, with --size of that size, and of label maps, on which to compare "
        "the mean IoU and the predicted labels of the file with those of the model",
    )


def run(options: argparse.Namespace) -> None:
    """Writes and checks the file, and prints what the check measured."""
    from keras_fcn.export import ExportedModel, export, published_license
    from keras_fcn.training.trained import check_takes_files, open_model

    if Path(options.out).is_file():
        raise FileExistsError(f"--out must be a new file. Received: {options.out}, which exists.")
    import_tensorflow()  # Keras imports it to save a model, on every backend.
    trained = open_model(options.model, **shared.model_options(options))
    if options.evaluate:
        check_takes_files(trained.model, options.model)
    pairs = _pairs(options.evaluate, trained) if options.evaluate else None
    exported = export(
        trained.model,
        options.out,
        format=options.format,
        output=options.output,
        size=options.size,
        quantize=options.quantize,
        calibration=options.calibration,
        license=options.license or published_license(options.model),
    )
    _print_check(exported)
    if pairs is not None:
        _print_scores(ExportedModel(options.out), pairs, trained)


def _print_check(exported):
    print(f"Exported: {exported.path}, {_megabytes(exported.path):.1f} MB")
    largest = max(exported.differences.values())
    of_what = {
        "logits": " of the largest logit",
        "probabilities": "",
        "labels": " of the largest logit between two classes",
    }[exported.metadata.output]
    print(f"Checked in {exported.runtime} at {', '.join(exported.differences)}:")
    print(f"  largest difference: {largest:.1e}{of_what}")
    if exported.agreement is not None:
        print(f"  equal labels on the calibration images: {exported.agreement:.2%}")


def _megabytes(path: Path) -> float:
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files) / 1e6


def _classes(trained):
    space = trained.label_space
    return {
        "num_classes": space.num_classes,
        "ignore_class": space.ignore_class,
        "channels": trained.model.num_channels,
    }


def _pairs(folders, trained):
    """Returns the pairs of the two folders, checked before the conversion."""
    from keras_fcn.data import check_pairs, find_pairs

    pairs = find_pairs(*folders, recursive=True)
    check_pairs(pairs, **_classes(trained))
    return pairs


def _print_scores(file, pairs, trained):
    import numpy as np

    from keras_fcn.data import evaluation_batches
    from keras_fcn.metrics import mean_iou
    from keras_fcn.models.precision import in_precision
    from keras_fcn.training.evaluate import evaluate
    from keras_fcn.training.progress import progress_bar

    space = trained.label_space
    models = file, in_precision(trained.model, "float32")
    matrices = [np.zeros((space.num_classes, space.num_classes), "int64") for _ in models]
    equal = pixels = 0
    batches = evaluation_batches(pairs, data_format=file.data_format, **_classes(trained))
    with progress_bar("evaluating the file and the model", len(pairs)) as advance:
        for batch in batches:
            label_maps = [[] for _ in models]
            for model, matrix, predicted in zip(models, matrices, label_maps, strict=True):
                matrix += evaluate(
                    model,
                    [batch],
                    num_classes=space.num_classes,
                    ignore_class=space.ignore_class,
                    on_prediction=predicted.append,
                ).matrix
            of_file, of_model = map(np.stack, label_maps)
            equal, pixels = equal + (of_file == of_model).sum(), pixels + of_model.size
            advance(len(of_model))
    scores = [float(mean_iou(matrix)) for matrix in matrices]
    print(
        f"mean IoU on {counted(len(pairs), 'image')}: {scores[0]:.4f}, of the model {scores[1]:.4f}"
    )
    print(f"  equal labels on these images: {equal / pixels:.2%}")
