"""FCN-32s, FCN-16s and FCN-8s of Long, Shelhamer & Darrell on VGG-16."""

import os
from collections.abc import Callable, Mapping
from typing import Any

import keras

from keras_fcn import weights as weight_files
from keras_fcn.arguments import as_tuple
from keras_fcn.backends import backend
from keras_fcn.label_spaces import LabelSpace
from keras_fcn.layers import VGGPreprocessing
from keras_fcn.layers.vgg_preprocessing import default_mean
from keras_fcn.models.backbone import BackboneParts
from keras_fcn.models.base import BaseFCN
from keras_fcn.models.block_by_block import BlockByBlock
from keras_fcn.models.checks import (
    check_backbone,
    check_booleans,
    check_config,
    check_dictionary,
    check_input_shape,
    check_keywords,
    check_without_backbone,
)
from keras_fcn.models.config import DEFAULTS, as_json, label_space_config, num_channels
from keras_fcn.models.decoder import Decoder
from keras_fcn.models.features import vgg16_features
from keras_fcn.models.layout import at_original_size, change_layout, enlarge, output_layers
from keras_fcn.spec import VGG16_FILTERS, output_stride


class FCN(BaseFCN):
    """A fully convolutional network on VGG-16; use `FCN32s`, `FCN16s` or `FCN8s`.

    The classifier's fully connected layers become the convolutions fc6 and fc7. A 1x1 convolution
    scores the classes at output stride 32. Skip connections from finer pools are scored in the same
    way and added, and transposed convolutions upsample the scores to the image's size. Sections 3
    and 4 of the paper.

    Args:
        num_classes: Number of classes, background included; at least 2.
        weights: `None` for random initialization; `"imagenet"` for the VGG-16 of
            `keras.applications`; `"camvid"` for the FCN-8s of street scenes that is part of the
            package; `"pascal_voc"`, or `"pascal_voc_atonce"` for FCN-8s, for the authors' models;
            the path of a weight file, or `"hf://owner/repo/file@revision"` for one of the Hugging
            Face Hub; or a model of coarser stride to initialize from. See `keras_fcn.weights.load`.
        input_shape: (height, width, channels), or (channels, height, width) if `data_format` is
            `"channels_first"`; `None` for an axis of any size. Pretrained first kernels are summed
            for one channel, and repeated and rescaled for two or more than three, with a warning.
        padding: `"paper"` pads the image with 100 pixels of zeros and leaves fc6 unpadded, as
            published (16 pixels more for every pixel of fc6's kernel beyond 7). `"same"` pads fc6
            instead of the image: three quarters of the arithmetic at 500x500, half at 224x224, and
            different values near the image border. `None` for that of published weights, else
            `"paper"`.
        filters: Filters of the convolutions in each of VGG-16's five blocks. Fewer make a slimmer
            network, trained from random initialization; pretrained weights need VGG-16's numbers.
        fc_units: Output channels of fc6 and of fc7; `None` for those of published weights, else
            4096.
        fc6_kernel_size: Kernel size of fc6 in pixels of pool5, odd; `None` for that of published
            weights, else 7. 1 gives the simplified network that many tutorials draw.
        input_upsampling: Whole factor by which the image is enlarged bilinearly before the network;
            the logits are averaged over each pixel's enlarged pixels. With 2, the network resolves
            objects of half the size for four times the arithmetic. `None` for that of published
            weights, else 1.
        dropout_rate: Fraction of fc6's and fc7's outputs that dropout sets to 0 in training.
        trainable_upsampling: If `False`, the transposed convolutions keep their bilinear kernels.
        skip_scales: Factors that pool4 and pool3 are multiplied by before they are scored; `None`
            for those of published weights, else (1, 1).
        include_preprocessing: If `True`, the input is RGB in [0, 255] of any dtype. If `False`, it
            is the input of VGG-16: BGR minus the mean.
        mean: Mean (blue, green, red) that the preprocessing subtracts; for another number of
            channels than three, one value per channel in the image's order. `None` for that of
            published weights, else PASCAL VOC's.
        classifier_activation: Name of an activation over the classes, such as `"softmax"`.
        label_space: `LabelSpace` of the classes, saved with the model; `None` for that of published
            weights with the same number of classes, else none.
        data_format: `"channels_last"` or `"channels_first"`, of images and logits; Keras's default
            if `None`.
        dtype: dtype policy of every layer; Keras's global one if `None`.
        backbone: A functional model of an image, such as one of `keras.applications` without its
            top, in place of VGG-16; `None` for VGG-16. The layers scored are the last ones of
            output stride 32, 16 and 8, aligned by `keras_fcn.alignment.coordinate_maps`. Its
            weights are used as they are. `padding`, `filters`, `weights`, `skip_scales`, `mean` and
            `gradient_checkpointing` must keep their defaults.
        skips: Names of the backbone's layers to score, by `"stride32"`, `"stride16"`, ...; `None`
            for the last layer of each stride.
        preprocessing: Layer, or function made of `keras.ops`, from RGB in [0, 255] to what the
            backbone takes; `None` for that of `keras.applications`, or none for other backbones.
        head: In front of `score_fr` on a backbone: `"conv"` for a 3x3 convolution with `fc_units`
            outputs and dropout, `"fc"` for the paper's fc6 (`fc6_kernel_size`, padded) and fc7, or
            `None`.
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
        OSError: As `keras_fcn.weights.load`.

    Examples:
        >>> tuple(FCN8s(num_classes=21, fc_units=16)(np.zeros((1, 8, 9, 3))).shape)
        (1, 8, 9, 21)

    References:
        - [Long et al., 2015](https://arxiv.org/abs/1411.4038)
        - [Shelhamer et al., 2016](https://arxiv.org/abs/1605.06211)
    """

    def __init__(
        self,
        num_classes: int,
        *,
        weights: str | os.PathLike | keras.Model | None = None,
        input_shape: tuple[int | None, int | None, int | None] = (None, None, 3),
        padding: str | None = None,
        filters: tuple[int, int, int, int, int] = VGG16_FILTERS,
        fc_units: int | None = None,
        fc6_kernel_size: int | None = None,
        input_upsampling: int | None = None,
        dropout_rate: float = 0.5,
        trainable_upsampling: bool = False,
        skip_scales: tuple[float, float] | None = None,
        include_preprocessing: bool = True,
        mean: tuple[float, ...] | None = None,
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
        check_keywords(self, kwargs)
        check_input_shape(input_shape)
        data_format = data_format or keras.config.image_data_format()
        dtype = keras.dtype_policies.get(dtype or keras.config.dtype_policy())
        if data_format == "channels_first" and tuple(input_shape) == (None, None, 3):
            input_shape = (3, None, None)
        channels = num_channels(input_shape, data_format)
        published = None
        if backbone is None:
            published = weight_files.find_published(weights, stride=output_stride(self.skips))
        config = {
            "num_classes": num_classes,
            "input_shape": tuple(input_shape),
            "padding": padding,
            "filters": as_tuple("filters", filters),
            "fc_units": fc_units,
            "fc6_kernel_size": fc6_kernel_size,
            "input_upsampling": input_upsampling,
            "dropout_rate": dropout_rate,
            "trainable_upsampling": trainable_upsampling,
            "skip_scales": skip_scales,
            "include_preprocessing": include_preprocessing,
            "mean": mean,
            "classifier_activation": classifier_activation,
            "label_space": label_space,
            "data_format": data_format,
        }
        config = _with_defaults(config, published, channels)
        check_config(config, weights)
        check_booleans(
            {
                "gradient_checkpointing": gradient_checkpointing,
                "freeze_batch_norm": freeze_batch_norm,
            }
        )
        if backbone is not None:
            check_backbone(config, weights, head, gradient_checkpointing)
            check_dictionary("skips", skips, "such as {'stride16': 'NAME_OF_LAYER'}")
            parts = BackboneParts(
                backbone, self.skips, skips, preprocessing, head, freeze_batch_norm, channels
            )
        else:
            check_without_backbone(
                {
                    "skips": skips,
                    "preprocessing": preprocessing,
                    "head": head,
                    "freeze_batch_norm": freeze_batch_norm,
                }
            )
            parts = None
        config = as_json(config)
        inputs, outputs, trunk = self._graph(config, parts, dtype)
        name = name or type(self).__name__.lower()
        super().__init__(inputs=inputs, outputs=outputs, name=name, **kwargs)
        self._store_config(config, dtype)
        self.gradient_checkpointing = gradient_checkpointing
        self.block_by_block = None if trunk is None else BlockByBlock(inputs, trunk, [outputs])
        self._backbone_config = None if parts is None else parts.get_config
        self._freezes_batch_norm = freeze_batch_norm
        if weights is not None:
            weight_files.load(self, weights)

    def _graph(self, config, parts, dtype):
        """Returns image, logits, and what `BlockByBlock` needs of VGG-16; `None` on a backbone."""
        data_format = config["data_format"]
        inputs = keras.Input(config["input_shape"], dtype="float32", name="image")
        # Each backend computes in its preferred layout; only images and logits are transposed.
        layout = backend.data_format if parts is None else parts.data_format
        image = change_layout(inputs, data_format, layout, "image_layout")
        factor = config["input_upsampling"]
        image = enlarge(image, factor, layout)
        if parts is None:
            logits, trunk = self._logits(image, config, layout, dtype)
        else:
            logits, trunk = parts.logits(image, config, dtype), None
        logits = at_original_size(logits, factor, layout)
        outputs = output_layers(logits, config["classifier_activation"], layout, data_format)
        return inputs, outputs, trunk

    def _logits(self, image, config, layout, dtype):
        options = {"data_format": layout, "dtype": dtype}
        x = image
        if config["include_preprocessing"]:
            x = VGGPreprocessing(config["mean"], name="preprocessing", **options)(x)
        features = vgg16_features(x, config, self.skips, **options)
        decoder = Decoder(config["num_classes"], config["trainable_upsampling"], **options)
        return decoder.logits(features, image), features.trunk

    def call(self, inputs, training=None, mask=None):
        recompute = bool(training and self.gradient_checkpointing)
        if self.block_by_block is None:
            if recompute:
                raise ValueError("`gradient_checkpointing` must be False with a `backbone`.")
            return super().call(inputs, training=training, mask=mask)
        if recompute or (backend.is_eager and not training):
            (image,) = self._images(inputs)
            image = keras.ops.cast(image, "float32")
            if len(image.shape) == 3:  # Grey images; as Keras does where it runs the layers.
                image = keras.ops.expand_dims(image, -1)
            return self.block_by_block(image, bool(training), recompute)[0]
        return super().call(inputs, training=training, mask=mask)

    @property
    def num_channels(self) -> int:
        """Number of channels of the images."""
        return num_channels(self._config["input_shape"], self.data_format)

    def get_config(self):
        config = {**super().get_config(), "gradient_checkpointing": self.gradient_checkpointing}
        return config if self._backbone_config is None else {**config, **self._backbone_config()}


def _with_defaults(config, published, channels):
    """Returns a configuration with values of published weights, or the paper's, for each `None`."""
    defaults = {**DEFAULTS, "mean": default_mean(channels)}
    label_space = config["label_space"]
    if published is not None:
        defaults = {name: getattr(published, name) for name in defaults}
        if channels != 3:
            defaults["mean"] = default_mean(channels)
        if label_space is None and config["num_classes"] == published.label_space.num_classes:
            label_space = published.label_space
    given = {name: config[name] for name in defaults if config[name] is not None}
    config = {**config, **defaults, **given, "label_space": label_space_config(label_space)}
    return config | {name: as_tuple(name, config[name]) for name in ("skip_scales", "mean")}


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
