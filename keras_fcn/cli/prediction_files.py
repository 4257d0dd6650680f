"""The files that `keras-fcn predict` writes of an image."""

import argparse
import itertools
import json
import os
import unicodedata
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_fcn.cli.output_files import check_inputs_are_kept, check_outputs_differ
from keras_fcn.io.atomic import atomic_write
from keras_fcn.label_spaces import LabelSpace

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

    from keras_fcn.inference import Prediction


def suffixes(options: argparse.Namespace) -> dict[str, str]:
    """Returns a dictionary from each output to what follows the image's name in its file."""
    found = {"label map": ".png", "overlay": "_overlay.png"}
    if options.confidence:
        found["confidence"] = "_confidence.png"
    if options.probabilities == "npz":
        found["probabilities"] = "_probabilities.npz"
    elif options.probabilities == "png":
        found["probabilities"] = "_probabilities"
    if options.polygons:
        found["polygons"] = ".geojson"
    return found


def output_paths(
    images: Mapping[Path, str],
    out: Path,
    suffixes: Mapping[str, str],
    others: Mapping[Path, Iterable[Path]] | None = None,
) -> dict[Path, dict[str, Path]]:
    """Returns a dictionary from each image to a dictionary from each output to its file.

    Args:
        images: Dictionary from each image to its outputs' name.
        out: Folder of the outputs.
        suffixes: Dictionary from each output to what follows the name.
        others: Dictionary from each further input to the files and folders that it writes.

    Raises:
        ValueError: If two inputs would write the same file, or an image would be overwritten.
    """
    outputs: dict[Path, dict[str, Path]] = {}
    for image, name in images.items():
        name = unicodedata.normalize("NFC", name)
        outputs[image] = {output: out / f"{name}{suffix}" for output, suffix in suffixes.items()}
    written = {image: list(paths.values()) for image, paths in outputs.items()}
    check_outputs_differ({**(others or {}), **written}, out)
    check_inputs_are_kept(itertools.chain.from_iterable(written.values()), images)
    return outputs


def warn_of_pages(path: Path) -> None:
    """Warns if a TIFF has several pages, or an image is animated: the first one is predicted."""
    from keras_fcn.data.image_files import count_pages

    if (pages := count_pages(path)) > 1:
        noun, remedy = "page", ""
        if path.suffix.lower() not in (".tif", ".tiff"):
            noun, remedy = "frame", " Convert it to a video to predict all of them."
        warnings.warn(
            f"Only the first {noun} of {path} is predicted. Received: {pages} {noun}s.{remedy}",
            stacklevel=2,
        )


def write(
    prediction: "Prediction",
    image: "np.ndarray",
    space: LabelSpace,
    paths: Mapping[str, Path],
    options: argparse.Namespace,
) -> None:
    """Writes the outputs of an image, each in one step.

    Args:
        prediction: What is predicted.
        image: (height, width, channels).
        space: Names and colours of the classes.
        paths: Dictionary from each output to its file.
        options: Those of the command.
    """
    import numpy as np

    from keras_fcn.visualization import save_label_map

    def save(output, write_file):
        if output in paths:
            with atomic_write(paths[output], sync=False) as temporary:
                write_file(temporary)

    os.makedirs(paths["label map"].parent, exist_ok=True)
    label_map = prediction.label_map
    save("label map", lambda file: save_label_map(file, label_map, space))
    save("overlay", lambda file: overlay(image, label_map, space, options).save(file))
    save("confidence", lambda file: _save_fractions(file, prediction.confidence))
    if options.probabilities == "png":
        _save_probability_pictures(paths["probabilities"], prediction.probabilities, space)
    elif options.probabilities == "npz":
        arrays: dict[str, Any] = {
            "probabilities": prediction.probabilities,
            "class_names": space.class_names,
        }
        save("probabilities", lambda file: np.savez_compressed(file, **arrays))
    if options.polygons:
        from keras_fcn.polygons import polygons

        regions = polygons(label_map, space)
        save("polygons", lambda file: file.write_text(json.dumps(regions)))


def overlay(
    image: "np.ndarray",
    label_map: "np.ndarray",
    space: LabelSpace,
    options: argparse.Namespace,
    legend_classes: Sequence[int] | None = None,
) -> "Image.Image":
    """Returns the picture of an overlay, with a legend unless the options say otherwise.

    Args:
        image: (height, width, channels).
        label_map: Class ids, (height, width).
        space: Names and colours of the classes.
        options: Those of the command.
        legend_classes: As in `keras_fcn.visualization.overlay_picture`.
    """
    from keras_fcn.visualization import overlay_picture

    return overlay_picture(
        image,
        label_map,
        space,
        outlines=options.outline,
        legend_classes=legend_classes if options.legend else (),
    )


def _save_probability_pictures(folder, probabilities, space):
    folder.mkdir(exist_ok=True)
    for label, name in enumerate(space.class_names):
        file = folder / f"{label}_{name.replace(os.sep, '_')}.png"
        with atomic_write(file, sync=False) as temporary:
            _save_fractions(temporary, probabilities[..., label])


def _save_fractions(path, fractions):
    """Writes numbers from 0 to 1 as a grey PNG of 8 bits."""
    import numpy as np
    from PIL import Image

    Image.fromarray(np.rint(255 * fractions).astype("uint8")).save(path)
