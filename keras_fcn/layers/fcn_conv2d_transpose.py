"""The transposed convolutions that upsample scores."""

import keras
from keras import ops

from keras_fcn.distribution.devices import is_jax_without_gpu


@keras.saving.register_keras_serializable(package="keras_fcn")
class FCNConv2DTranspose(keras.layers.Conv2DTranspose):
    """`keras.layers.Conv2DTranspose` that takes less time on JAX's CPU; equal to it, to rounding.

    XLA puts the zeros of the stride between the pixels and multiplies by them, too: of a stride of
    32, by 1023 zeros for every pixel. A kernel twice as wide as its stride lets every output see
    2x2 pixels. Here those are one row of a matrix product, whose result is the outputs between
    them.

    Arguments, shapes and errors are those of `keras.layers.Conv2DTranspose`.

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
            and self.data_format == "channels_last"
            and not self.use_bias
            and self.activation is keras.activations.linear
        )
        if is_of_fcn and is_jax_without_gpu():
            return _jax_upsampled(inputs, ops.convert_to_tensor(self.kernel), stride)
        return super().call(inputs)


def _jax_upsampled(x, kernel, stride):
    batch, height, width, channels = ops.shape(x)
    filters = kernel.shape[2]
    x = ops.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    rows, columns = height + 1, width + 1
    pixels = [x[:, i : i + rows, j : j + columns] for i in range(2) for j in range(2)]
    pixels = ops.concatenate(pixels, axis=-1)
    # The gradient of the matmul takes several times as long on XLA without this reshape. Exported
    # sizes are symbolic, and JAX cannot prove that rows * columns is at least 0.
    if isinstance(rows, int) and isinstance(columns, int):
        pixels = ops.reshape(pixels, (-1, 4 * channels))
    # The pixel before an output is the one whose kernel has come to its second half.
    kernel = ops.flip(ops.reshape(kernel, (2, stride, 2, stride, filters, channels)), (0, 2))
    kernel = ops.reshape(ops.transpose(kernel, (0, 2, 5, 1, 3, 4)), (4 * channels, -1))
    x = ops.reshape(ops.matmul(pixels, kernel), (batch, rows, columns, stride, stride, filters))
    x = ops.transpose(x, (0, 1, 3, 2, 4, 5))
    return ops.reshape(x, (batch, rows * stride, columns * stride, filters))
