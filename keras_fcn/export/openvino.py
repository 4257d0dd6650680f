"""OpenVINO's intermediate representation: a folder of `model.xml` and `model.bin`."""

from pathlib import Path
from typing import TYPE_CHECKING

from keras_fcn.export.metadata import Metadata
from keras_fcn.export.packages import imported, version

if TYPE_CHECKING:
    from keras_fcn.export.formats import Run
    from keras_fcn.export.traced import Traced

PACKAGES = ("openvino",)
QUANTIZATIONS = ("float16",)

GRAPH = "model.xml"
"""File of the graph in the folder; `model.bin` beside it holds the weights."""

_SECTION = "keras_fcn"


def write(traced: "Traced", path: Path, scratch: Path) -> None:
    """Writes the folder, with weights in float16 if the metadata say so."""
    openvino = imported("openvino")
    traced.saved_model(scratch / "saved_model", for_tensorflow=False)
    model = openvino.convert_model(scratch / "saved_model")
    for name, value in traced.metadata.as_strings().items():
        model.set_rt_info(value, [_SECTION, name])
    path.mkdir()
    is_half = traced.metadata.quantization == "float16"
    openvino.save_model(model, path / GRAPH, compress_to_fp16=is_half)


def read_metadata(path: Path) -> Metadata:
    """Returns what `write` stored."""
    model = imported("openvino").Core().read_model(path / GRAPH)
    if not model.has_rt_info([_SECTION]):
        raise ValueError(f"its rt_info has no section {_SECTION}")
    return Metadata.from_strings(model.get_rt_info([_SECTION]).value)


def load(path: Path, metadata: Metadata) -> "Run":
    """Returns the graph, compiled for the CPU, as a function of a batch of images."""
    # On CPUs with bfloat16, that is the default.
    options = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = imported("openvino").Core().compile_model(path / GRAPH, "CPU", options)
    return lambda images: compiled(images)[metadata.output]


def runtime() -> str:
    """Returns name and version of the runtime."""
    return f"OpenVINO {version('openvino')}"
