import warnings

import keras
import pytest
from helpers import NARROW_FILTERS, randomize

import keras_fcn
from keras_fcn.export import child
from keras_fcn.export.metadata import Metadata
from keras_fcn.export.request import Request
from keras_fcn.label_spaces import LabelSpace

SPACE = LabelSpace(("road", "a car", "tree"), ((128, 64, 128), (64, 0, 128), (1, 2, 3)), 255)
NAMES = {"onnx": "model.onnx", "litert": "model.tflite"}


def pytest_collection_modifyitems(items):
    """Conversions run on TensorFlow alone, in a process of their own: only its tests do not."""
    for item in items:
        is_converting = "converted" in getattr(item, "fixturenames", ())
        if is_converting and keras.backend.backend() != "tensorflow":
            item.add_marker(pytest.mark.skip(reason="conversions run on TensorFlow"))


@pytest.fixture(scope="module")
def narrow():
    """Function of the options of a narrow FCN-8s with weights."""

    def build(network=keras_fcn.FCN8s, **options):
        model = network(3, fc_units=4, filters=NARROW_FILTERS, label_space=SPACE, **options)
        randomize(model, seed=0)
        return model

    return build


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    """Function that converts a model as the process of `export` does; returns path and result."""

    def convert(model, format, output="logits", calibration=(), **metadata):
        folder = tmp_path_factory.mktemp(format)
        scratch = folder / "scratch"
        scratch.mkdir()
        model.save(scratch / "model.keras")
        target = folder / NAMES.get(format, format)
        metadata = Metadata.of(model, output, **metadata)
        request = Request(
            scratch / "model.keras", target, format, metadata, tuple(calibration), scratch
        )
        request.write(scratch / "request.json")
        with warnings.catch_warnings():
            # TensorFlow's converters, and protobuf's through them, use what others deprecate.
            warnings.simplefilter("ignore")
            return target, child.convert(Request.read(scratch / "request.json"))

    return convert
