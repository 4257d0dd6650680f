"""The pools of VGG-16's blocks."""

import functools

import keras


@keras.saving.register_keras_serializable(package="keras_fcn")
class VGGMaxPooling2D(keras.layers.MaxPooling2D):
    """`keras.layers.MaxPooling2D` with a cheaper gradient on JAX; exact in exports from PyTorch.

    XLA carries four indices of four bytes along for every value and then scatters the gradients one
    by one. Here the maximum is compared with its window again. Of equal values the first one, row
    by row, gets the gradient, as from XLA.

    On PyTorch, Keras decides in Python from the size at hand whether to pad the last row and
    column. An export would keep that decision for every size; PyTorch's `ceil_mode` makes none.

    Arguments, shapes and errors are those of `keras.layers.MaxPooling2D`.

    Examples:
        >>> tuple(VGGMaxPooling2D(2, 2, padding="same")(np.zeros((1, 9, 8, 3))).shape)
        (1, 5, 4, 3)
    """

    def call(self, inputs):
        backend = keras.backend.backend()
        is_of_vgg = (
            tuple(self.pool_size) == tuple(self.strides) == (2, 2) and self.padding == "same"
        )
        if is_of_vgg and backend == "jax" and self.data_format == "channels_last":
            return _jax_pool()(inputs)
        if is_of_vgg and backend == "torch" and self.data_format == "channels_first":
            from torch.nn import functional

            return functional.max_pool2d(inputs, 2, ceil_mode=True)
        return super().call(inputs)


@functools.cache
def _jax_pool():
    import jax
    from jax import numpy as jnp

    def pool(inputs):
        window = (1, 2, 2, 1)
        return jax.lax.reduce_window(inputs, -jnp.inf, jax.lax.max, window, window, "SAME")

    def forward(inputs):
        maxima = pool(inputs)
        return maxima, (inputs, maxima)

    def backward(values, gradient):
        inputs, maxima = values
        batch, height, width, channels = inputs.shape
        rows, columns = maxima.shape[1:3]
        beyond = ((0, 0), (0, 2 * rows - height), (0, 2 * columns - width), (0, 0))
        windows = jnp.pad(inputs, beyond, constant_values=-jnp.inf)
        windows = windows.reshape(batch, rows, 2, columns, 2, channels)
        found = jnp.zeros(maxima.shape, bool)
        parts = []
        for row in range(2):
            for column in range(2):
                is_maximum = ~found & (windows[:, :, row, :, column] == maxima)
                found |= is_maximum
                parts.append(jnp.where(is_maximum, gradient, 0))
        parts = [jnp.stack(parts[:2], axis=3), jnp.stack(parts[2:], axis=3)]
        whole = jnp.stack(parts, axis=2).reshape(batch, 2 * rows, 2 * columns, channels)
        return (whole[:, :height, :width],)

    with_gradient = jax.custom_vjp(pool)
    with_gradient.defvjp(forward, backward)
    return with_gradient
