"""`keras-fcn evaluate`: scores a trained model on a data set."""

import argparse
import json
import math
from pathlib import Path

from keras_fcn.cli import options as shared
from keras_fcn.cli.output_files import (
    check_folder,
    check_inputs_are_kept,
    check_outputs_differ,
    check_plot,
)
from keras_fcn.cli.quiet_imports import import_tensorflow
from keras_fcn.cli.scores import print_scores
from keras_fcn.io.atomic import atomic_write
from keras_fcn.spec import MODALITIES, SEMANTIC
from keras_fcn.spelling import counted


def add_parser(subparsers: shared.Subparsers) -> None:
    """Adds `keras-fcn evaluate` and its options."""
    parser = shared.add_command(subparsers, "evaluate", run, help="score a trained model")
    shared.add_trained_model(parser)
    parser.add_argument(
        "data", nargs="?", metavar="DATA", help="name of a data set; instead of the two folders"
    )
    shared.add_setting(parser, "images", help="folder of images, instead of DATA")
    shared.add_setting(parser, "labels")
    shared.add_setting(parser, "palette")
    parser.add_argument("--split", default="validation", help="split of DATA; default: %(default)s")
    shared.add_setting(parser, "data_dir")
    shared.add_setting(parser, "manual_dir")
    parser.add_argument(
        "--trimap",
        type=int,
        metavar="N",
        help="score the pixels within N pixels of a boundary, too",
    )
    shared.add_views(parser)
    parser.add_argument(
        "--confusion", metavar="PNG", help="file for a plot of the confusion matrix"
    )
    parser.add_argument(
        "--save-predictions", metavar="DIR", help="folder for the predicted label maps"
    )
    shared.add_json(parser)


def run(options: argparse.Namespace) -> None:
    """Prints the scores of a trained model."""
    from keras_fcn.data.files import files_of
    from keras_fcn.training.evaluate import evaluate
    from keras_fcn.training.progress import progress_bar

    # Whatever can be wrong with the files to write is found before the hours of an evaluation.
    if options.save_predictions is not None:
        check_folder("--save-predictions", options.save_predictions)
    pairs = _checked_pairs(options)
    if options.confusion:
        check_plot("--confusion", options.confusion, files_of(pairs or ()))
    trained = shared.open_model(options, takes_files=pairs is not None)
    batches, names, space = _evaluation_data(options, pairs, trained.model, trained.label_space)
    with progress_bar("evaluating", len(names)) as advance:
        scores = evaluate(
            trained.model,
            batches,
            num_classes=space.num_classes,
            ignore_class=space.ignore_class,
            trimap=options.trimap,
            progress=advance,
            **shared.views(options, trained),
            on_prediction=_prediction_writer(options, names, space),
        )
    if options.json:
        print(json.dumps(_as_json(scores, space, len(names)), indent=2))
    else:
        class_iou = dict(zip(space.class_names, scores.class_iou, strict=True))
        print_scores(counted(len(names), "image"), scores.as_dict(), class_iou)
        if scores.trimap is not None:
            title = f"Within {counted(options.trimap, 'pixel')} of a boundary"
            print_scores(title, scores.trimap.as_dict(), {})
    # A plot that cannot be written after all must not take the scores with it.
    if options.confusion:
        from keras_fcn.visualization import plot_confusion_matrix

        plot_confusion_matrix(scores.matrix, space, options.confusion)


def _checked_pairs(options):
    """Returns the pairs of --images and --labels, or None for a data set by name.

    Raises:
        ValueError: If not one of the two is given, no files match, or a label map to write is one
            of them.
    """
    from keras_fcn.data.files import files_of, find_pairs

    if (options.images is None) != (options.labels is None):
        raise ValueError("--images and --labels must be given together.")
    if (options.data is None) == (options.images is None):
        raise ValueError("Either DATA or --images and --labels must be given.")
    if options.data is not None:
        if options.palette:
            raise ValueError(f"--palette must go with --labels. Received: {options.data}.")
        return None
    pairs = find_pairs(options.images, options.labels, recursive=True)
    label_maps = _label_maps(options, _names(options, pairs))
    if label_maps:
        written = {pair.image: [file] for pair, file in zip(pairs, label_maps, strict=True)}
        check_outputs_differ(written, Path(options.save_predictions))
    check_inputs_are_kept(label_maps, files_of(pairs), "--save-predictions")
    return pairs


def _names(options, pairs):
    """Returns the names of the images, with their subfolders in --images."""
    from keras_fcn.data.files import name_in

    return [name_in(options.images, pair.image.with_suffix("")) for pair in pairs]


def _label_maps(options, names):
    """Returns the files of the predicted label maps."""
    folder = options.save_predictions
    return [] if folder is None else [Path(folder) / f"{name}.png" for name in names]


def _evaluation_data(options, pairs, model, space):
    """Returns batches of one image, the names of the images, and the label space of the data."""
    from keras_fcn.data import check_pairs
    from keras_fcn.training.progress import progress_bar

    if pairs is None:
        return _named_data(options, model, space)
    classes = {"num_classes": space.num_classes, "ignore_class": space.ignore_class}
    rules = {**classes, "channels": model.num_channels, "palette": shared.palette(options, space)}
    with progress_bar("checking files", len(pairs)) as advance:
        check_pairs(pairs, **rules, progress=lambda done, of: advance())
    return _batches_of_files(pairs, rules, model.data_format), _names(options, pairs), space


def _named_data(options, model, space):
    import_tensorflow()
    from keras_fcn.data import evaluation_batches, label_space_of, load
    from keras_fcn.data.named import example_names

    task = options.task or SEMANTIC
    theirs = label_space_of(options.data, task)
    if theirs.num_classes != space.num_classes:
        raise ValueError(
            f"MODEL must have the {counted(theirs.num_classes, 'class')} of {options.data}. "
            f"Received: {counted(space.num_classes, 'class')}."
        )
    channels = sum(MODALITIES[modality] for modality in model.modalities)
    if model.num_channels != channels:
        raise ValueError(
            f"MODEL must take the {counted(channels, 'channel')} of {options.data}. Received: "
            f"{options.model}, which takes {model.num_channels}."
        )
    place = {"data_dir": options.data_dir, "manual_dir": options.manual_dir}
    kinds = {"modalities": model.modalities, "tasks": (task,)}
    examples = load(options.data, options.split, **kinds, **place)
    classes = {"num_classes": theirs.num_classes, "ignore_class": theirs.ignore_class}
    names = [None] * len(examples)
    if options.save_predictions:
        names = [Path(n).stem for n in example_names(options.data, options.split, **place)]
        _check_data_set_is_kept(_label_maps(options, names), options.manual_dir)
    layout = {"data_format": model.data_format, "channels": model.num_channels}
    return evaluation_batches(examples, **classes, **layout), names, theirs


def _check_data_set_is_kept(label_maps, manual_dir):
    for path in label_maps if manual_dir is not None else ():
        if path.exists() and path.resolve().is_relative_to(Path(manual_dir).resolve()):
            raise ValueError(
                f"--save-predictions must be another folder: {path} of --manual-dir would be "
                "overwritten."
            )


def _batches_of_files(pairs, rules, data_format):
    """Yields batches of one image as `evaluation_batches`, without TensorFlow."""
    from keras_fcn.data.examples import read_examples

    for example in read_examples(pairs, **rules):
        image = example["image"].astype("float32")
        if data_format == "channels_first":
            image = image.transpose(2, 0, 1)
        yield image[None], example["label_map"][None]


def _prediction_writer(options, names, space):
    """Returns a function that writes the next image's label map, or None without a folder."""
    from keras_fcn.visualization import save_label_map

    if options.save_predictions is None:
        return None
    Path(options.save_predictions).mkdir(parents=True, exist_ok=True)
    paths = iter(_label_maps(options, names))

    def write(label_map):
        path = next(paths)
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path, sync=False) as temporary:
            save_label_map(temporary, label_map, space)

    return write


def _as_json(scores, space, num_images):
    iou = zip(space.class_names, scores.class_iou.tolist(), strict=True)
    return {
        "images": num_images,
        "scores": scores.as_dict(),
        "class_iou": {name: None if math.isnan(value) else value for name, value in iou},
        "confusion_matrix": scores.matrix.tolist(),
        "trimap": None if scores.trimap is None else scores.trimap.as_dict(),
    }
