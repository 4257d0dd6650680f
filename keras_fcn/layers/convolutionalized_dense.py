"""A classifier's fully connected layer, applied as a sliding window (convolutionalized)."""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from keras_fcn.arguments import integer
from keras_fcn.backends import backend
from keras_fcn.layers.data_format import checked_data_format


@keras.saving.register_keras_serializable(package="keras_fcn")
class ConvolutionalizedDense(keras.layers.Layer):
    """`Conv2D` of stride 1, computed as one matrix multiplication over image patches (im2col).

    Equal to a `keras.layers.Conv2D` with the same weights, up to rounding. fc6 of VGG-16 has a
    kernel of 411 MB and few output positions: a convolution spends most of its time converting the
    kernel to its own memory layout, a matrix multiplication reads it as stored. Section 3.1 of the
    paper.

    Args:
        units: Number of output channels.
        kernel_size: Kernel height and width in pixels; odd if `padding` is `"same"`.
        padding: `"valid"`, or `"same"` for zero padding.
        activation: As in `keras.layers.Dense`.
        kernel_initializer: As in `keras.layers.Dense`.
        bias_initializer: As in `keras.layers.Dense`.
        data_format: `"channels_last"` or `"channels_first"`; Keras's default if `None`.

    Input shape:
        (batch, height, width, channels).

    Output shape:
        (batch, height', width', units), smaller by `kernel_size - 1` if `"valid"`.

    Raises:
        ValueError: If `units` or `kernel_size` is not positive, `kernel_size` even with
            `padding="same"`, `padding` unknown, or the input smaller than the kernel.

    Examples:
        >>> tuple(ConvolutionalizedDense(16, kernel_size=7)(np.zeros((1, 9, 8, 4))).shape)
        (1, 3, 2, 16)

    References:
        - [Long et al., 2015](https://arxiv.org/abs/1411.4038)
    """

    def __init__(
        self,
        units: int,
        kernel_size: int,
        padding: str = "valid",
        activation: str | Callable | None = None,
        kernel_initializer: str | keras.initializers.Initializer = "glorot_uniform",
        bias_initializer: str | keras.initializers.Initializer = "zeros",
        data_format: str | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.units = integer("units", units, least=1)
        if padding not in ("valid", "same"):
            raise ValueError(f"`padding` must be 'valid' or 'same'. Received: {padding=}.")
        self.kernel_size = integer("kernel_size", kernel_size, least=1)
        if padding == "same" and self.kernel_size % 2 == 0:
            raise ValueError(
                "`kernel_size` must be odd for padding='same'. "
                f"Received: {kernel_size=}, {padding=}."
            )
        self.padding = padding
        self.activation = keras.activations.get(activation)
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.data_format = checked_data_format(data_format)

    def build(self, input_shape):
        channels = input_shape[-1 if self.data_format == "channels_last" else 1]
        self.kernel = self.add_weight(
            name="kernel",
            shape=(self.kernel_size, self.kernel_size, channels, self.units),
            initializer=backend.initializer(self.kernel_initializer),
        )
        self.bias = self.add_weight(
            name="bias",
            shape=(self.units,),
            initializer=backend.initializer(self.bias_initializer),
        )

    def call(self, inputs):
        self.compute_output_shape(inputs.shape)
        channels_first = self.data_format == "channels_first"
        x = ops.transpose(inputs, (0, 2, 3, 1)) if channels_first else inputs
        if self.padding == "same" and self.kernel_size > 1:
            border = (self.kernel_size // 2, self.kernel_size // 2)
            x = ops.pad(x, ((0, 0), border, border, (0, 0)))
        x = ops.matmul(self._patches(x), ops.reshape(self.kernel, (-1, self.units)))
        x = self.activation(ops.add(x, self.bias))
        return ops.transpose(x, (0, 3, 1, 2)) if channels_first else x

    def compute_output_shape(self, input_shape):
        first = 1 if self.data_format == "channels_last" else 2
        shape = list(input_shape)
        for axis in (first, first + 1):
            if self.padding == "valid" and shape[axis] is not None:
                shape[axis] -= self.kernel_size - 1
                if shape[axis] < 1:
                    raise ValueError(
                        f"The input of layer {self.name!r} must be at least {self.kernel_size} "
                        f"pixels high and wide. Received: input shape {tuple(input_shape)}."
                    )
        shape[-1 if first == 1 else 1] = self.units
        return tuple(shape)

    def get_config(self):
        return {
            **super().get_config(),
            "units": self.units,
            "kernel_size": self.kernel_size,
            "padding": self.padding,
            "activation": keras.activations.serialize(self.activation),
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
            "data_format": self.data_format,
        }

    def _patches(self, x):
        """(batch, height, width, channels) -> (batch, height', width', size * size * channels)."""
        size = self.kernel_size
        if size == 1:
            return x

        def window(start):
            return slice(start, start - size + 1 or None)

        return ops.concatenate(
            [x[:, window(row), window(column), :] for row in range(size) for column in range(size)],
            axis=-1,
        )
