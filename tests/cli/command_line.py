"""Runs the command line in this process."""

import re

import caffe
import numpy as np
from helpers import NARROW_FILTERS, variables_as_numpy
from PIL import Image

from keras_fcn.cli import main

FAST = ["--padding", "same", "--fc-units", "4", "--model", "fcn32s", "--num-classes", "3"]
FAST += ["--set", f"filters={list(NARROW_FILTERS)}"]
NARROW = {"fc_units": 4, "filters": NARROW_FILTERS}


def train(data, *options, out="run"):
    folders = ["--images", str(data / "images"), "--labels", str(data / "labels")]
    return main(["train", *folders, *FAST, "--out", str(data / out), "--epochs", "1", *options])


def predict(path, photo, tmp_path, *options):
    """The label map that the command writes for a photo."""
    Image.fromarray(photo).save(tmp_path / "photo.png")
    out = tmp_path / "out"
    photo = str(tmp_path / "photo.png")
    assert main(["predict", str(path), photo, "--out", str(out), *options]) == 0
    return np.asarray(Image.open(out / "photo.png"))


def error_of(capsys):
    *progress, error = capsys.readouterr().err.strip().splitlines()
    assert all(re.match(r"[a-z ]+: \d+/\d+$", line) for line in progress), progress
    assert error.startswith("keras-fcn: error: ")
    return error


def npz_arrays(model):
    """Arrays of a model under the keys of wkentaro/fcn's files."""
    return caffe.npz_arrays(caffe.paper_layers(variables_as_numpy(model)))


def without_duplicates(data):
    """The data with another first pixel in each image."""
    for shade, path in enumerate(sorted((data / "images").iterdir())):
        image = np.array(Image.open(path))
        image[0, 0] = shade
        Image.fromarray(image).save(path)
    return data
