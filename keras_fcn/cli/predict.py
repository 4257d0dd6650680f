"""`keras-fcn predict`: writes label maps, overlays and what else is asked for of images."""

import argparse
import glob
import json
import os
import sys
import time
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
        "images",
        nargs="+",
        metavar="IMAGE",
        help="files, patterns such as 'photos/*.jpg', or folders with all the images in them",
    )
    parser.add_argument(
        "--out", default="predictions", metavar="DIR", help="folder for the results"
    )
    shared.add_views(parser)
    parser.add_argument(
        "--probabilities",
        choices=("npz", "png"),
        help="write the class probabilities, too: one array of float32, or one grey PNG per class",
    )
    parser.add_argument(
        "--confidence",
        action="store_true",
        help="write the probability of the predicted class as a grey PNG, 255 for certain",
    )
    parser.add_argument(
        "--outline", action="store_true", help="draw outlines instead of areas in the overlay"
    )
    parser.add_argument(
        "--polygons",
        action="store_true",
        help="write the regions of each class as GeoJSON in pixel coordinates; needs rasterio",
    )
    parser.add_argument(
        "--classes", action="store_true", help="print the fraction of each class in each image"
    )


def run(options: argparse.Namespace) -> None:
    """Writes what is predicted for images."""
    from keras_fcn.data.examples import read_image, read_size
    from keras_fcn.export import open_model
    from keras_fcn.inference import predict
    from keras_fcn.models.prediction_memory import check_prediction_memory
    from keras_fcn.training.progress import progress_bar

    images = _named_images(options.images)
    outputs = _output_paths(images, Path(options.out), _suffixes(options))
    # Headers only: a file that is no image is found before the model is loaded.
    for path in outputs:
        read_size(path)
    if options.polygons:
        from keras_fcn.polygons import check_rasterio

        check_rasterio()
    trained = open_model(
        options.model,
        at_once=options.at_once,
        needs_probabilities=bool(options.probabilities or options.confidence),
    )
    model, space, views = trained.model, trained.label_space, shared.views(options, trained)
    for size in {read_size(path, model.num_channels) for path in outputs}:
        check_prediction_memory(model, *size, scale=max(views["scales"]))
    shares, reading, started = {}, 0.0, time.monotonic()
    with progress_bar("predicting", len(outputs)) as advance:
        for path, paths in outputs.items():
            asked = time.monotonic()
            image = read_image(path, model.num_channels)
            reading += time.monotonic() - asked
            prediction = predict(model, image, **views)
            os.makedirs(paths["label map"].parent, exist_ok=True)
            _write(prediction, image, space, paths, options)
            shares[paths["label map"].stem] = prediction.class_shares
            advance()
    seconds = time.monotonic() - started
    if options.classes:
        _print_shares(shares, space)
    print(f"Label maps and overlays: {options.out}")
    if len(outputs) > 1:  # The first one also compiles.
        rate = f"{len(outputs)} images in {seconds:.1f} s, {len(outputs) / seconds:.2f} per second"
        print(f"{rate}; {reading:.1f} s waited for reading", file=sys.stderr)


def _suffixes(options):
    """Returns a dictionary from each output to what follows the image's name in its file."""
    suffixes = {"label map": ".png", "overlay": "_overlay.png"}
    if options.confidence:
        suffixes["confidence"] = "_confidence.png"
    if options.probabilities == "npz":
        suffixes["probabilities"] = "_probabilities.npz"
    elif options.probabilities == "png":
        suffixes["probabilities"] = "_probabilities"
    if options.polygons:
        suffixes["polygons"] = ".geojson"
    return suffixes


def _write(prediction, image, space, paths, options):
    import numpy as np

    from keras_fcn.visualization import save_label_map, save_overlay

    def write(output, save):
        with atomic_write(paths[output], sync=False) as temporary:
            save(temporary)

    label_map = prediction.label_map
    write("label map", lambda file: save_label_map(file, label_map, space))
    write(
        "overlay",
        lambda file: save_overlay(file, image, label_map, space, outlines=options.outline),
    )
    if options.confidence:
        write("confidence", lambda file: _save_fractions(file, prediction.confidence))
    if options.probabilities == "npz":
        arrays = {"probabilities": prediction.probabilities, "class_names": space.class_names}
        write("probabilities", lambda file: np.savez_compressed(file, **arrays))
    elif options.probabilities == "png":
        paths["probabilities"].mkdir(exist_ok=True)
        for label, name in enumerate(space.class_names):
            file = paths["probabilities"] / f"{label}_{name.replace(os.sep, '_')}.png"
            with atomic_write(file, sync=False) as temporary:
                _save_fractions(temporary, prediction.probabilities[..., label])
    if options.polygons:
        from keras_fcn.polygons import polygons

        regions = polygons(label_map, space)
        write("polygons", lambda file: file.write_text(json.dumps(regions)))


def _save_fractions(path, fractions):
    """Writes numbers from 0 to 1 as a grey PNG of 8 bits."""
    import numpy as np
    from PIL import Image

    Image.fromarray(np.rint(255 * fractions).astype("uint8")).save(path)


def _print_shares(shares, space):
    """Prints a line for each image with the fraction of each of its classes, largest first."""
    for name, of_classes in shares.items():
        present = [label for label in of_classes.argsort()[::-1] if of_classes[label]]
        values = (f"{space.class_names[label]} {of_classes[label]:.1%}" for label in present)
        print(f"{name}: {', '.join(values)}")


def _named_images(places):
    """Returns a dictionary from each image, those in folders included, to its outputs' name."""
    from keras_fcn.data.files import IMAGE_SUFFIXES, files_by_name

    images = {}
    for place in map(Path, _expanded(places)):
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


def _expanded(places):
    """Yields the places, a pattern that is no file replaced by what matches it."""
    for place in places:
        matches = [] if os.path.exists(place) else sorted(glob.glob(place, recursive=True))
        yield from matches or [place]


def _output_paths(images, out, suffixes):
    """Returns a dictionary from each image to a dictionary from each output to its file."""
    outputs, owners = {}, {}
    for image, name in images.items():
        name = unicodedata.normalize("NFC", name)
        outputs[image] = {output: out / f"{name}{suffix}" for output, suffix in suffixes.items()}
        for path in outputs[image].values():
            if path in owners:
                raise ValueError(
                    f"Images must differ in their names without folder and suffix, which name the "
                    f"outputs. Received: {owners[path]} and {image}."
                )
            owners[path] = image
            if path.exists() and any(path.samefile(other) for other in images if other.exists()):
                raise ValueError(f"--out must be another folder: {path} would be overwritten.")
    return outputs
