"""`keras-fcn predict`: writes label maps and overlays of images."""

import argparse
import os
import unicodedata
from pathlib import Path

from keras_fcn.cli import options as shared
from keras_fcn.io.atomic import atomic_write


def add_parser(subparsers: shared.Subparsers) -> None:
    """Adds `keras-fcn predict` and its options."""
    parser = shared.add_command(
        subparsers, "predict", run, help="write label maps and overlays of images"
    )
    shared.add_trained_model(parser)
    parser.add_argument(
        "images", nargs="+", metavar="IMAGE", help="files, or folders with all the images in them"
    )
    parser.add_argument(
        "--out", default="predictions", metavar="DIR", help="folder for the results"
    )
    shared.add_views(parser)


def run(options: argparse.Namespace) -> None:
    """Writes label maps and overlays of images."""
    from keras_fcn.data.examples import read_image, read_size
    from keras_fcn.inference import predict_label_map
    from keras_fcn.models.prediction_memory import check_prediction_memory
    from keras_fcn.training.progress import progress_bar
    from keras_fcn.training.trained import open_model
    from keras_fcn.visualization import save_label_map, save_overlay

    outputs = _prediction_paths(_named_images(options.images), Path(options.out))
    # Headers only: a file that is no image is found before the model is loaded.
    for path in outputs:
        read_size(path)
    trained = open_model(options.model, at_once=options.at_once)
    model, space, views = trained.model, trained.label_space, shared.views(options, trained)
    for size in {read_size(path, model.num_channels) for path in outputs}:
        check_prediction_memory(model, *size, scale=max(views["scales"]))
    with progress_bar("predicting", len(outputs)) as advance:
        for path, (label_map_path, overlay_path) in outputs.items():
            image = read_image(path, model.num_channels)
            label_map = predict_label_map(model, image, **views)
            os.makedirs(label_map_path.parent, exist_ok=True)
            with atomic_write(label_map_path, sync=False) as temporary:
                save_label_map(temporary, label_map, space)
            with atomic_write(overlay_path, sync=False) as temporary:
                save_overlay(temporary, image, label_map, space)
            advance()
    print(f"Label maps and overlays: {options.out}")


def _named_images(places):
    """Returns a dictionary from each image, those in folders included, to its outputs' name."""
    from keras_fcn.data.files import IMAGE_SUFFIXES, files_by_name

    images = {}
    for place in map(Path, places):
        if not place.is_dir():
            images[place] = place.stem
            continue
        found = files_by_name(place, IMAGE_SUFFIXES)
        if not found:
            raise ValueError(
                f"IMAGE must be a file or a folder of {', '.join(IMAGE_SUFFIXES)} files. "
                f"Received: {place}, a folder with none."
            )
        images |= {path: name for name, paths in sorted(found.items()) for path in paths}
    return images


def _prediction_paths(images, out):
    """Returns a dictionary from each image to the files of its label map and its overlay."""
    outputs, owners = {}, {}
    for image, name in images.items():
        name = unicodedata.normalize("NFC", name)
        outputs[image] = (out / f"{name}.png", out / f"{name}_overlay.png")
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
