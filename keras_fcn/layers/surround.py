"""The layer that merges feature maps of the image region with feature maps of its zero padding."""

from typing import Any

import keras
from keras import ops

from keras_fcn.arguments import integer, optional_integer
from keras_fcn.backends import backend
from keras_fcn.layers.data_format import checked_data_format


@keras.saving.register_keras_serializable(package="keras_fcn")
class Surround(keras.layers.Layer):
    """Inserts the image-dependent part of a feature map into its constant, image-independent part.

    Pixels whose receptive field lies in the padding alone have the values of an all-zero image:
    constant except near the outer edges. So the convolutions process only a window around the
    image and, once per batch, one small all-zero image. This layer merges the two.

    Positions are rows and columns of the feature map of the whole padded image, from 0.

    Args:
        input_padding: Zero padding around the image, in pixels.
        stride: Output stride of the feature map: image pixels per pixel of the map.
        reach: Pixels of padding, counted from the image, whose features have the image in their
            receptive field.
        origin: Position of the window's first row and column.
        margin: Rows and columns kept around the image-dependent part, plus one more at the start
            where the position would be odd; `None` for the whole map.
        data_format: `"channels_last"` or `"channels_first"`; Keras's default if `None`.

    Input shape:
        A list of three: the window, (batch, height, width, channels), correct wherever the map
        depends on the image; the feature map of an `EmptyBorder`, (1, border_height, border_width,
        channels); and the image without padding, of which only the size is used.

    Output shape:
        (batch, new_height, new_width, channels).
    """

    def __init__(
        self,
        input_padding: int,
        stride: int,
        reach: int,
        origin: int,
        margin: int | None = None,
        data_format: str | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.input_padding = integer("input_padding", input_padding, least=0)
        self.stride = integer("stride", stride, least=1)
        self.reach = integer("reach", reach)
        self.origin = integer("origin", origin)
        self.margin = optional_integer("margin", margin)
        self.data_format = checked_data_format(data_format)

    @property
    def start(self) -> int:
        """Position of the output's first row and column."""
        return 0 if self.margin is None else (self._influence_start - self.margin) // 2 * 2

    def call(self, inputs):
        window, border, image = inputs
        first = _first_spatial_axis(self)
        batch = ops.shape(window)[0]
        inner, positions = [slice(None)] * 4, {}
        for axis in (first, first + 1):
            image_size, border_size = ops.shape(image)[axis], ops.shape(border)[axis]
            end = self._influence_end(image_size)
            inner[axis] = slice(self._influence_start - self.origin, end - self.origin)
            length = self._length(image_size)
            # Near either edge the border's own rows, between them its middle row repeated.
            middle = border_size // 2
            index = ops.arange(self.start, self._stop(image_size), dtype="int32")
            # The minimum of index and middle, written as a maximum with a constant: torch.export
            # accepts no symbolic size where a tensor is expected.
            index = (middle - ops.maximum(middle - index, 0)) + ops.maximum(
                index - (length - border_size + middle), 0
            )
            before = self._influence_start - self.start
            positions[axis] = (
                index[:before],
                index[before : end - self.start],
                index[end - self.start :],
            )

        def part(rows, columns):
            values = backend.take(backend.take(border, rows, axis=first), columns, axis=first + 1)
            return ops.broadcast_to(values, (batch, *ops.shape(values)[1:]))

        (top, middle_rows, bottom), (left, _, right) = positions[first], positions[first + 1]
        every_column = ops.concatenate(positions[first + 1])
        row = [part(middle_rows, left), window[tuple(inner)], part(middle_rows, right)]
        rows = [part(top, every_column), ops.concatenate(row, axis=first + 1)]
        return ops.concatenate([*rows, part(bottom, every_column)], axis=first)

    def compute_output_shape(self, input_shape):
        window, _, image = input_shape
        shape = list(window)
        first = _first_spatial_axis(self)
        for axis in (first, first + 1):
            known = image[axis] is not None
            shape[axis] = self._stop(image[axis]) - self.start if known else None
        return tuple(shape)

    def get_config(self):
        return {
            **super().get_config(),
            "input_padding": self.input_padding,
            "stride": self.stride,
            "reach": self.reach,
            "origin": self.origin,
            "margin": self.margin,
            "data_format": self.data_format,
        }

    @property
    def _influence_start(self):
        return (self.input_padding - self.reach) // self.stride

    def _influence_end(self, image_size):
        return self._divided_up(self.input_padding + image_size + self.reach)

    def _stop(self, image_size):
        """Returns the position after the output's last row or column."""
        if self.margin is None:
            return self._length(image_size)
        return self._influence_end(image_size) + self.margin

    def _length(self, image_size):
        return self._divided_up(image_size + 2 * self.input_padding)

    def _divided_up(self, pixels):
        # Not -(-pixels // stride): ONNX and OpenVINO round the quotient of a negative size up.
        return (pixels + self.stride - 1) // self.stride


def _first_spatial_axis(layer):
    return 1 if layer.data_format == "channels_last" else 2
