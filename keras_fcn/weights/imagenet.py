"""The VGG-16 of `keras.applications`, trained on ImageNet."""

import keras

from keras_fcn.weights.download import keras_home

_FOLDER = "https://storage.googleapis.com/tensorflow/keras-applications/vgg16"
_FILES = {
    True: "vgg16_weights_tf_dim_ordering_tf_kernels.h5",
    False: "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5",
}


def imagenet_vgg16(*, include_top: bool) -> keras.Model:
    """Returns VGG-16 with its weights, which Keras downloads once into its cache.

    Args:
        include_top: Whether the classifier, with fc6 and fc7 in it, comes along.

    Raises:
        OSError: If the weights are not in the cache and cannot be downloaded.
    """
    try:
        return keras.applications.VGG16(include_top=include_top, weights="imagenet")
    except Exception as error:  # What Keras raises for a failed download is nothing more specific.
        file = _FILES[include_top]
        raise OSError(
            f"The ImageNet weights of VGG-16 must be downloaded from {_FOLDER}/{file}, which "
            f"failed: {error}. Put the file by hand at {keras_home() / 'models' / file}, or pass "
            "its path as `weights`; weights=None starts from random values."
        ) from error
