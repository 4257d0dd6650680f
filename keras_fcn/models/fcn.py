"""FCN-32s, FCN-16s and FCN-8s of Long, Shelhamer & Darrell on VGG-16."""

import dataclasses
import numbers
import os
import random
from collections.abc import Callable, Mapping
from typing import Any

import keras
from keras import layers

from keras_fcn import weights as weight_files
from keras_fcn.alignment import fcn_crop_offsets
from keras_fcn.backends import backend
from keras_fcn.label_spaces import LabelSpace
from keras_fcn.layers import ConvolutionalizedDense, Dropout, VGGPreprocessing
from keras_fcn.layers.vgg_preprocessing import PASCAL_VOC_MEAN
from keras_fcn.models.backbone import HEADS, BackboneParts
from keras_fcn.models.block_by_block import BlockByBlock
from keras_fcn.models.decoder import Decoder
from keras_fcn.models.exports import export_arguments
from keras_fcn.models.vgg16 import vgg16_trunk
from keras_fcn.spec import VGG16_FILTERS, output_stride


class FCN(backend.trainer(), keras.Model):  # type: ignore[misc]
    """A fully convolutional network on VGG-16; use `FCN32s`, `FCN16s` or `FCN8s`.

    The classifier's fully connected layers become the convolutions fc6 and fc7. A 1x1 convolution
    scores the classes at output stride 32. Skip connections from finer pools are scored in the same
    way and added, and transposed convolutions upsample the scores to the image's size. Sections 3
    and 4 of the paper.

    Args:
        num_classes: Number of classes, background included; at least 2.
        weights: `None` for random initialization; `"imagenet"` for the VGG-16 of
            `keras.applications`; `"pascal_voc"`, or `"pascal_voc_atonce"` for FCN-8s, for the
            authors' models; the path of a weight file; or a model of coarser stride to initialize
            from. See `keras_fcn.weights.load`.
        input_shape: (height, width, channels), or (channels, height, width) if `data_format` is
            `"channels_first"`; `None` for an axis of any size. A number of channels other than
            three requires `weights=None` and `include_preprocessing=False`.
        padding: `"paper"` pads the image with 100 pixels of zeros and leaves fc6 unpadded, as
            published (16 pixels more for every pixel of fc6's kernel beyond 7). `"same"` pads fc6
            instead of the image: three quarters of the arithmetic at 500x500, half at 224x224, and
            different values near the image border.
        filters: Filters of the convolutions in each of VGG-16's five blocks. Fewer make a slimmer
            network, trained from random initialization; pretrained weights need VGG-16's numbers.
        fc_units: Output channels of fc6 and of fc7.
        fc6_kernel_size: Kernel size of fc6 in pixels of pool5, odd. 1 gives the simplified network
            that many tutorials draw.
        dropout_rate: Fraction of fc6's and fc7's outputs that dropout sets to 0 in training.
        trainable_upsampling: If `False`, the transposed convolutions keep their bilinear kernels.
        skip_scales: Factors that pool4 and pool3 are multiplied by before they are scored; `None`
            for those of published weights, else (1, 1).
        include_preprocessing: If `True`, the input is RGB in [0, 255] of any dtype. If `False`, it
            is the input of VGG-16: BGR minus the mean.
        mean: Mean (blue, green, red) that the preprocessing subtracts; `None` for that of published
            weights, else PASCAL VOC's.
        classifier_activation: Name of an activation over the classes, such as `"softmax"`.
        label_space: `LabelSpace` of the classes, saved with the model; `None` for that of published
            weights with the same number of classes, else none.
        data_format: `"channels_last"` or `"channels_first"`, of images and logits; Keras's default
            if `None`.
        dtype: dtype policy of every layer; Keras's global one if `None`.
        backbone: A functional model of an image, such as one of `keras.applications` without its
            top, in place of VGG-16; `None` for VGG-16. The layers scored are the last ones of
            output stride 32, 16 and 8, aligned by `keras_fcn.alignment.coordinate_maps`. Its
            weights are used as they are. `padding`, `filters`, `weights`, `fc6_kernel_size`,
            `skip_scales`, `mean` and `gradient_checkpointing` must keep their defaults.
        skips: Names of the backbone's layers to score, by `"stride32"`, `"stride16"`, ...; `None`
            for the last layer of each stride.
        preprocessing: Layer, or function made of `keras.ops`, from RGB in [0, 255] to what the
            backbone takes; `None` for that of `keras.applications`, or none for other backbones.
        head: In front of `score_fr` on a backbone: `"conv"` for a 3x3 convolution with `fc_units`
            outputs and dropout, or `None`.
        freeze_batch_norm: If `True`, the backbone's batch normalization keeps its statistics and
            its weights in training. With few images in a batch, theirs are noise.
        gradient_checkpointing: If `True`, training stores only the inputs of VGG-16's blocks and
            recomputes the activations inside the blocks in the backward pass (rematerialization):
            the same gradients, less memory, more time. Peak memory falls by less than the stored
            activations do, because block 1 alone accounts for half of them. The attribute may be
            set later, before `fit`. `with_coarser_heads` ignores it.
        name: Name of the model.

    Input shape:
        (batch, height, width, channels), height and width at least 1.

    Output shape:
        (batch, height, width, num_classes), unnormalized logits in float32.

    Raises:
        ValueError: If an argument is invalid, or `weights` do not fit the model.
        FileNotFoundError: If `weights` is a path and no such file exists.

    Examples:
        >>> tuple(FCN8s(num_classes=21, fc_units=16)(np.zeros((1, 8, 9, 3))).shape)
        (1, 8, 9, 21)

    References:
        - [Long et al., 2015](https://arxiv.org/abs/1411.4038)
        - [Shelhamer et al., 2016](https://arxiv.org/abs/1605.06211)
    """

    skips: tuple[str, ...] = ()
    """Names of the pools whose scores are added, coarsest first."""

    def __init__(
        self,
        num_classes: int,
        *,
        weights: str | os.PathLike | keras.Model | None = None,
        input_shape: tuple[int | None, int | None, int | None] = (None, None, 3),
        padding: str = "paper",
        filters: tuple[int, int, int, int, int] = VGG16_FILTERS,
        fc_units: int = 4096,
        fc6_kernel_size: int = 7,
        dropout_rate: float = 0.5,
        trainable_upsampling: bool = False,
        skip_scales: tuple[float, float] | None = None,
        include_preprocessing: bool = True,
        mean: tuple[float, float, float] | None = None,
        classifier_activation: str | None = None,
        label_space: LabelSpace | None = None,
        data_format: str | None = None,
        dtype: str | keras.DTypePolicy | None = None,
        gradient_checkpointing: bool = False,
        backbone: keras.Model | None = None,
        skips: Mapping[str, str] | None = None,
        preprocessing: Callable | None = None,
        head: str | None = "conv",
        freeze_batch_norm: bool = False,
        name: str | None = None,
        **kwargs: Any,
    ):
        data_format = data_format or keras.config.image_data_format()
        dtype = keras.dtype_policies.get(dtype or keras.config.dtype_policy())
        if data_format == "channels_first" and tuple(input_shape) == (None, None, 3):
            input_shape = (3, None, None)
        published = weight_files.find_published(weights, stride=output_stride(self.skips))
        if published is not None:
            skip_scales = published.skip_scales if skip_scales is None else skip_scales
            mean = published.mean if mean is None else mean
            if label_space is None and num_classes == published.label_space.num_classes:
                label_space = published.label_space
        config = {
            "num_classes": num_classes,
            "input_shape": tuple(input_shape),
            "padding": padding,
            "filters": tuple(filters),
            "fc_units": fc_units,
            "fc6_kernel_size": fc6_kernel_size,
            "dropout_rate": dropout_rate,
            "trainable_upsampling": trainable_upsampling,
            "skip_scales": (1.0, 1.0) if skip_scales is None else tuple(skip_scales),
            "include_preprocessing": include_preprocessing,
            "mean": PASCAL_VOC_MEAN if mean is None else tuple(mean),
            "classifier_activation": classifier_activation,
            "label_space": _label_space_config(label_space),
            "data_format": data_format,
        }
        _check_config(config, weights, has_backbone=backbone is not None)
        if backbone is not None:
            _check_backbone(config, weights, head, gradient_checkpointing)
            parts = BackboneParts(
                backbone, self.skips, skips, preprocessing, head, freeze_batch_norm
            )
        else:
            parts = None
        # NumPy integers become Python integers: JSON cannot serialize NumPy's.
        config = {name: _plain(value) for name, value in config.items()}

        inputs = keras.Input(config["input_shape"], dtype="float32", name="image")
        # Each backend computes in its preferred layout; only images and logits are transposed.
        layout = backend.data_format if parts is None else parts.data_format
        image = change_layout(inputs, data_format, layout, "image_layout")
        if parts is None:
            logits, trunk = self._logits(image, config, layout, dtype)
        else:
            logits, trunk = parts.logits(image, config, dtype), None
        # The logits are float32 under every policy: losses and softmax need its range.
        if classifier_activation == "softmax" and layout == "channels_first":
            # Keras's cross-entropy calls PyTorch's nll_loss. Its gradient fails for probabilities
            # that are not stored channels first in memory.
            output = layers.Softmax(axis=1, dtype="float32", name="head")
        else:
            if classifier_activation is not None:
                logits = change_layout(logits, layout, "channels_last", "class_axis_last")
                layout = "channels_last"
            output = layers.Activation(
                classifier_activation or "linear", dtype="float32", name="head"
            )
        logits = output(logits)
        outputs = change_layout(logits, layout, data_format, "logits_layout")

        name = name or type(self).__name__.lower()
        super().__init__(inputs=inputs, outputs=outputs, name=name, **kwargs)
        self.dtype_policy = dtype
        self._config = config
        self._policies = {layer.name: layer.dtype_policy.name for layer in self.layers}
        self.gradient_checkpointing = gradient_checkpointing
        self._block_by_block = None if trunk is None else BlockByBlock(self, trunk)
        self._backbone_config = None if parts is None else parts.get_config
        if weights is not None:
            weight_files.load(self, weights)

    def _logits(self, image, config, layout, dtype):
        options = {"data_format": layout, "dtype": dtype}
        input_padding, fc6_padding = paddings(config["padding"], config["fc6_kernel_size"])
        x = image
        if config["include_preprocessing"]:
            x = VGGPreprocessing(config["mean"], name="preprocessing", **options)(x)
        trunk = vgg16_trunk(x, filters=config["filters"], input_padding=input_padding, **options)

        x = trunk.pools["pool5"]
        for number, kernel_size in ((6, config["fc6_kernel_size"]), (7, 1)):
            x = ConvolutionalizedDense(
                config["fc_units"],
                kernel_size,
                padding="same" if fc6_padding else "valid",
                activation="relu",
                name=f"fc{number}",
                **options,
            )(x)
            # Without an explicit seed, dropout on PyTorch would use the global random generator,
            # whose state no checkpoint of the model's variables restores.
            x = Dropout(
                config["dropout_rate"],
                seed=random.getrandbits(31),
                name=f"drop{number}",
                dtype=dtype,
            )(x)

        skips = {}
        for pool, scale in zip(self.skips, config["skip_scales"], strict=False):
            skips[pool] = trunk.pools[pool]
            if scale != 1:
                scaling = layers.Rescaling(scale, name=f"scale_{pool}", dtype=dtype)
                skips[pool] = scaling(trunk.pools[pool])
        crop_offsets = fcn_crop_offsets(
            self.skips,
            input_padding=input_padding,
            fc6_kernel_size=config["fc6_kernel_size"],
            fc6_padding=fc6_padding,
        )
        decoder = Decoder(config["num_classes"], config["trainable_upsampling"], **options)
        return decoder.logits(x, skips, image, crop_offsets), trunk

    def call(self, inputs, training=None, mask=None):
        recompute = bool(training and self.gradient_checkpointing)
        if self._block_by_block is None:
            if recompute:
                raise ValueError("`gradient_checkpointing` must be False with a `backbone`.")
            return super().call(inputs, training=training, mask=mask)
        if recompute or (backend.is_eager and not training):
            return self._block_by_block(keras.ops.cast(inputs, "float32"), recompute)
        return super().call(inputs, training=training, mask=mask)

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
            ValueError: If the backend cannot export the format, or only for known sizes.
            ImportError: If a package that Keras needs for the conversion is not installed.
        """
        input_signature, kwargs = export_arguments(self, format, input_signature, kwargs)
        super().export(os.fspath(filepath), format, verbose, input_signature, **kwargs)

    @property
    def num_classes(self) -> int:
        """Number of classes, background included."""
        return self._config["num_classes"]

    @property
    def label_space(self) -> LabelSpace | None:
        """`LabelSpace` of the classes; `None` if the model has none."""
        config = self._config["label_space"]
        return None if config is None else LabelSpace(**config)

    @property
    def num_channels(self) -> int:
        """Number of channels of the images."""
        shape = self._config["input_shape"]
        return shape[0 if self.data_format == "channels_first" else -1]

    @property
    def data_format(self) -> str:
        """`"channels_last"` or `"channels_first"`, of images and logits."""
        return self._config["data_format"]

    def get_config(self):
        return {
            "name": self.name,
            "trainable": self.trainable,
            "gradient_checkpointing": self.gradient_checkpointing,
            **self._config,
            **({} if self._backbone_config is None else self._backbone_config()),
            # Not in the constructor: this call imports TensorFlow on every backend.
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


def _check_backbone(config, weights, head, gradient_checkpointing):
    defaults = {
        "padding": "paper",
        "filters": VGG16_FILTERS,
        "fc6_kernel_size": 7,
        "skip_scales": (1.0, 1.0),
        "mean": PASCAL_VOC_MEAN,
        "include_preprocessing": True,
    }
    changed = [name for name, default in defaults.items() if config[name] != default]
    changed += ["weights"] * (weights is not None)
    changed += ["gradient_checkpointing"] * gradient_checkpointing
    if changed:
        raise ValueError(
            f"`{changed[0]}` must keep its default with `backbone`: it is VGG-16's. Received: "
            f"{changed} changed."
        )
    if head not in HEADS:
        raise ValueError(f"`head` must be one of {HEADS}. Received: {head=}.")


@keras.saving.register_keras_serializable(package="keras_fcn")
class FCN32s(FCN):
    """FCN-32s: scores at output stride 32, upsampled once. Arguments and shapes as for `FCN`.

    Examples:
        >>> tuple(FCN32s(num_classes=21, fc_units=16)(np.zeros((1, 8, 9, 3))).shape)
        (1, 8, 9, 21)
    """


@keras.saving.register_keras_serializable(package="keras_fcn")
class FCN16s(FCN):
    """FCN-16s: FCN-32s plus a skip connection from pool4. Arguments and shapes as for `FCN`.

    Examples:
        >>> tuple(FCN16s(num_classes=21, fc_units=16)(np.zeros((1, 8, 9, 3))).shape)
        (1, 8, 9, 21)
    """

    skips = ("pool4",)


@keras.saving.register_keras_serializable(package="keras_fcn")
class FCN8s(FCN):
    """FCN-8s: FCN-16s plus a skip connection from pool3. Arguments and shapes as for `FCN`.

    Examples:
        >>> tuple(FCN8s(num_classes=21, fc_units=16)(np.zeros((1, 8, 9, 3))).shape)
        (1, 8, 9, 21)
    """

    skips = ("pool4", "pool3")


@keras.saving.register_keras_serializable(package="keras_fcn")
class FCN4s(FCN):
    """FCN-8s on a backbone with one more skip connection, of stride 4, for thin objects.

    Arguments and shapes are those of `FCN`; `backbone` is needed.

    Examples:
        >>> import keras
        >>> backbone = keras.applications.MobileNetV2(
        ...     include_top=False, weights=None, input_shape=(None, None, 3)
        ... )
        >>> tuple(FCN4s(num_classes=21, backbone=backbone)(np.zeros((1, 8, 9, 3))).shape)
        (1, 8, 9, 21)
    """

    skips = ("pool4", "pool3", "pool2")

    def __init__(self, num_classes: int, **kwargs: Any):
        if kwargs.get("backbone") is None:
            raise ValueError("`backbone` must be a model for FCN4s. Received: backbone=None.")
        super().__init__(num_classes, **kwargs)


def _plain(value):
    if isinstance(value, tuple):
        return tuple(map(_plain, value))
    is_integer = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    return int(value) if is_integer else value


def _label_space_config(label_space):
    """Returns a JSON-serializable dictionary; `from_config` passes one already."""
    if dataclasses.is_dataclass(label_space):
        label_space = dataclasses.asdict(label_space)
    return label_space


def paddings(padding: str, fc6_kernel_size: int) -> tuple[int, int]:
    """Returns the zero padding of the image and that of fc6, in pixels of their inputs."""
    if padding == "same":
        return 0, fc6_kernel_size // 2
    # One less than the paper's 100: block1_conv1 also pads by one pixel. With 100, an image of one
    # pixel gives 7 x 7 pixels of pool5; every pixel of fc6's kernel beyond 7 needs 16 more.
    return 99 + 16 * max(0, fc6_kernel_size - 7), 0


def change_layout(x: keras.KerasTensor, layout: str, wanted: str, name: str) -> keras.KerasTensor:
    """Returns a 4D KerasTensor in the data format `wanted`; `name` is the permuting layer's."""
    if layout == wanted:
        return x
    axes = (2, 3, 1) if wanted == "channels_last" else (3, 1, 2)
    return layers.Permute(axes, dtype=x.dtype, name=name)(x)


def _check_config(config, weights, has_backbone):
    def require(condition, argument, rule):
        if not condition:
            raise ValueError(
                f"`{argument}` must be {rule}. Received: {argument}={config[argument]!r}."
            )

    def is_count(value, minimum):
        is_integer = isinstance(value, numbers.Integral) and not isinstance(value, bool)
        return is_integer and value >= minimum

    require(is_count(config["num_classes"], 2), "num_classes", "an integer of at least 2")
    require(config["padding"] in ("paper", "same"), "padding", "'paper' or 'same'")
    filters = config["filters"]
    require(
        len(filters) == len(VGG16_FILTERS) and all(is_count(value, 1) for value in filters),
        "filters",
        "five positive integers, one per block of VGG-16",
    )
    require(
        filters == VGG16_FILTERS or weights not in ("imagenet", *weight_files.published_names()),
        "filters",
        f"{VGG16_FILTERS}, the filters of VGG-16, for weights={weights!r}",
    )
    require(is_count(config["fc_units"], 1), "fc_units", "a positive integer")
    size = config["fc6_kernel_size"]
    require(is_count(size, 1) and size % 2 == 1, "fc6_kernel_size", "a positive odd integer")
    require(0 <= config["dropout_rate"] < 1, "dropout_rate", "at least 0 and less than 1")
    require(len(config["skip_scales"]) == 2, "skip_scales", "two numbers, for pool4 and pool3")
    require(len(config["mean"]) == 3, "mean", "three numbers, blue, green and red")
    require(
        config["data_format"] in ("channels_last", "channels_first"),
        "data_format",
        "'channels_last' or 'channels_first'",
    )
    label_space = config["label_space"]
    require(
        label_space is None or len(label_space["class_names"]) == config["num_classes"],
        "label_space",
        "`None` or a label space of `num_classes` classes",
    )
    require(len(config["input_shape"]) == 3, "input_shape", "three numbers or None")
    channels = config["input_shape"][0 if config["data_format"] == "channels_first" else -1]
    require(is_count(channels, 1), "input_shape", "of a known number of channels")
    require(
        channels == 3 or has_backbone or (weights is None and not config["include_preprocessing"]),
        "input_shape",
        "of 3 channels unless weights=None and include_preprocessing=False",
    )
