"""What all networks of the package have in common: their configuration, copies and exports."""

import contextlib
import functools
import inspect
import os
from collections.abc import Mapping
from typing import Any

import keras

from keras_fcn.backends import backend, keras_compat
from keras_fcn.label_spaces import LabelSpace
from keras_fcn.layers import FCNConv2DTranspose
from keras_fcn.layers.inside import with_layers_inside
from keras_fcn.models.exports import check_inputs, export_arguments, traced_for_onnx


class BaseFCN(backend.trainer(), keras.Model):  # type: ignore[misc]
    """A functional model that keeps its configuration, also what users change on its layers.

    A subclass passes its configuration with `_store_config`, after Keras has built the graph. It
    holds the constructor's arguments as JSON values, among them `num_classes`, `data_format` and
    `label_space`.
    """

    skips: tuple[str, ...] = ()
    """Names of the pools whose scores are added, coarsest first."""

    network: str = "vgg16"
    """Which published weights fit, see `keras_fcn.weights.PublishedWeights`."""

    _config: dict[str, Any]
    _freezes_batch_norm = False

    def _store_config(self, config: dict[str, Any], dtype: keras.DTypePolicy) -> None:
        self.dtype_policy = dtype
        self._config = config
        self._policies = {layer.name: layer.dtype_policy.name for layer in self.layers}

    @property
    def trainable(self) -> bool:
        """Whether the model trains. `True` leaves the layers frozen that its arguments freeze, such
        as `trainable_upsampling=False` and `freeze_batch_norm=True`.
        """
        return super().trainable

    @trainable.setter
    def trainable(self, value):
        keras.Model.trainable.fset(self, value)
        if value and hasattr(self, "_config"):  # Keras's constructor comes before it.
            self._freeze_by_arguments()

    def _freeze_by_arguments(self):
        frozen = () if self._config["trainable_upsampling"] else (FCNConv2DTranspose,)
        if self._freezes_batch_norm:
            frozen += (keras.layers.BatchNormalization,)
        for layer in with_layers_inside(self):
            if isinstance(layer, frozen):
                layer.trainable = False

    @functools.wraps(keras.Model.fit)
    def fit(self, *args, **kwargs):
        arguments = inspect.signature(keras.Model.fit).bind(self, *args, **kwargs).arguments
        _check_class_weight(arguments.get("class_weight"))
        return super().fit(*args, **kwargs)

    def train_on_batch(self, x, y=None, sample_weight=None, class_weight=None, return_dict=False):
        _check_class_weight(class_weight)
        return super().train_on_batch(x, y, sample_weight, return_dict=return_dict)

    def call(self, inputs, training=None, mask=None):
        self._images(inputs)
        return super().call(inputs, training=training, mask=mask)

    def _images(self, inputs):
        """Returns the tensors among `inputs` that the model takes, in the order of its inputs.

        Keras lets a last axis of 1 pass, and checks nothing within a compiled step on JAX. Without
        this check, the mean that the preprocessing subtracts would make three channels of one.

        Raises:
            ValueError: If images have another number of channels than the model's.
        """
        axis = -1 if self.data_format == "channels_last" else 1
        expected = keras.tree.flatten(self.input)
        if isinstance(inputs, Mapping):  # It may hold more, such as the names of the files.
            images = [inputs[x.name] for x in expected if x.name in inputs]
        else:
            images = keras.tree.flatten(inputs)
        for image, model_input in zip(images, expected, strict=False):  # Keras checks the number.
            channels, received = model_input.shape[axis], tuple(image.shape)
            if len(received) != 4 or None in (channels, received[axis]):
                continue  # Keras adds a last axis of 1, or raises.
            if received[axis] != channels:
                raise ValueError(
                    f"The images must have the shape {model_input.shape} of the model's input. "
                    f"Received: {received}. Repeat the channel of grey images, or build the model "
                    "with the `input_shape` of yours."
                )
        return images

    def export(
        self, filepath, format="tf_saved_model", verbose=None, input_signature=None, **kwargs
    ):
        """Exports the model to another runtime's format, for images of every size.

        Calls `keras.Model.export` with the arguments that a model of unknown sizes needs. The guide
        "Export" lists which format works on which backend and how to run the file.

        Args:
            filepath: File to write, or folder for `"tf_saved_model"`: `.onnx`, `.xml` for
                `"openvino"`, `.tflite` for `"litert"`, `.pt2` for `"torch"`.
            format: `"tf_saved_model"`, `"onnx"`, `"openvino"`, `"litert"` or `"torch"`.
            verbose: Whether to print the path of the file; Keras's default if `None`.
            input_signature: List of one `keras.InputSpec`, with known sizes for a file of fixed
                image size; the model's input if `None`.
            **kwargs: Further arguments of `keras.Model.export`.

        Raises:
            ValueError: If the backend cannot export the format, or only for known sizes, one input
                or one output.
            ImportError: If a package that Keras needs for the conversion is not installed.
        """
        if not isinstance(self.input, dict):
            input_signature, kwargs = export_arguments(self, format, input_signature, kwargs)
        else:
            check_inputs(format)
        if input_signature is None:
            # Without a signature, Keras exports to ONNX only models that have been called before.
            input_signature = [
                {
                    name: keras.InputSpec(dtype="float32", shape=tensor.shape, name=name)
                    for name, tensor in self.input.items()
                }
            ]
        with traced_for_onnx(self) if format == "onnx" else contextlib.nullcontext():
            super().export(os.fspath(filepath), format, verbose, input_signature, **kwargs)

    def blank(self, num_classes: int, fc_units: int, **options: Any) -> "BaseFCN":
        """Returns a new network of the published architecture, in float32, to convert weights.

        Args:
            num_classes: Number of classes.
            fc_units: As in `FCN`.
            **options: Further arguments of `FCN`, such as `skip_scales`.
        """
        return type(self)(num_classes, fc_units=fc_units, dtype="float32", **options)

    @property
    def num_classes(self) -> int:
        """Number of classes, background included."""
        return self._config["num_classes"]

    @property
    def classifier_activation(self) -> str | None:
        """Name of the activation over the classes; `None` for logits."""
        return self._config.get("classifier_activation")

    @property
    def label_space(self) -> LabelSpace | None:
        """`LabelSpace` of the classes; `None` if the model has none."""
        config = self._config["label_space"]
        return None if config is None else LabelSpace(**config)

    @property
    def num_channels(self) -> int:
        """Number of channels of the images."""
        return 3

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of the inputs, keys of `keras_fcn.spec.MODALITIES`."""
        return ("image",)

    @property
    def data_format(self) -> str:
        """`"channels_last"` or `"channels_first"`, of images and logits."""
        return self._config.get("data_format", "channels_last")

    @keras_compat.serialization_without_tensorflow()
    def get_config(self):
        return {
            "name": self.name,
            "trainable": self.trainable,
            **self._config,
            "dtype": keras.dtype_policies.serialize(self.dtype_policy),
            "frozen_layers": [layer.name for layer in self.layers if not layer.trainable],
            "layer_dtypes": {
                layer.name: keras.dtype_policies.serialize(layer.dtype_policy)
                for layer in self.layers
                if layer.dtype_policy.name != self._policies[layer.name]
            },
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """Returns the model; without `frozen_layers`, `trainable` is as the constructor sets it."""
        config = dict(config)
        frozen, policies = config.pop("frozen_layers", None), config.pop("layer_dtypes", {})
        model = cls(**config)
        if frozen is not None:
            for layer in model.layers:
                # Only where it differs: it would also set the layers of a backbone.
                if layer.trainable == (layer.name in frozen):
                    layer.trainable = layer.name not in frozen
        for name, policy in policies.items():
            model.get_layer(name).dtype_policy = keras.dtype_policies.get(policy)
        return model

    def quantize(self, mode=None, config=None, **kwargs):
        """Raises a ValueError: Keras quantizes only dense layers, and an FCN has none."""
        raise ValueError(
            "Keras quantizes only dense layers, and an FCN has none. Received: "
            f"{mode=}. For half the memory, build the model with dtype='mixed_bfloat16'. For int8, "
            "`export` it and quantize the file with the tools of its runtime."
        )


def _check_class_weight(class_weight):
    """Refuses Keras's weights: it takes the largest class id's column in a row for the class."""
    if class_weight is not None:
        raise ValueError(
            "`class_weight` must be None: Keras applies it to one label per image. Received: "
            f"{class_weight=}. Pass it to the loss, such as "
            "keras_fcn.losses.Focal(gamma=0.0, class_weights=...)."
        )
