"""The networks of `keras.applications`: as backbones by name, and their preprocessing."""

import difflib
import re
from collections.abc import Callable

import keras

# Prefix of the name of a network of `keras.applications` -> module with its preprocessing. Longer
# prefixes first.
_APPLICATIONS = {
    "vgg16": "vgg16",
    "vgg19": "vgg19",
    "resnet50v2": "resnet_v2",
    "resnet101v2": "resnet_v2",
    "resnet152v2": "resnet_v2",
    "resnet": "resnet",
    "mobilenetv2": "mobilenet_v2",
    "MobileNetV3": "mobilenet_v3",
    "mobilenet": "mobilenet",
    "densenet": "densenet",
    "efficientnetv2": "efficientnet_v2",
    "efficientnet": "efficientnet",
    "convnext": "convnext",
    "xception": "xception",
    "inception_v3": "inception_v3",
    "inception_resnet_v2": "inception_resnet_v2",
    "nasnet": "nasnet",
}


def application(name: str, weights: str | None = None) -> keras.Model:
    """Returns a network of `keras.applications` without its top, for images of any size.

    Args:
        name: Its name; case and underscores do not matter: `"MobileNetV2"`, `"mobilenet_v2"`.
        weights: `"imagenet"`, which Keras downloads once into its cache, or `None`.

    Raises:
        OSError: If the weights are not in the cache and cannot be downloaded.
        ValueError: If there is no such network.

    Examples:
        >>> application("mobilenet_v2").output.shape[-1]
        1280
    """
    networks = {
        plain_name(key): value
        for key, value in vars(keras.applications).items()
        if callable(value) and key[0].isupper()
    }
    if plain_name(name) not in networks:
        near = difflib.get_close_matches(plain_name(name), networks, 1, cutoff=0)[0]
        raise ValueError(
            f"{name!r} must name a network of keras.applications. Did you mean "
            f"{networks[near].__name__}?"
        )
    network = networks[plain_name(name)]
    if plain_name(name).startswith("nasnet"):
        # It halves a branch only where the sizes of both are known: its sums fail on others.
        raise ValueError(
            f"{name!r} must name a network for images of every size. Keras builds "
            f"{network.__name__} for one size alone: choose another one, such as mobilenet_v2."
        )
    try:
        return network(include_top=False, weights=weights, input_shape=(None, None, 3))
    except Exception as error:  # Keras raises a plain Exception if a download fails.
        if weights is None:
            raise
        raise OSError(
            f"The ImageNet weights of {network.__name__} must be downloaded, which failed: "
            f"{error}. weights=None starts from random values."
        ) from error


def plain_name(name: str) -> str:
    """Returns the name of a network without what does not matter in it: case and underscores.

    Examples:
        >>> plain_name("MobileNetV2") == plain_name("mobilenet_v2")
        True
    """
    return re.sub("[^a-z0-9]", "", name.lower())


def preprocessing_of(
    backbone: keras.Model, function: Callable | None, data_format: str
) -> keras.Model | None:
    """Returns the model from RGB in [0, 255] to what a backbone takes; `None` for none.

    Args:
        backbone: The backbone, whose name identifies a network of `keras.applications`.
        function: A layer or function of the image made of `keras.ops`; `None` for the one that
            `keras.applications` has for the network.
        data_format: Layout of the image.
    """
    channels = backbone.inputs[0].shape[-1 if data_format == "channels_last" else 1]
    shape = (None, None, channels) if data_format == "channels_last" else (channels, None, None)
    if function is None:
        module = next(
            (module for name, module in _APPLICATIONS.items() if backbone.name.startswith(name)),
            None,
        )
        if module is None:
            return None
        of_network = getattr(keras.applications, module).preprocess_input

        def function(image):
            preprocessed = of_network(image, data_format=data_format)
            if preprocessed.shape != image.shape:
                raise ValueError(f"it returns the shape {preprocessed.shape}")
            return preprocessed

    image = keras.Input(shape, name="rgb")
    try:
        preprocessed = function(image)
    except ValueError as error:
        if channels == 3:
            raise
        raise ValueError(
            f"`preprocessing` must take {channels} channels; that of {backbone.name!r} takes RGB. "
            f"Received: {error}."
        ) from error
    return keras.Model(image, preprocessed, name="preprocessing")
