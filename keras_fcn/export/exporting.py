"""Writes a model in the format of another runtime."""

import dataclasses
import json
import numbers
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import keras

import keras_fcn
from keras_fcn import weights
from keras_fcn.data.files import IMAGE_SUFFIXES, files_by_name
from keras_fcn.data.image_files import read_image
from keras_fcn.export.formats import FORMATS, SUFFIXES
from keras_fcn.export.metadata import Metadata
from keras_fcn.export.packages import check_packages
from keras_fcn.export.request import Request
from keras_fcn.io.atomic import atomic_write
from keras_fcn.io.links import check_links
from keras_fcn.models.base import BaseFCN
from keras_fcn.spec import EXPORT_OUTPUTS
from keras_fcn.training.trained import check_takes_files, open_model

# More change the ranges of int8 little, and take time.
_MOST_CALIBRATION_IMAGES = 16


@dataclasses.dataclass(frozen=True)
class Exported:
    """A written file and what its check measured; `export` returns it.

    Args:
        path: The file or folder.
        metadata: What it stores.
        runtime: Name and version of the runtime that loaded it.
        differences: Largest difference from the model by image size, as a fraction of the largest
            logit; of probabilities, the difference itself; of labels, the largest margin between
            the two largest logits where the labels differ.
        agreement: Fraction of the calibration images' pixels that get the model's label, `None`
            without calibration images.
    """

    path: Path
    metadata: Metadata
    runtime: str
    differences: dict[str, float]
    agreement: float | None = None


def export(
    model_or_file: BaseFCN | str | os.PathLike,
    path: str | os.PathLike,
    *,
    format: str = "saved_model",
    output: str = "logits",
    size: Sequence[int] | None = None,
    quantize: str | None = None,
    calibration: str | os.PathLike | None = None,
    license: str | None = None,
) -> Exported:
    """Writes a model in the format of another runtime, and checks the file there.

    The file takes a batch of RGB images in [0, 255], float32, named `"image"`, and returns one
    output named as `output`. Preprocessing is in it. Class names, colours and licence are stored in
    the format's own metadata.

    The conversion runs in another process, on TensorFlow, whatever the backend. The file gets its
    name only after the format's own runtime computed what the model computes, at odd, even and
    non-square sizes and for a single pixel, to 1e-4 of the largest logit.

    Args:
        model_or_file: A model of this package that takes one image, or what
            `keras_fcn.training.trained.open_model` takes: a run folder, a file, or the name of
            published weights. A model in mixed precision is exported in float32.
        path: `.onnx` file, `.tflite` file for `"litert"`, or new folder for `"saved_model"` and
            `"openvino"`.
        format: `"saved_model"`, `"onnx"`, `"litert"` or `"openvino"`.
        output: `"logits"` or `"probabilities"`, shaped as the output of the model, or `"labels"`,
            int32 (batch, height, width).
        size: (height, width) of the images; `None` for every size that the model takes. Runtimes
            optimize a file of one size better. LiteRT then takes batches of one image.
        quantize: `None`; `"float16"` to store the weights in half the bytes (not `"saved_model"`);
            or `"int8"` to compute convolutions in integers (`"onnx"` and `"litert"`).
        calibration: Folder of typical images for `"int8"`; at most 16 are read. They set the ranges
            of activations in ONNX, and are compared in both formats: 90 % of their pixels must get
            the model's label.
        license: License that the file states; `None` for that of published weights.

    Returns:
        `Exported`.

    Raises:
        ValueError: If an argument is not as described, or if the file does not compute what the
            model does.
        ImportError: If a package of the extra `export` is missing.
        FileNotFoundError: If the model or the folder of `path` does not exist.
        ChildProcessError: If the conversion ends without a file, as when the memory is too small.

    Examples:
        >>> model = FCN8s(2, filters=(8, 8, 8, 8, 8), fc_units=4, padding="same")
        >>> export(model, "fcn8s.onnx", format="onnx", output="labels")  # doctest: +SKIP
    """
    path = Path(path)
    _check_format(format, path, output, quantize, calibration)
    size = _checked_size(size)
    if license is None and not isinstance(model_or_file, BaseFCN):
        license = published_license(model_or_file)
    images = _calibration_files(calibration)
    model = _opened(model_or_file)
    if images:
        check_takes_files(model, model_or_file if isinstance(model_or_file, str) else model.name)
    for image in images:
        read_image(image, model.num_channels)  # A damaged one is found before the conversion.
    _check_output(model, output)
    size = _size_of(model, size)
    metadata = Metadata.of(
        model,
        output,
        size=size,
        batch_size=1 if format == "litert" and size is not None else None,
        quantization=quantize,
        license=license,
    )
    with atomic_write(path) as temporary:
        scratch = temporary.parent / "scratch"
        scratch.mkdir()
        model.save(scratch / "model.keras")
        request = Request(scratch / "model.keras", temporary, format, metadata, images, scratch)
        result = _in_child(request)
    return Exported(
        path, metadata, result["runtime"], result["differences"], result.get("agreement")
    )


def published_license(name: str | os.PathLike) -> str | None:
    """Returns the license of published weights by their name, `None` for another model.

    Examples:
        >>> published_license("camvid")
        'research, as CamVid; VGG-16 is CC BY 4.0'
    """
    published = weights.find_published(name) if name in weights.published_names() else None
    return None if published is None else published.license


def _check_format(format, path, output, quantize, calibration):
    if format not in FORMATS:
        raise ValueError(f"`format` must be one of {', '.join(FORMATS)}. Received: {format=}.")
    if output not in EXPORT_OUTPUTS:
        raise ValueError(
            f"`output` must be one of {', '.join(EXPORT_OUTPUTS)}. Received: {output=}."
        )
    check_packages(FORMATS[format].PACKAGES)
    quantizations = (None, *FORMATS[format].QUANTIZATIONS)
    if quantize not in quantizations:
        allowed = " or ".join(map(str, quantizations))
        raise ValueError(f"`quantize` must be {allowed} for {format}. Received: {quantize=}.")
    if (quantize == "int8") != (calibration is not None):
        raise ValueError(
            "`calibration` must be a folder of images for quantize='int8', and None otherwise. "
            f"Received: {quantize=}, {calibration=}."
        )
    check_links(path)
    suffix = SUFFIXES.get(format)
    if suffix is not None and path.suffix.lower() != suffix:
        raise ValueError(f"`path` must end in {suffix} for {format}. Received: {path}.")
    if suffix is None and path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise ValueError(f"`path` must be a new folder for {format}. Received: {path}.")
    if suffix is not None and path.is_dir():
        raise ValueError(f"`path` must be a file for {format}. Received: {path}, a folder.")
    if not path.absolute().parent.is_dir():
        raise FileNotFoundError(f"`path` must be in an existing folder. Received: {path}.")


def _checked_size(size):
    if size is None:
        return None
    size = tuple(size)
    if len(size) != 2 or not all(
        isinstance(length, numbers.Integral) and length > 0 for length in size
    ):
        raise ValueError(f"`size` must be two integers, height and width. Received: {size=}.")
    return int(size[0]), int(size[1])


def _opened(model_or_file):
    model = model_or_file
    if isinstance(model, keras.Model) and not isinstance(model, BaseFCN):
        raise ValueError(
            "`model_or_file` must be a model of this package, a file or a name. Received: a "
            f"{type(model).__name__}. Its own `export` writes it, and `as_fcn` of a network of "
            "several tasks returns the FCN of one."
        )
    if not isinstance(model, BaseFCN):
        model = open_model(model).model
    for tensors, remedy in (
        (model.input, "Build it with stacked=True and weights=model."),
        (model.output, "`as_fcn` returns the FCN of one task."),
    ):
        if isinstance(tensors, dict):
            raise ValueError(
                "`model_or_file` must take one image and return one label map. Received: "
                f"{type(model).__name__}. {remedy}"
            )
    return model


def _check_output(model, output):
    if output == "logits" and model.classifier_activation is not None:
        raise ValueError(
            "`output` must be 'probabilities' or 'labels' for a model with "
            f"classifier_activation={model.classifier_activation!r}. Received: {output=}."
        )


def _size_of(model, size):
    """Returns the size of the images: by default that of a model for images of one size."""
    _, *axes = model.input_shape
    height, width = axes[1:] if model.data_format == "channels_first" else axes[:2]
    if size is None and None not in (height, width):
        return height, width
    if (height, width) != (None, None) and (
        size is None or size != (height or size[0], width or size[1])
    ):
        sizes = f"({height or 'HEIGHT'}, {width or 'WIDTH'})"
        raise ValueError(
            f"`size` must be {sizes}, as the `input_shape` of the model. Received: {size=}."
        )
    return size


def _calibration_files(folder):
    if folder is None:
        return ()
    if not Path(folder).is_dir():
        raise FileNotFoundError(f"`calibration` must be a folder of images. Received: {folder}.")
    found = files_by_name(folder, IMAGE_SUFFIXES)
    files = [path for _, paths in sorted(found.items()) for path in paths]
    if not files:
        raise ValueError(
            f"`calibration` must be a folder of {', '.join(IMAGE_SUFFIXES)} files. "
            f"Received: {folder}, a folder with none."
        )
    step = -(-len(files) // _MOST_CALIBRATION_IMAGES)
    return tuple(path.absolute() for path in files[::step])


def _in_child(request):
    """Returns the result of `keras_fcn.export.child`, whose failure becomes one sentence."""
    places = [request.scratch / name for name in ("request.json", "result.json")]
    request.write(places[0])
    package = str(Path(keras_fcn.__file__).parents[1])
    environment = os.environ | {
        "KERAS_BACKEND": "tensorflow",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "PYTHONPATH": os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")])),
    }
    with tempfile.TemporaryFile("w+", errors="replace") as log:
        done = subprocess.run(
            [sys.executable, "-m", "keras_fcn.export.child", *map(str, places)],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        log.seek(0)
        lines = [line.strip() for line in log if line.strip()]
    if not places[1].is_file():
        reason = f"exit status {done.returncode}"
        if done.returncode < 0:
            reason = f"signal {-done.returncode}, as when the memory is too small"
        last = f" Its last line: {lines[-1]}" if lines else ""
        raise ChildProcessError(f"The conversion to {request.format} ended with {reason}.{last}")
    result = json.loads(places[1].read_text())
    if "error" in result:
        raise ValueError(
            f"The export to {request.format} failed and left no file: {result['error']}."
        )
    return result
