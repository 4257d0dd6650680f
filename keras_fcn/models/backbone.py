"""FCN heads on any backbone: outputs and alignment, read off its graph."""

from collections.abc import Callable, Mapping
from typing import Any

import keras
from keras import layers

from keras_fcn.backends import keras_compat
from keras_fcn.layers import ConvolutionalizedDense, PadToStride
from keras_fcn.models.applications import preprocessing_of
from keras_fcn.models.channels import with_channels
from keras_fcn.models.decoder import AlignedDecoder
from keras_fcn.models.feature_pyramid import feature_pyramid
from keras_fcn.models.upsampling import aligned
from keras_fcn.models.vgg16 import convolutionalized_classifier, seeded_dropout

HEADS = ("conv", "fc", None)
"""What may stand in front of `score_fr` on a backbone."""


class BackboneParts:
    """What stands in place of VGG-16 in an FCN.

    Args:
        backbone: As in `FCN`, or the configuration that `get_config` returns.
        pools: The FCN's `skips`, whose number is that of its skip connections.
        skips: As in `FCN`.
        preprocessing: As in `FCN`, or its configuration.
        head: As in `FCN`.
        freeze_batch_norm: As in `FCN`.
        channels: Number of channels of the images.
    """

    def __init__(
        self,
        backbone: keras.Model | dict[str, Any],
        pools: tuple[str, ...],
        skips: Mapping[str, str] | None,
        preprocessing: Callable | dict[str, Any] | None,
        head: str | None,
        freeze_batch_norm: bool,
        channels: int,
    ):
        if isinstance(backbone, dict):
            features = keras.saving.deserialize_keras_object(backbone)
        else:
            inputs = getattr(backbone, "inputs", None)
            if not isinstance(backbone, keras.Model) or not inputs or len(inputs[0].shape) != 4:
                raise ValueError(
                    "`backbone` must be a functional model of an image, such as "
                    f"keras.applications.ResNet50(include_top=False). Received: {backbone=}."
                )
            if len(inputs) != 1:
                raise ValueError(
                    f"`backbone` must have one input, an image. Received: {backbone.name!r} with "
                    f"{len(inputs)} inputs."
                )
            shape = inputs[0].shape
            if shape[-1] == 3 and channels != 3:
                backbone = with_channels(backbone, channels)
            elif channels not in (shape[-1], shape[1]):
                raise ValueError(
                    f"`backbone` must take the {channels} channels of `input_shape`. Received: "
                    f"{backbone.name!r} for images of the shape {tuple(shape[1:])}."
                )
            strides = tuple(32 >> number for number in range(len(pools) + 1))
            features = feature_pyramid(backbone, strides, skips)
        self._plan = aligned(features)
        if isinstance(backbone, dict):
            self._preprocessing = keras.saving.deserialize_keras_object(preprocessing)
        else:
            if not (preprocessing is None or callable(preprocessing)):
                raise ValueError(
                    "`preprocessing` must be a layer or a function of an image, or None. Received: "
                    f"{preprocessing=}."
                )
            self._preprocessing = preprocessing_of(backbone, preprocessing, self.data_format)
        self._head, self._freeze_batch_norm = head, freeze_batch_norm
        for layer in features.layers:
            if freeze_batch_norm and isinstance(layer, layers.BatchNormalization):
                layer.trainable = False

    @property
    def data_format(self) -> str:
        """Layout in which the backbone computes."""
        return self._plan.data_format

    def logits(
        self, image: keras.KerasTensor, config: Mapping[str, Any], dtype: keras.DTypePolicy
    ) -> keras.KerasTensor:
        """Returns the logits, a KerasTensor with the size of `image`.

        Args:
            image: KerasTensor, RGB in [0, 255].
            config: Configuration of the FCN.
            dtype: dtype policy of the layers of the FCN.
        """
        x = image if self._preprocessing is None else self._preprocessing(image)
        options = {"data_format": self.data_format, "dtype": dtype}
        x = PadToStride(self._plan.strides[0], self._plan.padding, name="pad_to_stride", **options)(
            x
        )
        expected = self._plan.features.inputs[0].shape
        if any(size not in (None, given) for size, given in zip(expected, x.shape, strict=True)):
            raise ValueError(
                "`backbone` must take images of the FCN's size, padded to a multiple of its "
                f"stride: {tuple(x.shape[1:])}. Received: a backbone for {tuple(expected[1:])}. "
                "Build it with input_shape=(None, None, channels), or pass `input_shape`."
            )
        features = self._plan.features(x)
        features = features if isinstance(features, (list, tuple)) else [features]
        x, *skips = features
        if self._head == "conv":
            # On a backbone's many channels a matrix multiplication takes a fifth of the time of
            # `Conv2D` on TensorFlow, half on JAX and an eighth on PyTorch.
            x = ConvolutionalizedDense(
                config["fc_units"],
                3,
                padding="same",
                activation="relu",
                name="head_conv",
                **options,
            )(x)
            x = seeded_dropout(config["dropout_rate"], "head_drop", dtype)(x)
        elif self._head == "fc":
            x = convolutionalized_classifier(
                x,
                units=config["fc_units"],
                kernel_size=config["fc6_kernel_size"],
                padding="same",
                dropout_rate=config["dropout_rate"],
                **options,
            )
        decoder = AlignedDecoder(config["num_classes"], config["trainable_upsampling"], **options)
        return decoder.logits(self._plan, x, skips, image)

    @keras_compat.serialization_without_tensorflow()
    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of an FCN with the backbone as it is now, as JSON values."""
        config = {
            "backbone": keras.saving.serialize_keras_object(self._plan.features),
            "head": self._head,
            "freeze_batch_norm": self._freeze_batch_norm,
        }
        if self._preprocessing is not None:
            config["preprocessing"] = keras.saving.serialize_keras_object(self._preprocessing)
        return config
