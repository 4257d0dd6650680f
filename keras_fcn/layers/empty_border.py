"""Zero padding around an image, as a small tensor separate from the image."""

from typing import Any

import keras
from keras import ops

from keras_fcn.arguments import integer
from keras_fcn.layers.data_format import checked_data_format


@keras.saving.register_keras_serializable(package="keras_fcn")
class EmptyBorder(keras.layers.Layer):
    """A small all-zero image whose feature maps have the same edges as those of the padded image.

    Feature maps of wide zero padding are constant along each edge. They depend on the image size
    only through the rounding of the pools at the lower and right edge, that is, through the padded
    size modulo the stride.

    Args:
        input_padding: Zero padding around the image, in pixels.
        stride: Largest output stride at which the edges are needed, a power of two.
        size: Height and width of the output without that remainder, a multiple of `stride`.
        data_format: `"channels_last"` or `"channels_first"`; Keras's default if `None`.

    Input shape:
        (batch, height, width, channels), the image without padding.

    Output shape:
        (1, size + remainder, size + remainder, channels), zeros.

    Examples:
        >>> tuple(EmptyBorder(input_padding=99, stride=8, size=64)(np.ones((2, 3, 10, 3))).shape)
        (1, 65, 64, 3)
    """

    def __init__(
        self,
        input_padding: int,
        stride: int,
        size: int,
        data_format: str | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.input_padding = integer("input_padding", input_padding, least=0)
        self.stride = integer("stride", stride, least=1)
        self.size = integer("size", size, least=1)
        self.data_format = checked_data_format(data_format)

    def call(self, inputs):
        return ops.zeros(self._shape(ops.shape(inputs)), dtype=self.compute_dtype)

    def compute_output_shape(self, input_shape):
        return self._shape(input_shape)

    def get_config(self):
        return {
            **super().get_config(),
            "input_padding": self.input_padding,
            "stride": self.stride,
            "size": self.size,
            "data_format": self.data_format,
        }

    def _shape(self, image_shape):
        shape = [1, *image_shape[1:]]
        first = 1 if self.data_format == "channels_last" else 2
        for axis in (first, first + 1):
            if shape[axis] is not None:
                shape[axis] = self.size + (shape[axis] + 2 * self.input_padding) % self.stride
        return tuple(shape)
