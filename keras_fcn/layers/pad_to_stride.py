"""The layer that pads an image to a multiple of a stride."""

from typing import Any

import keras

from keras_fcn.arguments import integer
from keras_fcn.layers.data_format import checked_data_format


@keras.saving.register_keras_serializable(package="keras_fcn")
class PadToStride(keras.layers.Layer):
    """Pads an image with zeros, up to a height and width that are multiples of a stride.

    Args:
        stride: The stride in pixels.
        padding: Pixels of padding on every side at least.
        data_format: `"channels_last"` or `"channels_first"`; Keras's default if `None`.

    Input shape:
        (batch, height, width, channels).

    Output shape:
        (batch, new_height, new_width, channels).

    Raises:
        ValueError: If `stride` is no integer of at least 1, or `padding` none of at least 0.

    Examples:
        >>> tuple(PadToStride(32)(np.zeros((1, 33, 64, 3))).shape)
        (1, 64, 64, 3)
    """

    def __init__(
        self, stride: int, padding: int = 0, data_format: str | None = None, **kwargs: Any
    ):
        super().__init__(**kwargs)
        self.stride = integer("stride", stride, least=1)
        self.padding = integer("padding", padding, least=0)
        self.data_format = checked_data_format(data_format)

    def call(self, inputs):
        first = self._rows_axis
        pads = [(0, 0)] * 4
        # One more than ever needed, so that something is always cut off: an exported program of
        # PyTorch must not depend on whether the slice is the whole.
        pads[first] = pads[first + 1] = (self.padding, self.padding + self.stride)
        shape = keras.ops.shape(inputs)
        sizes = [slice(None)] * 4
        for axis in (first, first + 1):
            sizes[axis] = slice(0, self._padded(shape[axis]))
        return keras.ops.pad(inputs, pads)[tuple(sizes)]

    def compute_output_shape(self, input_shape):
        shape = list(input_shape)
        for axis in (self._rows_axis, self._rows_axis + 1):
            if shape[axis] is not None:
                shape[axis] = self._padded(shape[axis])
        return tuple(shape)

    def get_config(self):
        return {
            **super().get_config(),
            "stride": self.stride,
            "padding": self.padding,
            "data_format": self.data_format,
        }

    def _padded(self, size):
        return (size + 2 * self.padding + self.stride - 1) // self.stride * self.stride

    @property
    def _rows_axis(self):
        return 1 if self.data_format == "channels_last" else 2
