"""Exported files as models: what predictions and evaluations need of a model."""

import os
from pathlib import Path

import numpy as np

from keras_fcn.export import check
from keras_fcn.export.formats import FORMATS, SUFFIXES, find_format
from keras_fcn.export.metadata import Metadata
from keras_fcn.io import hub
from keras_fcn.label_spaces import LabelSpace
from keras_fcn.training import trained
from keras_fcn.training.trained import TrainedModel
from keras_fcn.weights import published_names
from keras_fcn.weights.files import WEIGHT_SUFFIXES


class ExportedModel:
    """An exported file that predicts as a model does, in its own runtime.

    `keras_fcn.inference.predict` and `keras_fcn.training.evaluate.evaluate` take it.

    Args:
        path: File or folder written by `keras_fcn.export.export`.

    Raises:
        FileNotFoundError: If it is no exported file.
        ImportError: If the runtime is not installed.
        ValueError: If the file is damaged, or was written by something else.

    Examples:
        >>> model = ExportedModel("camvid.onnx")  # doctest: +SKIP
        >>> predict(model, photo).label_map  # doctest: +SKIP
    """

    def __init__(self, path: str | os.PathLike):
        found = find_format(Path(path))
        if found is None:
            raise FileNotFoundError(
                "`path` must be a .onnx or .tflite file, or a folder of a SavedModel or of "
                f"OpenVINO. Received: {path}."
            )
        self.format, place = found
        try:
            self.metadata: Metadata = FORMATS[self.format].read_metadata(place)
            self._run = FORMATS[self.format].load(place, self.metadata)
        except (ImportError, FileNotFoundError):
            raise
        except Exception as error:  # Each runtime has its own.
            raise ValueError(
                f"{path} must be a whole file written by keras_fcn.export. Received: "
                f"{check.reason(error)}."
            ) from error

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.metadata.class_names)

    @property
    def label_space(self) -> LabelSpace:
        """`LabelSpace` of the classes."""
        return self.metadata.label_space

    @property
    def num_channels(self) -> int:
        """Number of channels of the images."""
        return self.metadata.num_channels

    @property
    def modalities(self) -> tuple[str, ...]:
        """What the channels of the images are, see `keras_fcn.models.base.BaseFCN`."""
        return self.metadata.modalities

    @property
    def data_format(self) -> str:
        """`"channels_last"` or `"channels_first"`, of images and scores."""
        return self.metadata.data_format

    @property
    def input_shape(self) -> tuple[int | None, ...]:
        """Shape of a batch of images, `None` for an axis of any length."""
        return (None, *self.metadata.input_shape[1:])

    def predict_on_batch(self, images: np.ndarray) -> np.ndarray:
        """Returns logits or probabilities, shaped as those of the model.

        A file of labels gives the label's class 1 and the others 0.

        Raises:
            ValueError: If the file takes images of another size.
        """
        images = np.ascontiguousarray(images, "float32")
        self._check_size(images)
        if self.metadata.batch_size == 1:
            output = np.concatenate([self._run(image[None]) for image in images])
        else:
            output = self._run(images)
        if self.metadata.output != "labels":
            return output
        scores = np.eye(self.num_classes, dtype="float32")[output]
        return scores.transpose(0, 3, 1, 2) if self.data_format == "channels_first" else scores

    def _check_size(self, images):
        first = 2 if self.data_format == "channels_first" else 1
        size = images.shape[first : first + 2]
        if self.metadata.size not in (None, size):
            height, width = self.metadata.size
            raise ValueError(
                f"`image` must be {height}x{width} pixels, the size that the model was exported "
                f"for. Received: {size[0]}x{size[1]}. Export it without `size` (--size) for images "
                "of every size."
            )


def names_model(place: str) -> bool:
    """Returns whether a text names a model that `open_model` opens, and no image."""
    name = place.lower()
    if hub.is_address(place) or name.endswith((*WEIGHT_SUFFIXES, *SUFFIXES.values())):
        return True
    return place in published_names() and not os.path.exists(place)


def open_model(
    name: str | os.PathLike,
    *,
    at_once: bool = False,
    task: str | None = None,
    precision: str | None = None,
    needs_probabilities: bool = False,
    takes_files: bool = True,
) -> TrainedModel:
    """Returns a trained model, see `keras_fcn.training.trained.open_model`, or an exported one.

    Args:
        name: As there, or a file or folder written by `export`; a file also by its address on the
            Hugging Face Hub.
        at_once: As there.
        task: As there; an exported file has one.
        precision: As there; an exported file has its own.
        needs_probabilities: Whether a file that returns only labels is an error.
        takes_files: Whether a model of images that files cannot hold is an error, see
            `keras_fcn.training.trained.check_takes_files`.

    Raises:
        ValueError: If a file of labels should give probabilities, or the model takes no images of
            files; and as there and as `ExportedModel`.
    """
    opened = _opened(name, at_once, task, precision, needs_probabilities)
    if takes_files:
        trained.check_takes_files(opened.model, name)
    return opened


def _opened(name, at_once, task, precision, needs_probabilities):
    if hub.is_address(name) and hub.HubFile.of(name).name.lower().endswith(
        tuple(SUFFIXES.values())
    ):
        name = hub.download(name)
    if find_format(Path(name)) is None:
        return trained.open_model(name, at_once=at_once, task=task, precision=precision)
    if at_once:
        raise ValueError(f"--at-once must be used with a .pth or .npz file. Received: {name}.")
    if task is not None:
        raise ValueError(
            f"--task must be used with a model of several tasks, not an exported one. Received: "
            f"{name}."
        )
    if precision is not None:
        raise ValueError(
            f"--precision must be used with a model that is not exported. Received: {name}."
        )
    model = ExportedModel(name)
    if needs_probabilities and model.metadata.output == "labels":
        raise ValueError(
            "MODEL must return logits or probabilities, from which confidence follows. Received: "
            f"{name}, which returns labels."
        )
    return TrainedModel(model, model.label_space)
