"""FCN heads on any backbone: outputs and alignment, read off its graph."""

import contextlib
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import keras
from keras import layers

from keras_fcn.alignment import (
    IMAGE,
    CoordinateMap,
    FeatureMap,
    coordinate_maps,
    crop_offset,
    transposed_convolution,
)
from keras_fcn.backends import keras_compat
from keras_fcn.layers import (
    Bilinear,
    ConvolutionalizedDense,
    CropToReference,
    FCNConv2DTranspose,
    PadToStride,
)
from keras_fcn.models.applications import preprocessing_of
from keras_fcn.models.channels import with_channels
from keras_fcn.models.feature_pyramid import feature_pyramid
from keras_fcn.models.vgg16 import convolutionalized_classifier, seeded_dropout

HEADS = ("conv", "fc", None)
"""What may stand in front of `score_fr` on a backbone."""
# Image sizes are multiples of the coarsest stride; this many of them show how a network is aligned.
_MULTIPLES = 16


@dataclasses.dataclass(frozen=True)
class Upsampling:
    """How scores are upsampled and cropped to align with what they are added to.

    Args:
        kernel_size: Of the bilinear kernel: 2 * factor, or 2 * factor - 1.
        factor: Stride of the transposed convolution.
        crop: Pixels to crop from the start of the upsampled scores; if negative, its absolute value
            from the start of the reference.
        is_shorter: Whether the upsampled scores end before the reference, which is then cropped.
    """

    kernel_size: int
    factor: int
    crop: int
    is_shorter: bool = False


@dataclasses.dataclass(frozen=True)
class Backbone:
    """The features of a backbone that an FCN scores, and how they are aligned.

    Args:
        features: Functional model from the image to one feature map per output stride, coarsest
            first.
        strides: Their output strides in pixels.
        padding: Pixels of zeros on each side of the image, so that the logits cover it.
        upsamplings: One `Upsampling` for each skip connection, and one to the image.
        data_format: Layout of the feature maps.
    """

    features: keras.Model
    strides: tuple[int, ...]
    padding: int
    upsamplings: tuple[Upsampling, ...]
    data_format: str


def aligned(features: keras.Model) -> Backbone:
    """Returns how the outputs of `feature_pyramid` are upsampled and cropped to the image.

    Raises:
        ValueError: If no bilinear kernel aligns two of them on whole pixels.
    """
    found, _ = _maps(features, 2048)
    coarsest = max(int(m.height.stride) for m in found)
    for number in range(_MULTIPLES // 2):
        padding = number * coarsest
        # For the smallest image and for one whose features are far from any limit.
        plans = []
        for size in (2 * padding + coarsest, _MULTIPLES * coarsest):
            found, smallest = _maps(features, size)
            plan, covers = _plan(found, padding, size)
            plans.append(plan if covers and smallest > 0 else None)
        if plans[0] is not None and plans[0] == plans[1]:
            data_format = "channels_first" if found[0].rows_axis == 2 else "channels_last"
            strides = tuple(int(m.height.stride) for m in found)
            return Backbone(features, strides, padding, plans[0], data_format)
    raise ValueError(
        "`backbone` must have features that cover the image. Received: "
        f"{features.output_names} of {[m.size for m in found]} pixels for {size} x {size}."
    )


def _maps(features, size):
    """The maps of the outputs for a square image, and the smallest size of any feature map."""
    maps = coordinate_maps(features, misaligned="first", image_size=(size, size))
    for name in features.output_names:
        rows, columns = maps[name].axes
        if (rows.stride, rows.offset) != (columns.stride, columns.offset) or len(
            set(maps[name].size)
        ) > 1:
            raise ValueError(
                "`backbone` must have the same padding along rows and columns. Received: layer "
                f"{name!r} with (rows) x (columns) {maps[name]}."
            )
    smallest = min(min(found.size) for found in maps.values())
    return [maps[name] for name in features.output_names], smallest


def _plan(maps: list[FeatureMap], padding: int, size: int) -> tuple[tuple[Upsampling, ...], bool]:
    """The upsamplings, and whether the logits cover an image of `size` - 2 * `padding`."""
    axes = [CoordinateMap(m.height.stride, m.height.offset - padding) for m in maps]
    scores, length, plan = axes[0], maps[0].size[0], []
    targets = [*zip(axes[1:], [m.size[0] for m in maps[1:]], strict=True)]
    for reference, reference_length in [*targets, (IMAGE, size - 2 * padding)]:
        step = bilinear_upsampling(scores, reference)
        upsampled = scores.then(transposed_convolution(step.kernel_size, step.factor))
        length = (length - 1) * step.factor + step.kernel_size
        if step.crop >= 0:
            scores, length = reference, length - step.crop
        else:
            scores, reference_length = upsampled, reference_length + step.crop
        step = dataclasses.replace(step, is_shorter=length < reference_length)
        plan.append(step)
        length = min(length, reference_length)
    return tuple(plan), step.crop >= 0 and not step.is_shorter


def bilinear_upsampling(scores: CoordinateMap, reference: CoordinateMap) -> Upsampling:
    """Returns the bilinear kernel and the crop that align scores with what they are added to.

    Args:
        scores: Coordinate map of the scores.
        reference: That of the finer features, or of the image.

    Raises:
        ValueError: If no kernel of twice the factor, or one less, aligns them on whole pixels.
    """
    ratio = scores.stride / reference.stride
    if ratio.denominator != 1 or ratio == 1:
        raise ValueError(
            "The output strides of `backbone` must divide each other. Received: "
            f"{scores.stride} and {reference.stride}."
        )
    factor = int(ratio)
    for kernel_size in (2 * factor, 2 * factor - 1):
        upsampled = scores.then(transposed_convolution(kernel_size, factor))
        with contextlib.suppress(ValueError):  # Not on whole pixels.
            return Upsampling(kernel_size, factor, -crop_offset(upsampled, reference))
    raise ValueError(
        "`backbone` must have outputs that a bilinear kernel aligns on whole pixels. Received: "
        f"offset {scores.offset} at stride {scores.stride} and offset {reference.offset} at stride "
        f"{reference.stride}. Choose other layers with `skips`."
    )


@dataclasses.dataclass(frozen=True)
class AlignedDecoder:
    """Scores the features of a backbone, upsamples, crops and adds them.

    Args:
        num_classes: Number of classes.
        trainable_upsampling: Whether the transposed convolutions are trainable.
        dtype: The layers' `keras.DTypePolicy`.
    """

    num_classes: int
    trainable_upsampling: bool
    dtype: keras.DTypePolicy

    def logits(
        self, backbone: Backbone, head: keras.KerasTensor, skips: list, image: keras.KerasTensor
    ) -> keras.KerasTensor:
        """Returns the logits at the image's size.

        Args:
            backbone: How the features are aligned.
            head: KerasTensor of the coarsest stride, which is scored first.
            skips: The finer features.
            image: The image, of which only the size is used.
        """
        options = {"data_format": backbone.data_format, "dtype": self.dtype}
        x = self._score(head, "score_fr", options)
        references = [
            self._score(skip, f"score_stride{stride}", options)
            for skip, stride in zip(skips, backbone.strides[1:], strict=True)
        ]
        for step, reference, stride in zip(
            backbone.upsamplings, [*references, image], [*backbone.strides[1:], 1], strict=True
        ):
            name = f"upscore{step.factor}" if stride == 1 else f"upscore_to_stride{stride}"
            x = FCNConv2DTranspose(
                self.num_classes,
                step.kernel_size,
                strides=step.factor,
                use_bias=False,
                kernel_initializer=Bilinear(),
                trainable=self.trainable_upsampling,
                name=name,
                **options,
            )(x)
            if step.crop < 0:
                reference = CropToReference(-step.crop, name=f"crop_stride{stride}", **options)(
                    [reference, x]
                )
            x = CropToReference(max(step.crop, 0), name=f"crop_{name}", **options)([x, reference])
            if step.is_shorter and step.crop >= 0:
                reference = CropToReference(0, name=f"crop_stride{stride}", **options)(
                    [reference, x]
                )
            if stride != 1:
                x = layers.Add(name=f"fuse_stride{stride}", dtype=self.dtype)([x, reference])
        return x

    def _score(self, x, name, options):
        return layers.Conv2D(self.num_classes, 1, kernel_initializer="zeros", name=name, **options)(
            x
        )


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
        if isinstance(preprocessing, dict):
            self._preprocessing = keras.saving.deserialize_keras_object(preprocessing)
        elif isinstance(backbone, dict):
            self._preprocessing = None
        else:
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
        decoder = AlignedDecoder(config["num_classes"], config["trainable_upsampling"], dtype)
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
