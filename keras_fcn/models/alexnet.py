"""FCN-AlexNet: the FCN-32s of the paper on AlexNet."""

import os
from typing import Any

import keras
from keras import layers

from keras_fcn import weights as weight_files
from keras_fcn.alignment import IMAGE, coordinate_maps
from keras_fcn.arguments import as_tuple
from keras_fcn.backends import backend
from keras_fcn.label_spaces import LabelSpace
from keras_fcn.layers import GroupedConv2D, LocalResponseNormalization, VGGPreprocessing
from keras_fcn.layers.vgg_preprocessing import PASCAL_VOC_MEAN
from keras_fcn.models.base import BaseFCN
from keras_fcn.models.checks import check_alexnet, check_keywords
from keras_fcn.models.config import as_json, label_space_config
from keras_fcn.models.decoder import Decoder
from keras_fcn.models.layout import change_layout, output_layers
from keras_fcn.models.upsampling import bilinear_upsampling
from keras_fcn.models.vgg16 import convolutionalized_classifier
from keras_fcn.spec import ALEXNET_FILTERS

# The release pads the image by 100 pixels in its first convolution.
_PADDING = 100


@keras.saving.register_keras_serializable(package="keras_fcn")
class FCNAlexNet(BaseFCN):
    """FCN-32s on AlexNet, as in section 4 of the paper and in its release (`voc-fcn-alexnet`).

    AlexNet is Caffe's CaffeNet: local response normalization after the pools, and two groups in
    conv2, conv4 and conv5. Its fc6 has a kernel of 6x6 pixels. The transposed convolution has a
    kernel of 63 pixels: with 64, the logits would be shifted by half a pixel. Kernel and crop
    follow from the coordinate maps of the layers.

    Args:
        num_classes: Number of classes, background included; at least 2.
        weights: `None` for random initialization; `"pascal_voc_alexnet"` for the authors' model;
            the path of a weight file, such as that of the classifier CaffeNet; or a model.
        filters: Filters of conv1 to conv5, even numbers.
        fc_units: Output channels of fc6 and of fc7.
        dropout_rate: As in `FCN`.
        trainable_upsampling: As in `FCN`.
        include_preprocessing: As in `FCN`.
        mean: As in `FCN`.
        classifier_activation: As in `FCN`.
        label_space: As in `FCN`.
        data_format: As in `FCN`.
        dtype: As in `FCN`.
        name: Name of the model.

    Input shape:
        (batch, height, width, 3), height and width at least 1.

    Output shape:
        (batch, height, width, num_classes), unnormalized logits in float32.

    Raises:
        ValueError: If an argument is invalid, or `weights` do not fit the model.
        FileNotFoundError: If `weights` is a path and no such file exists.

    Examples:
        >>> tuple(FCNAlexNet(num_classes=21, fc_units=16)(np.zeros((1, 8, 9, 3))).shape)
        (1, 8, 9, 21)

    References:
        - [Long et al., 2015](https://arxiv.org/abs/1411.4038)
        - [Krizhevsky et al., 2012](https://papers.nips.cc/paper/4824)
    """

    network = "alexnet"

    def __init__(
        self,
        num_classes: int,
        *,
        weights: str | os.PathLike | keras.Model | None = None,
        filters: tuple[int, int, int, int, int] = ALEXNET_FILTERS,
        fc_units: int = 4096,
        dropout_rate: float = 0.5,
        trainable_upsampling: bool = False,
        include_preprocessing: bool = True,
        mean: tuple[float, float, float] | None = None,
        classifier_activation: str | None = None,
        label_space: LabelSpace | None = None,
        data_format: str | None = None,
        dtype: str | keras.DTypePolicy | None = None,
        name: str | None = None,
        **kwargs: Any,
    ):
        check_keywords(self, kwargs)
        data_format = data_format or keras.config.image_data_format()
        dtype = keras.dtype_policies.get(dtype or keras.config.dtype_policy())
        published = weight_files.find_published(weights, stride=32, network="alexnet")
        if published is not None and num_classes == published.label_space.num_classes:
            label_space = label_space or published.label_space
        config = as_json(
            {
                "num_classes": num_classes,
                "filters": as_tuple("filters", filters),
                "fc_units": fc_units,
                "dropout_rate": dropout_rate,
                "trainable_upsampling": trainable_upsampling,
                "include_preprocessing": include_preprocessing,
                "mean": PASCAL_VOC_MEAN if mean is None else as_tuple("mean", mean),
                "classifier_activation": classifier_activation,
                "label_space": label_space_config(label_space),
                "data_format": data_format,
            }
        )
        check_alexnet(config)
        layout = backend.data_format
        options: dict[str, Any] = {"data_format": layout, "dtype": dtype}
        shape = (None, None, 3) if data_format == "channels_last" else (3, None, None)
        inputs = keras.Input(shape, dtype="float32", name="image")
        image = x = change_layout(inputs, data_format, layout, "image_layout")
        if include_preprocessing:
            x = VGGPreprocessing(config["mean"], name="preprocessing", **options)(x)
        fc7 = _fc7(x, config, options)
        scores = coordinate_maps(keras.Model(inputs, fc7))["drop7"].height
        upsampling = bilinear_upsampling(scores, IMAGE)
        decoder = Decoder(config["num_classes"], trainable_upsampling, **options)
        logits = decoder.at_image_size(
            decoder.score(fc7, "score_fr"),
            image,
            stride=upsampling.factor,
            crop_offset=upsampling.crop,
            crop_name="crop_logits",
            kernel_size=upsampling.kernel_size,
        )
        outputs = output_layers(logits, classifier_activation, layout, data_format)
        super().__init__(inputs=inputs, outputs=outputs, name=name or "fcnalexnet", **kwargs)
        self._store_config(config, dtype)
        if weights is not None:
            weight_files.load(self, weights)

    def blank(self, num_classes: int, fc_units: int, **options: Any) -> "FCNAlexNet":
        """Returns a new network of the published architecture; it has no skips."""
        return type(self)(num_classes, fc_units=fc_units, dtype="float32")


def _fc7(x, config, options):
    """The convolutionalized AlexNet."""

    def convolution(x, number, kernel_size, padding, groups=1, stride=1):
        return GroupedConv2D(
            config["filters"][number - 1],
            kernel_size,
            stride,
            padding=padding,
            groups=groups,
            activation="relu",
            name=f"conv{number}",
            **options,
        )(x)

    def pool(x, number):
        # Caffe rounds the size up. A row and a column of zeros do so, as no ReLU is below them.
        x = layers.ZeroPadding2D(((0, 1), (0, 1)), name=f"pad{number}", **options)(x)
        return layers.MaxPooling2D(3, 2, name=f"pool{number}", **options)(x)

    x = layers.ZeroPadding2D(_PADDING, name="input_padding", **options)(x)
    x = pool(convolution(x, 1, 11, "valid", stride=4), 1)
    x = LocalResponseNormalization(name="norm1", **options)(x)
    x = pool(convolution(x, 2, 5, "same", groups=2), 2)
    x = LocalResponseNormalization(name="norm2", **options)(x)
    x = convolution(x, 3, 3, "same")
    x = convolution(x, 4, 3, "same", groups=2)
    x = pool(convolution(x, 5, 3, "same", groups=2), 5)
    return convolutionalized_classifier(
        x,
        units=config["fc_units"],
        kernel_size=6,
        padding="valid",
        dropout_rate=config["dropout_rate"],
        **options,
    )
