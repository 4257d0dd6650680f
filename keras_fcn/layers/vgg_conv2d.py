"""The convolutions of VGG-16's blocks."""

import keras

from keras_fcn.backends import backend


@keras.saving.register_keras_serializable(package="keras_fcn")
class VGGConv2D(keras.layers.Conv2D):
    """`keras.layers.Conv2D` of stride 1 with a faster kernel; equal to it up to rounding.

    Each backend selects the kernel, see `keras_fcn.backends`. Arguments, shapes and errors are
    those of `keras.layers.Conv2D`. `padding` is `"same"`, the kernel square and of odd size.

    Examples:
        >>> tuple(VGGConv2D(64, 3, padding="same")(np.zeros((1, 9, 8, 3))).shape)
        (1, 9, 8, 64)
    """

    def add_weight(self, *, initializer, **kwargs):
        return super().add_weight(initializer=backend.initializer(initializer), **kwargs)

    def call(self, inputs):
        return backend.convolution_layer(super().call, self, inputs)

    def convolution_op(self, inputs, kernel):
        return backend.convolve(
            super().convolution_op, inputs, kernel, self.data_format, self.compute_dtype
        )
