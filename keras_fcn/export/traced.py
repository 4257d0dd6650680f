"""A model as functions of TensorFlow, from which every format is converted."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from keras_fcn.backends import backend
from keras_fcn.export.metadata import Metadata
from keras_fcn.models.base import BaseFCN


class Traced:
    """A model with the output of an export, and images from which int8 is calibrated.

    Args:
        model: The model, in float32.
        metadata: Output, size and data format.
        calibration: Function that returns an iterator of batches of one image, float32.
    """

    def __init__(
        self, model: BaseFCN, metadata: Metadata, calibration: Callable[[], Iterator[np.ndarray]]
    ):
        self.model, self.metadata, self.calibration = model, metadata, calibration

    @property
    def input(self) -> tf.TensorSpec:
        """The images."""
        return tf.TensorSpec(self.metadata.input_shape, tf.float32, name="image")

    @property
    def variables(self) -> list[keras.Variable]:
        """The variables, in the order in which `with_variables` takes their values."""
        return [*self.model.trainable_variables, *self.model.non_trainable_variables]

    def with_variables(self, image: Any, *values: Any) -> dict[str, Any]:
        """Returns the output by its name, computed with these values of the variables."""
        count = len(self.model.trainable_variables)
        scores, _ = self.model.stateless_call(
            list(values[:count]), list(values[count:]), image, training=False
        )
        return self._output(scores)

    def expected(self, images: np.ndarray) -> np.ndarray:
        """Returns the scores of the model, without the activation that `metadata` ask for."""
        return self.model.predict_on_batch(images)

    def saved_model(self, path: Any, *, for_tensorflow: bool) -> None:
        """Writes a SavedModel, with kernels that are fast on TensorFlow or that others convert."""
        # Without `track`, which would store every weight a second time (Keras 3.15).
        archive = keras.export.ExportArchive()
        context = contextlib.nullcontext() if for_tensorflow else backend.traced_for_export()
        with context:
            archive.add_endpoint(
                "serve",
                lambda image: self._output(self.model(image, training=False)),
                input_signature=[self.input],
            )
        archive.write_out(str(path), verbose=False)

    def _output(self, scores):
        return {self.metadata.output: self._activated(scores)}

    def _activated(self, scores):
        class_axis = 1 if self.metadata.data_format == "channels_first" else -1
        if self.metadata.output == "labels":
            # Not `keras.ops.argmax`, whose treatment of -0.0 is no built-in operation of LiteRT.
            return tf.argmax(scores, axis=class_axis, output_type=tf.int32)
        if self.metadata.output == "probabilities" and self.model.classifier_activation is None:
            return ops.softmax(scores, axis=class_axis)
        return scores

    @functools.cached_property
    def float32(self) -> "Traced":
        """The same without quantization."""
        metadata = dataclasses.replace(self.metadata, quantization=None)
        return Traced(self.model, metadata, self.calibration)
