"""Networks of several images of one scene: colour, depth and HHA, fused early or late."""

import os
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from keras_fcn import weights as weight_files
from keras_fcn.arguments import as_tuple
from keras_fcn.backends import backend
from keras_fcn.label_spaces import LabelSpace
from keras_fcn.layers import VGGPreprocessing
from keras_fcn.models.base import BaseFCN
from keras_fcn.models.checks import check_config, check_dictionary, check_keywords
from keras_fcn.models.config import DEFAULTS, as_json, label_space_config
from keras_fcn.models.decoder import Decoder
from keras_fcn.models.fcn import FCN32s
from keras_fcn.models.features import vgg16_features
from keras_fcn.models.layout import change_layout, output_layers
from keras_fcn.spec import HHA_MEAN, LOG_DEPTH_MEAN, MODALITIES, NYUDV2_MEAN, VGG16_FILTERS

_MEANS = {"image": NYUDV2_MEAN, "depth": (LOG_DEPTH_MEAN,), "hha": HHA_MEAN}
_FIRST = "block1_conv1"


@keras.saving.register_keras_serializable(package="keras_fcn")
class MultimodalFCN32s(BaseFCN):
    """FCN-32s of several registered images of one scene, as for NYUDv2 in the paper's release.

    Early fusion joins their channels before the first convolution. Late fusion runs a whole stream
    for each modality and takes the mean of their scores before one upsampling. Section 5 of the
    paper.

    Args:
        num_classes: Number of classes; at least 2.
        modalities: Names of the inputs: `"image"`, RGB in [0, 255]; `"depth"`, in millimetres, of
            which the logarithm is taken; `"hha"`, horizontal disparity, height above ground and
            angle with gravity in [0, 255].
        fusion: `"early"` or `"late"`; no difference for one modality.
        stacked: If `True`, the input is one image of the channels of all modalities in their order,
            instead of a dictionary. JAX exports no other model of several modalities, as it cannot
            know that inputs of unknown sizes have one size.
        weights: As in `FCN32s` for every stream, a dictionary of them by modality for late fusion,
            the file of a whole network, or the name of one: `"nyudv2_hha"`, `"nyudv2_image_hha"`.
            A kernel of RGB is extended to depth by the mean over its channels, as in the release,
            and summed for depth alone.
        padding: As in `FCN`.
        filters: As in `FCN`.
        fc_units: As in `FCN`.
        dropout_rate: As in `FCN`.
        trainable_upsampling: As in `FCN`.
        means: Dictionary from modalities to their means, (blue, green, red) of `"image"`, of the
            logarithm of `"depth"`; NYUDv2's for those that it lacks.
        label_space: `LabelSpace` of the classes, saved with the model; `None` for that of published
            weights with the same number of classes, else none.
        dtype: As in `FCN`.
        name: Name of the model.

    Input shape:
        Dictionary from each modality to (batch, height, width, channels) of one height and width:
        3 channels of `"image"` and `"hha"`, 1 of `"depth"`; or one image, if `stacked`.

    Output shape:
        (batch, height, width, num_classes), unnormalized logits in float32.

    Raises:
        ValueError: If an argument is invalid, or `weights` do not fit the model.
        FileNotFoundError: If `weights` is a path and no such file exists.

    Examples:
        >>> model = MultimodalFCN32s(40, modalities=("image", "depth"), fusion="early", fc_units=8)
        >>> scene = {"image": np.zeros((1, 8, 9, 3)), "depth": np.ones((1, 8, 9, 1))}
        >>> tuple(model(scene).shape)
        (1, 8, 9, 40)

    References:
        - [Long et al., 2015](https://arxiv.org/abs/1411.4038), section 5
        - [Gupta et al., 2014](https://arxiv.org/abs/1407.5736)
    """

    def __init__(
        self,
        num_classes: int,
        *,
        modalities: tuple[str, ...] = ("image", "hha"),
        fusion: str = "late",
        stacked: bool = False,
        weights: Any = None,
        padding: str = "paper",
        filters: tuple[int, int, int, int, int] = VGG16_FILTERS,
        fc_units: int = 4096,
        dropout_rate: float = 0.5,
        trainable_upsampling: bool = False,
        means: Mapping[str, tuple[float, ...]] | None = None,
        label_space: LabelSpace | None = None,
        dtype: str | keras.DTypePolicy | None = None,
        name: str | None = None,
        **kwargs: Any,
    ):
        check_keywords(self, kwargs)
        _check_modalities(modalities, fusion, means)
        dtype = keras.dtype_policies.get(dtype or keras.config.dtype_policy())
        published = self._published(weights, modalities)
        known = published
        if isinstance(weights, str) and weights in weight_files.published_names():
            known = weight_files.find_published(weights)
        if known is not None and num_classes == known.label_space.num_classes:
            label_space = label_space or known.label_space
        config = as_json(
            {
                "num_classes": num_classes,
                "modalities": tuple(modalities),
                "fusion": fusion,
                "stacked": stacked,
                "padding": padding,
                "filters": as_tuple("filters", filters),
                "fc_units": fc_units,
                "dropout_rate": dropout_rate,
                "trainable_upsampling": trainable_upsampling,
                "means": {
                    modality: tuple((means or {}).get(modality, _MEANS[modality]))
                    for modality in modalities
                },
                "label_space": label_space_config(label_space),
            }
        )
        of_vgg16 = {
            **DEFAULTS,
            **config,
            "input_shape": (None, None, 3),
            "include_preprocessing": False,
            "mean": (),
            "data_format": "channels_last",
        }
        check_config(of_vgg16, None)

        layout = backend.data_format
        options: dict[str, Any] = {"data_format": layout, "dtype": dtype}
        inputs, images = _inputs(config["modalities"], stacked)
        streams = []
        for modality, image in images.items():
            image = change_layout(image, "channels_last", layout, f"{modality}_layout")
            streams.append(_preprocessed(image, modality, config["means"][modality], options))
        suffixes = [f"_{modality}" for modality in config["modalities"]]
        if fusion == "early" or len(streams) == 1:
            axis = -1 if layout == "channels_last" else 1
            join = layers.Concatenate(axis, name="early_fusion", dtype=dtype)
            streams, suffixes = [join(streams) if len(streams) > 1 else streams[0]], [""]
        scores = []
        for stream, suffix in zip(streams, suffixes, strict=True):
            features = vgg16_features(stream, of_vgg16, (), suffix=suffix, **options)
            decoder = Decoder(config["num_classes"], trainable_upsampling, suffix=suffix, **options)
            scores.append(decoder.score(features.fc7, "score_fr"))
        fused = scores[0]
        if len(scores) > 1:
            fused = layers.Average(name="score_fused", dtype=dtype)(scores)
        decoder = Decoder(config["num_classes"], trainable_upsampling, **options)
        (crop_offset,) = features.crop_offsets
        logits = decoder.at_image_size(fused, image, 32, crop_offset, crop_name="crop_logits")
        outputs = output_layers(logits, None, layout, "channels_last")
        name = name or type(self).__name__.lower()
        super().__init__(inputs=inputs, outputs=outputs, name=name, **kwargs)
        self._store_config(config, dtype)
        self._load(weights, published)

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of the inputs, keys of `keras_fcn.spec.MODALITIES`."""
        return tuple(self._config["modalities"])

    @property
    def network(self) -> str:  # type: ignore[override]
        """Which published weights fit."""
        return "+".join(self.modalities)

    @property
    def num_channels(self) -> int:
        """Number of channels of all inputs together."""
        return sum(MODALITIES[modality] for modality in self.modalities)

    def blank(self, num_classes: int, fc_units: int, **options: Any) -> "MultimodalFCN32s":
        """Returns a new network of these modalities in the published architecture."""
        return type(self)(
            num_classes,
            modalities=self.modalities,
            fusion=self._config["fusion"],
            fc_units=fc_units,
            dtype="float32",
        )

    @staticmethod
    def _published(weights, modalities):
        names = weight_files.published_names()
        if not isinstance(weights, str) or weights not in names:
            return None
        if weight_files.find_published(weights).network == "vgg16":
            return None  # Those of one stream.
        return weight_files.find_published(weights, 32, "+".join(modalities))

    def _load(self, weights, published):
        if weights is None:
            return
        if isinstance(weights, str):
            weights = weight_files.local_file(weights)
        suffixes = [f"_{modality}" for modality in self.modalities]
        if any(layer.name == "fc6" for layer in self.layers):
            suffixes = [""]
        if isinstance(weights, Mapping):
            if set(weights) != set(self.modalities) or suffixes == [""]:
                raise ValueError(
                    "`weights` must be a dictionary of all `modalities` only with fusion='late'. "
                    f"Received: the keys {sorted(weights)} for {self.modalities}."
                )
            sources = [weights[modality] for modality in self.modalities]
        elif published is not None or self._is_whole(weights, suffixes):
            weight_files.load(self, weights)
            return
        else:
            sources = [weights] * len(suffixes)
        if suffixes == [""]:
            self._set_stream(self._colour_network(weights), "")
            return
        for suffix, modality, source in zip(suffixes, self.modalities, sources, strict=True):
            self._set_stream(self._network_of_one(modality, source), suffix)

    def _is_whole(self, weights, suffixes):
        """Whether a source holds the whole network, and not a stream of colour."""
        if isinstance(weights, keras.Model):
            same = isinstance(weights, MultimodalFCN32s) and weights.modalities == self.modalities
            return same and weights.get_config()["fusion"] == self._config["fusion"]
        if not isinstance(weights, (str, os.PathLike)) or not os.path.isfile(weights):
            return False
        with weight_files.open_file(weights) as contents:
            score = contents.entries.get((f"score_fr{suffixes[0]}", "kernel"))
            first = contents.entries.get((f"{_FIRST}{suffixes[0]}", "kernel"))
        own = self.get_layer(f"{_FIRST}{suffixes[0]}").kernel
        return score is not None and first is not None and first.shape[2:3] == own.shape[2:3]

    def _network_of_one(self, modality, source):
        config = self._config
        return MultimodalFCN32s(
            config["num_classes"],
            modalities=(modality,),
            weights=source,
            means={modality: config["means"][modality]},
            **{key: config[key] for key in ("padding", "filters", "fc_units")},
            dtype="float32",
        )

    def _colour_network(self, source):
        """An FCN-32s of colour images, which takes weights of every kind."""
        config = self._config
        return FCN32s(
            config["num_classes"],
            weights=source,
            mean=config["means"].get("image") or NYUDV2_MEAN,
            **{key: config[key] for key in ("padding", "filters", "fc_units")},
            dtype="float32",
            data_format="channels_last",
        )

    def _set_stream(self, network, suffix):
        own = {layer.name: layer for layer in self.layers}
        for layer in network.layers:
            target = own.get(f"{layer.name}{suffix}")
            if target is None or not hasattr(target, "kernel"):
                continue
            values = layer.get_weights()
            if layer.name == _FIRST and values[0].shape != tuple(target.kernel.shape):
                values[0] = _with_depth(values[0], target.kernel.shape[2])
            target.set_weights(values)


def _inputs(modalities, stacked):
    """Returns the inputs of a network, and the KerasTensor of each modality."""
    channels = [MODALITIES[modality] for modality in modalities]
    if stacked:
        image = keras.Input((None, None, sum(channels)), dtype="float32", name="image")
        ends = np.cumsum(channels).tolist()
        return image, {
            modality: image[..., end - count : end]
            for modality, count, end in zip(modalities, channels, ends, strict=True)
        }
    images = {
        modality: keras.Input((None, None, count), dtype="float32", name=modality)
        for modality, count in zip(modalities, channels, strict=True)
    }
    return images, images


def _preprocessed(image, modality, mean, options):
    if modality == "depth":
        # Depth without a measurement is 0.
        image = ops.log(ops.maximum(image, 1.0))
    return VGGPreprocessing(
        mean, reverse_channels=modality == "image", name=f"preprocessing_{modality}", **options
    )(image)


def _with_depth(kernel: np.ndarray, channels: int) -> np.ndarray:
    """Returns the first kernel for as many channels, those beyond colour of their mean."""
    if channels == 1:
        return kernel.sum(axis=2, keepdims=True)
    mean = kernel.mean(axis=2, keepdims=True)
    return np.concatenate([kernel, *[mean] * (channels - kernel.shape[2])], axis=2)


def _check_modalities(modalities, fusion, means):
    is_sequence = isinstance(modalities, (list, tuple)) and len(modalities) > 0
    known = is_sequence and all(modality in MODALITIES for modality in modalities)
    if not known or len(set(modalities)) != len(modalities):
        raise ValueError(
            f"`modalities` must be different ones of {', '.join(MODALITIES)}. Received: "
            f"{modalities=}."
        )
    if fusion not in ("early", "late"):
        raise ValueError(f"`fusion` must be 'early' or 'late'. Received: {fusion=}.")
    check_dictionary("means", means, "from modalities to their means")
    for modality, mean in (means or {}).items():
        channels = MODALITIES.get(modality, 0)
        if modality not in modalities or len(mean) != channels:
            raise ValueError(
                f"`means` must have {channels} numbers for {modality!r}, one of `modalities`. "
                f"Received: {means=}."
            )
