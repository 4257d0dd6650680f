"""The VGG-16 of `keras.applications`, trained on ImageNet."""

import keras

from keras_fcn.io.download import keras_home

_FOLDER = "https://storage.googleapis.com/tensorflow/keras-applications/vgg16"
_FILES = {
    True: "vgg16_weights_tf_dim_ordering_tf_kernels.h5",
    False: "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5",
}


def imagenet_vgg16(*, include_top: bool) -> keras.Model:
    """Returns VGG-16 with its weights, which Keras downloads once into its cache.

    Args:
        include_top: Whether to include the classifier, which contains fc6 and fc7.

    Raises:
        OSError: If the weights are not in the cache and cannot be downloaded.
    """
    try:
        return keras.applications.VGG16(include_top=include_top, weights="imagenet")
    except Exception as error:  # Keras raises a plain Exception if a download fails.
        file = _FILES[include_top]
        raise OSError(
            f"The ImageNet weights of VGG-16 must be downloaded from {_FOLDER}/{file}, which "
            f"failed: {error}. Save the file as {keras_home() / 'models' / file}, or pass its path "
            "as `weights`; weights=None starts from random values."
        ) from error
