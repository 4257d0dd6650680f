"""TensorFlow's SavedModel: a folder with the signature that TensorFlow Serving calls."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from keras_fcn.export.metadata import Metadata
from keras_fcn.export.packages import imported, version

if TYPE_CHECKING:
    from keras_fcn.export.formats import Run
    from keras_fcn.export.traced import Traced

PACKAGES = ("tensorflow",)
QUANTIZATIONS = ()

# TensorFlow's own place for what others add to a SavedModel.
_METADATA = Path("assets.extra", "keras_fcn.json")


def write(traced: "Traced", path: Path, scratch: Path) -> None:
    """Writes the folder."""
    traced.saved_model(path, for_tensorflow=True)
    (path / _METADATA).parent.mkdir()
    (path / _METADATA).write_text(json.dumps(traced.metadata.as_strings(), indent=2))


def read_metadata(path: Path) -> Metadata:
    """Returns what `write` stored."""
    if not (path / _METADATA).is_file():
        raise ValueError(f"it has no {_METADATA}")
    return Metadata.from_strings(json.loads((path / _METADATA).read_text()))


def load(path: Path, metadata: Metadata) -> "Run":
    """Returns the signature "serving_default" as a function of a batch of images."""
    tensorflow = imported("tensorflow")
    loaded = tensorflow.saved_model.load(str(path))  # Its functions do not keep its variables.

    def run(images):
        signature = loaded.signatures["serving_default"]
        return signature(image=tensorflow.constant(images))[metadata.output].numpy()

    return run


def runtime() -> str:
    """Returns name and version of the runtime."""
    return f"TensorFlow {version('tensorflow')}"
