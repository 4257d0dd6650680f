"""LiteRT, formerly TensorFlow Lite: one file of built-in operations for phones and small boards."""

import json
import os
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from keras_fcn.export.metadata import Metadata
from keras_fcn.export.packages import imported, version

if TYPE_CHECKING:
    from keras_fcn.export.formats import Run
    from keras_fcn.export.traced import Traced

PACKAGES = ("ai_edge_litert",)
QUANTIZATIONS = ("float16", "int8")

# Files that belong to a model are an archive behind it, as in TensorFlow Lite's own metadata: the
# interpreter reads what is before it, `unzip` and Netron the archive.
_METADATA, _LABELS = "keras_fcn.json", "labels.txt"


def write(traced: "Traced", path: Path, scratch: Path) -> None:
    """Writes the file, quantized as the metadata say."""
    lite = imported("tensorflow").lite
    saved_model = scratch / "saved_model"
    if not saved_model.exists():
        traced.saved_model(saved_model, for_tensorflow=False)
    converter = lite.TFLiteConverter.from_saved_model(str(saved_model))
    converter.target_spec.supported_ops = [lite.OpsSet.TFLITE_BUILTINS]
    if traced.metadata.quantization is not None:
        # For int8 without a representative data set, which would quantize the logits, too: a model
        # of CamVid then gave 85 % of the pixels their label, and 99.6 % with this.
        converter.optimizations = [lite.Optimize.DEFAULT]
    if traced.metadata.quantization == "float16":
        converter.target_spec.supported_types = [imported("tensorflow").float16]
    path.write_bytes(converter.convert())
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(_METADATA, json.dumps(traced.metadata.as_strings(), indent=2))
        archive.writestr(_LABELS, "\n".join(traced.metadata.class_names) + "\n")


def read_metadata(path: Path) -> Metadata:
    """Returns what `write` stored."""
    if not zipfile.is_zipfile(path):
        raise ValueError(f"no archive with {_METADATA} follows its model")
    with zipfile.ZipFile(path) as archive:
        return Metadata.from_strings(json.loads(archive.read(_METADATA)))


def load(path: Path, metadata: Metadata) -> "Run":
    """Returns the signature of the file as a function of a batch of images of any size."""
    interpreter = imported("ai_edge_litert.interpreter").Interpreter(
        str(path), num_threads=os.cpu_count()
    )
    run = interpreter.get_signature_runner()
    return lambda images: run(image=images)[metadata.output]


def runtime() -> str:
    """Returns name and version of the runtime."""
    return f"LiteRT {version('ai-edge-litert')}"
