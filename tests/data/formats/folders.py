"""Files as labelling tools write them, and what an import makes of them."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from keras_fcn.data.label_map_files import read_label_map


def save_image(path, height=6, width=8, orientation=None, seed=0):
    """Writes a photo, with an EXIF orientation if there is one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), "uint8")
    exif = Image.Exif()
    if orientation is not None:
        exif[0x0112] = orientation
    Image.fromarray(pixels).save(path, exif=exif)
    return path


def save_array(path, array, **options):
    """Writes an array as an image file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(array, "uint8")).save(path, **options)
    return path


def save_json(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def files(folder):
    """Names of all files, hidden ones included."""
    return sorted(p.relative_to(folder).as_posix() for p in Path(folder).rglob("*") if p.is_file())


def label_map(out, name):
    return read_label_map(Path(out) / "labels" / f"{name}.png")


def rows(text):
    """The label map of lines of digits."""
    return np.array([[int(digit) for digit in line] for line in text.split()])
