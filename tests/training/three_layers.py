"""A network of three layers in the place of FCN-32s and FCN-16s."""

import keras

from keras_fcn.layers import Dropout, VGGPreprocessing
from keras_fcn.models.fcn import FCN
from keras_fcn.models.vgg16 import Trunk


@keras.saving.register_keras_serializable(package="tests")
class ThreeLayers(FCN):
    """Has the configuration and the layers' names of an FCN, and logits of the image's size."""

    def _logits(self, image, config, layout, dtype):
        options = {"padding": "same", "data_format": layout, "dtype": dtype}
        image = VGGPreprocessing(config["mean"], data_format=layout, dtype=dtype)(image)
        x = keras.layers.Conv2D(4, 3, activation="relu", name="block1_conv1", **options)(image)
        trunk = Trunk({"pool5": x}, [([image], [x])])
        x = keras.layers.Conv2D(4, 3, activation="relu", name="fc6", **options)(x)
        x = Dropout(config["dropout_rate"], seed=3, name="drop6", dtype=dtype)(x)
        zeros = {"kernel_initializer": "zeros", "name": "score_fr"}
        return keras.layers.Conv2D(config["num_classes"], 1, **zeros, **options)(x), trunk


@keras.saving.register_keras_serializable(package="tests")
class FinerThreeLayers(ThreeLayers):
    """What goes on from `ThreeLayers`."""
