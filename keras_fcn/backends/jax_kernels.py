"""Convolutions, pools and upsampling with gradients that XLA computes faster than its own."""

import functools

import jax
from jax import numpy as jnp
from keras import ops

# Positions that a kernel's gradient takes at once, in whole rows, and the rows at least: few enough
# for the patches to stay in the cache, and enough for small images to need no loop, which takes
# time to compile.
_POSITIONS = 1024
_LEAST_ROWS = 4


@jax.custom_vjp
def convolution(inputs: jax.Array, kernel: jax.Array) -> jax.Array:
    """Returns the convolution of stride 1 and padding "same", channels last.

    XLA computes the gradient of the kernel as a convolution with a kernel as large as the image,
    at a fraction of the speed of a matrix product. Here it is a sum of matrix products, each over
    some rows of the image.
    """
    return _convolve(inputs, kernel)


def _convolve(inputs, kernel):
    return jax.lax.conv_general_dilated(
        inputs, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def _convolution_backward(arguments, gradient):
    inputs, kernel = arguments
    _, input_gradient = jax.vjp(lambda inputs: _convolve(inputs, kernel), inputs)
    return *input_gradient(gradient), _kernel_gradient(inputs, kernel, gradient)


convolution.defvjp(lambda *arguments: (_convolve(*arguments), arguments), _convolution_backward)


def _kernel_gradient(inputs, kernel, gradient):
    """Returns the sum over all positions of patch times gradient, in the kernel's shape."""
    size, _, channels, filters = kernel.shape
    height, width = gradient.shape[1:3]
    # A symbolic size, as in an export, is taken as a whole.
    rows, steps = height, 1
    if jax.default_backend() == "cpu" and isinstance(height, int) and isinstance(width, int):
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


@jax.custom_vjp
def max_pool(inputs: jax.Array) -> jax.Array:
    """Returns the maxima of 2x2 windows with stride 2 and padding "same", channels last.

    XLA stores four indices of four bytes for every value and scatters the gradients one by one.
    Here the maximum is compared with its window again. The first one of equal values, row by row,
    gets the gradient, as from XLA.
    """
    return _maxima(inputs)


def _maxima(inputs):
    window = (1, 2, 2, 1)
    return jax.lax.reduce_window(inputs, -jnp.inf, jax.lax.max, window, window, "SAME")


def _max_pool_forward(inputs):
    maxima = _maxima(inputs)
    return maxima, (inputs, maxima)


def _max_pool_backward(values, gradient):
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


max_pool.defvjp(_max_pool_forward, _max_pool_backward)


def upsample(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Returns the transposed convolution whose kernel is twice as wide as its stride.

    XLA puts the zeros of the stride between the pixels and multiplies by them: at stride 32, by
    1023 zeros for every pixel. With such a kernel every output sees 2x2 pixels. Here these are one
    row of a matrix product, whose result is the outputs between them.
    """
    stride = kernel.shape[0] // 2
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
    # The pixel before an output is the one whose kernel has reached its second half.
    kernel = ops.flip(ops.reshape(kernel, (2, stride, 2, stride, filters, channels)), (0, 2))
    kernel = ops.reshape(ops.transpose(kernel, (0, 2, 5, 1, 3, 4)), (4 * channels, -1))
    x = ops.reshape(ops.matmul(pixels, kernel), (batch, rows, columns, stride, stride, filters))
    x = ops.transpose(x, (0, 1, 3, 2, 4, 5))
    return ops.reshape(x, (batch, rows * stride, columns * stride, filters))


@functools.cache
def memory_options(rematerializes: bool) -> dict:
    """Returns XLA's options for functions on CPUs that hold less at a time.

    By default XLA schedules for concurrency, and copies every kernel at the beginning of a training
    step. Its memory scheduler hoists rematerialized ops. With gradient checkpointing the default
    scheduler does, once it keeps the optimization barriers, which XLA removes on CPUs to merge what
    is computed twice.

    Args:
        rematerializes: Whether the function uses gradient checkpointing.
    """
    options: dict[str, bool | str] = {"xla_cpu_copy_insertion_use_region_analysis": True}
    if rematerializes:
        options["xla_disable_hlo_passes"] = "cse_barrier_expander"
    else:
        options["xla_cpu_scheduler_type"] = "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED"
    try:
        jax.jit(lambda x: x, compiler_options=options).lower(0).compile()
    except jax.errors.JaxRuntimeError:  # A version that does not know it.
        return {}
    return options
