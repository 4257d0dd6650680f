"""The transposed convolutions that upsample the class scores."""

import keras

from keras_fcn.backends import backend


@keras.saving.register_keras_serializable(package="keras_fcn")
class FCNConv2DTranspose(keras.layers.Conv2DTranspose):
    """`keras.layers.Conv2DTranspose`, faster with JAX on CPUs; equal to it up to rounding.

    Each backend selects the kernel, see `keras_fcn.backends`. Arguments, shapes and errors are
    those of `keras.layers.Conv2DTranspose`.

    Examples:
        >>> tuple(FCNConv2DTranspose(4, 4, 2, use_bias=False)(np.zeros((1, 9, 8, 4))).shape)
        (1, 20, 18, 4)
    """

    def call(self, inputs):
        stride = self.strides[0]
        is_of_fcn = (
            tuple(self.strides) == (stride, stride)
            and tuple(self.kernel_size) == (2 * stride, 2 * stride)
            and self.padding == "valid"
            and self.output_padding is None
            and tuple(self.dilation_rate) == (1, 1)
            and not self.use_bias
            and self.activation is keras.activations.linear
        )
        if is_of_fcn:
            return backend.upsample(super().call, inputs, self.kernel, self.data_format)
        return super().call(inputs)
