"""The max pooling of VGG-16's blocks."""

import keras

from keras_fcn.backends import backend


@keras.saving.register_keras_serializable(package="keras_fcn")
class VGGMaxPooling2D(keras.layers.MaxPooling2D):
    """`keras.layers.MaxPooling2D` with a cheaper gradient on JAX; exact in exports from PyTorch.

    Each backend selects the implementation, see `keras_fcn.backends`. Arguments, shapes and errors
    are those of `keras.layers.MaxPooling2D`.

    Examples:
        >>> tuple(VGGMaxPooling2D(2, 2, padding="same")(np.zeros((1, 9, 8, 3))).shape)
        (1, 5, 4, 3)
    """

    def call(self, inputs):
        is_of_vgg = (
            tuple(self.pool_size) == tuple(self.strides) == (2, 2) and self.padding == "same"
        )
        if is_of_vgg:
            return backend.max_pool(super().call, inputs, self.data_format)
        return super().call(inputs)
