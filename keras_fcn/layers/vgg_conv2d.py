"""The convolutions of VGG-16's blocks."""

import keras

from keras_fcn.backends import backend


@keras.saving.register_keras_serializable(package="keras_fcn")
class VGGConv2D(keras.layers.Conv2D):
    """`keras.layers.Conv2D` with a faster kernel; equal to it up to rounding.

    Each backend selects the kernel, see `keras_fcn.backends`. Arguments, shapes and errors are
    those of `keras.layers.Conv2D`. Only a convolution as in VGG-16 is faster: stride 1, padding
    `"same"`, and a square kernel of odd size.

    Examples:
        >>> tuple(VGGConv2D(64, 3, padding="same")(np.zeros((1, 9, 8, 3))).shape)
        (1, 9, 8, 64)
    """

    def add_weight(self, *, initializer, **kwargs):
        return super().add_weight(initializer=backend.initializer(initializer), **kwargs)

    @property
    def _is_of_vgg(self):
        size = self.kernel_size[0]
        return (
            self.padding == "same"
            and tuple(self.kernel_size) == (size, size)
            and size % 2 == 1
            and tuple(self.strides) == tuple(self.dilation_rate) == (1, 1)
            and self.groups == 1
        )

    def call(self, inputs):
        if not self._is_of_vgg:
            return super().call(inputs)
        return backend.convolution_layer(super().call, self, inputs)

    def convolution_op(self, inputs, kernel):
        if not self._is_of_vgg:
            return super().convolution_op(inputs, kernel)
        return backend.convolve(
            super().convolution_op, inputs, kernel, self.data_format, self.compute_dtype
        )
