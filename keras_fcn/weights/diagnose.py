"""Diagnoses problems of the weights of a model."""

import dataclasses
import re

import keras
import numpy as np

from keras_fcn.layers import Bilinear, ConvolutionalizedDense
from keras_fcn.layers.inside import with_layers_inside
from keras_fcn.spec import VGG16_FILTERS

_SAMPLE = 1_000_000
# Kurtosis is 1.8 for the uniform distribution of Keras's initializers, 3 for a normal distribution,
# and more for trained weights, most of which are near zero.
_KURTOSIS_OF_INITIAL_VALUES = 2.2
_PROBE_SIZE = 64
# AdamW's default. Four epochs on 12 street scenes from ImageNet weights reach a mean IoU of 0.06
# with it, and of 0.31 with a tenth of it.
_HIGH_RATE = 1e-3


@dataclasses.dataclass(frozen=True)
class Finding:
    """A problem of the weights of some layers.

    Args:
        problem: `"random"`, `"zero"`, `"not_finite"`, `"not_bilinear"`, `"dead_input"` or
            `"high_rate"`.
        layers: Names of the layers, in the model's order.
        meaning: The consequence and the remedy.
    """

    problem: str
    layers: tuple[str, ...]
    meaning: str

    def __str__(self):
        return f"{', '.join(self.layers)}: {self.meaning}"


_MEANINGS = {
    "zero": "all zero, as score layers are before training; until then every pixel is class 0",
    "not_finite": "NaN or infinite values; train with a smaller learning rate, or load again",
    "not_bilinear": "an upsampling kernel that is not bilinear, which is expected only if learned",
    "dead_input": "the layer before it returns zero for every probe image, so it cannot learn",
    "high_rate": (
        "pretrained weights, which a learning rate of 0.001 or more destroys; train with 1e-4, "
        "such as keras.optimizers.AdamW(1e-4), or freeze the layers"
    ),
}


_HEAD = {"head_conv", "fc6", "fc7"}
_RANDOM_VGG16 = "random initial values, not VGG-16's; start from weights='imagenet' or a file"
_RANDOM_SLIM_VGG16 = (
    "random initial values, not VGG-16's, which need its `filters`; start from a file of these "
    "filters, or train it longer"
)
_RANDOM_ALEXNET = (
    "random initial values, not AlexNet's; start from the file of the classifier CaffeNet, "
    "bvlc_reference_caffenet.caffemodel, or from weights='pascal_voc_alexnet'"
)
_RANDOM_OTHER = "random initial values; start from pretrained weights, or train it longer"
_RANDOM_BACKBONE = (
    "random initial values; start from a backbone with weights='imagenet', or train it longer"
)
_RANDOM_HEAD = "random initial values, as the head of a backbone has before training; train it"
_RANDOM_CLASSIFIER = (
    "random initial values; pretrained values need fc_units=4096, fc6_kernel_size=7 and a file "
    "with the classifier; train them"
)


def diagnose(model: keras.Model) -> list[Finding]:
    """Returns the problems of a model's weights; an empty list if there are none.

    It finds convolutions, fc6 and fc7 that still hold random initial values, kernels that are all
    zero, NaN and infinity, and upsampling that is not bilinear. Then it runs the model on two
    images of noise and finds score layers whose inputs are all zero. For a compiled model before
    its first step, it also checks whether the learning rate is too high for pretrained layers.

    Args:
        model: A model of this package, or another built and functional `keras.Model`. Of models
            inside it, the values of the weights are checked.

    Raises:
        ValueError: If it is no model, or not built.

    Examples:
        >>> [finding.problem for finding in diagnose(FCN8s(2, fc_units=16))]
        ['random', 'zero']
    """
    if not isinstance(model, keras.Model) or not model.built:
        raise ValueError(
            "`model` must be a `keras.Model` that is built, as by its first call. Received: "
            f"{model!r}."
        )
    inside = with_layers_inside(model)
    every_layer = [layer for layer in inside if not isinstance(layer, keras.Model)]
    kernels = [layer for layer in every_layer if hasattr(layer, "kernel")]
    layers = {
        "random": [layer.name for layer in kernels if _is_random(layer)],
        "zero": [layer.name for layer in kernels if not np.any(_numpy(layer.kernel))],
        "not_finite": [layer.name for layer in every_layer if not _is_finite(layer)],
        "not_bilinear": [layer.name for layer in kernels if not _is_bilinear(layer)],
    }
    if not layers["not_finite"]:
        layers["dead_input"] = _score_layers_without_input(model)
    findings = [*_random(model, layers.pop("random"))]
    findings += [
        Finding(problem, tuple(names), _MEANINGS[problem])
        for problem, names in layers.items()
        if names
    ]
    optimizer = getattr(model, "optimizer", None)
    if optimizer is not None and int(_numpy(optimizer.iterations)) == 0:
        findings += check_rate(model, float(_numpy(optimizer.learning_rate)))
    return findings


def check_rate(model: keras.Model, learning_rate: float) -> list[Finding]:
    """Returns a `"high_rate"` finding if the learning rate is too high for pretrained layers.

    Args:
        model: The model, before its first step.
        learning_rate: The rate, or the largest one of a schedule.
    """
    if learning_rate < _HIGH_RATE:
        return []
    layers = with_layers_inside(model)
    names = [layer.name for layer in layers if layer.trainable and _is_pretrained(layer)]
    return [Finding("high_rate", tuple(names), _MEANINGS["high_rate"])] if names else []


def is_head(finding: Finding) -> bool:
    """Whether a finding is that the head of a backbone is random, as before every training."""
    return finding.meaning == _RANDOM_HEAD


def _random(model, names):
    """Yields the findings of layers with random initial values."""
    of_head = []
    layers = {layer.name: layer for layer in with_layers_inside(model)}
    if "backbone" in layers:
        of_head = [name for name in names if name in _HEAD]
        names = [name for name in names if name not in _HEAD]
        meaning = _RANDOM_BACKBONE
    elif "conv1" in layers and "fc6" in layers:
        meaning = _RANDOM_ALEXNET
    elif set(names) <= _HEAD:
        meaning = _RANDOM_CLASSIFIER
    else:
        meaning = _of_vgg16(layers)
    if names:
        yield Finding("random", tuple(names), meaning)
    if of_head:
        yield Finding("random", tuple(of_head), _RANDOM_HEAD)


def _of_vgg16(layers):
    """Returns the meaning of random convolutions in a network that may be VGG-16."""
    # Networks of several streams repeat them, with a suffix.
    blocks = {
        (int(found[1]), layer.kernel.shape[-1])
        for name, layer in layers.items()
        if (found := re.match(r"block([1-5])_conv1", name)) and hasattr(layer, "kernel")
    }
    if not blocks:
        return _RANDOM_OTHER
    return _RANDOM_VGG16 if blocks == set(enumerate(VGG16_FILTERS, 1)) else _RANDOM_SLIM_VGG16


def _numpy(variable):
    return keras.ops.convert_to_numpy(variable)


def _is_feature_layer(layer):
    is_convolution = isinstance(layer, (keras.layers.Conv2D, ConvolutionalizedDense))
    return is_convolution and not layer.name.startswith("score_")


def _is_pretrained(layer):
    return (
        _is_feature_layer(layer)
        and not _is_random(layer)
        and bool(np.any(_numpy(layer.kernel)))
        and _is_finite(layer)
    )


def _is_random(layer):
    if not _is_feature_layer(layer):
        return False
    values = _numpy(layer.kernel).ravel()
    values = values[:: max(1, values.size // _SAMPLE)].astype("float64")
    values -= values.mean()
    variance = np.mean(values**2)
    if not np.isfinite(variance) or variance == 0:
        return False
    return np.mean(values**4) / variance**2 < _KURTOSIS_OF_INITIAL_VALUES


def _is_finite(layer):
    return all(np.isfinite(_numpy(variable)).all() for variable in layer.weights)


def _is_bilinear(layer):
    if not isinstance(layer, keras.layers.Conv2DTranspose):
        return True
    kernel = _numpy(layer.kernel)
    return np.allclose(kernel, _numpy(Bilinear()(kernel.shape)), atol=1e-4)


def _score_layers_without_input(model):
    names = [
        layer.name
        for layer in model.layers
        if layer.name.startswith("score_") and hasattr(layer, "kernel")
    ]
    if not names:
        return []
    inputs = [model.get_layer(name).input for name in names]
    features = keras.Model(model.input, inputs)(_probe_images(model), training=False)
    features = features if isinstance(features, list | tuple) else [features]
    return [
        name for name, feature in zip(names, features, strict=True) if not np.any(_numpy(feature))
    ]


def _probe_images(model):
    """Returns fine and coarse noise for each input, in its size if that is fixed."""
    return keras.tree.map_structure(lambda tensor: _probe(model, tensor.shape), model.input)


def _probe(model, input_shape):
    shape = [size or _PROBE_SIZE for size in input_shape[1:]]
    generator = np.random.default_rng(0)
    fine = generator.uniform(0, 255, shape)
    axes = (1, 2) if getattr(model, "data_format", None) == "channels_first" else (0, 1)
    coarse = fine
    for axis in axes:
        coarse = np.repeat(coarse, 8, axis=axis).take(range(shape[axis]), axis=axis)
    return np.stack([fine, coarse]).astype("float32")
