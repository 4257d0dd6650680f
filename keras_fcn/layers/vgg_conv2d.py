"""The convolutions of VGG-16's blocks."""

import functools

import keras
from keras import ops

from keras_fcn.distribution.devices import (
    is_jax_with_gpu,
    is_jax_without_gpu,
    is_one_cpu_of_jax,
    is_tensorflow_without_gpu,
)

# Channels of a part on TensorFlow, few enough for their kernel to stay in a core's cache, and the
# number of parts from which on their sums pay.
_PART = 64
_LEAST_PARTS = 4
# Positions that JAX takes at once, in whole rows, and the rows at least: few enough for the patches
# to stay in the cache, and enough for small images to need no loop, which takes time to compile.
_POSITIONS = 1024
_LEAST_ROWS = 4
# Channels of an image, at most.
_FEW_CHANNELS = 4


@keras.saving.register_keras_serializable(package="keras_fcn")
class VGGConv2D(keras.layers.Conv2D):
    """`keras.layers.Conv2D` of stride 1 that takes less time; equal to it, to rounding.

    On TensorFlow, the kernel of 512 channels does not stay in the cache, and eight convolutions of
    64 channels and their sum take less time than one. On JAX, XLA finds the gradient of a kernel by
    a convolution with a kernel as large as the image, at a fraction of the speed of a matrix
    product; here it is a sum of matrix products, of some rows of the image each. On several CPUs
    it is XLA's, which adds the devices' gradients up once, and so it is on GPUs, which have fast
    gradients of their own, but for the convolution of the image itself.

    Arguments, shapes and errors are those of `keras.layers.Conv2D`; `padding` is `"same"`, and the
    kernel square and odd.

    Examples:
        >>> tuple(VGGConv2D(64, 3, padding="same")(np.zeros((1, 9, 8, 3))).shape)
        (1, 9, 8, 64)
    """

    def convolution_op(self, inputs, kernel):
        convolve = super().convolution_op
        if self.data_format != "channels_last":
            return convolve(inputs, kernel)
        is_of_image = inputs.shape[-1] <= _FEW_CHANNELS
        if is_one_cpu_of_jax() or (is_of_image and is_jax_with_gpu()):
            return _jax_convolution()(inputs, ops.convert_to_tensor(kernel))
        parts = inputs.shape[-1] // _PART
        # In half precision the sums would be rounded as well.
        is_wide = parts >= _LEAST_PARTS and self.compute_dtype == "float32"
        if not (is_wide and is_tensorflow_without_gpu()):
            return convolve(inputs, kernel)
        # Without a gradient of its own: TensorFlow would keep it, and the model, for good.
        pairs = zip(
            ops.split(inputs, parts, axis=-1), ops.split(kernel, parts, axis=2), strict=True
        )
        return functools.reduce(ops.add, (convolve(*pair) for pair in pairs))


@functools.cache
def _jax_convolution():
    import jax

    def convolution(inputs, kernel):
        return jax.lax.conv_general_dilated(
            inputs, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    def backward(arguments, gradient):
        inputs, kernel = arguments
        _, of_inputs = jax.vjp(lambda inputs: convolution(inputs, kernel), inputs)
        return *of_inputs(gradient), _jax_kernel_gradient(inputs, kernel, gradient)

    with_gradient = jax.custom_vjp(convolution)
    with_gradient.defvjp(lambda *arguments: (convolution(*arguments), arguments), backward)
    return with_gradient


def _jax_kernel_gradient(inputs, kernel, gradient):
    """Returns the sum over all positions of patch times gradient, in the kernel's shape."""
    import jax
    from jax import numpy as jnp

    size, _, channels, filters = kernel.shape
    height, width = gradient.shape[1:3]
    # A size that is unknown, as in an export, is taken as a whole.
    rows, steps = height, 1
    if is_jax_without_gpu() and isinstance(height, int) and isinstance(width, int):
        rows = min(height, max(_LEAST_ROWS, -(-_POSITIONS // width)))
        steps = -(-height // rows)
    below, border = steps * rows - height, size // 2
    inputs = jnp.pad(inputs, ((0, 0), (border, border + below), (border, border), (0, 0)))
    gradient = jnp.pad(gradient, ((0, 0), (0, below), (0, 0), (0, 0)))

    def add_band(step, total):
        start = step * rows
        band = jax.lax.dynamic_slice_in_dim(inputs, start, rows + size - 1, axis=1)
        windows = [
            band[:, row : row + rows, column : column + width]
            for row in range(size)
            for column in range(size)
        ]
        patches = jnp.concatenate(windows, axis=-1).reshape(-1, size * size * channels)
        gradients = jax.lax.dynamic_slice_in_dim(gradient, start, rows, axis=1)
        return total + jnp.matmul(
            gradients.reshape(-1, filters).T, patches, preferred_element_type="float32"
        )

    total = jnp.zeros((filters, size * size * channels), "float32")
    total = add_band(0, total) if steps == 1 else jax.lax.fori_loop(0, steps, add_band, total)
    return total.T.reshape(kernel.shape).astype(kernel.dtype)
