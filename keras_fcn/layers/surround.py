"""The layer that joins what depends on the image with the border around it."""

import keras
from keras import ops

from keras_fcn.backends import backend


@keras.saving.register_keras_serializable(package="keras_fcn")
class Surround(keras.layers.Layer):
    """Puts the part of a feature map that depends on the image into the part that does not.

    Far from the image, a map of the padded image is that of an empty one: the same value
    everywhere but near the outer edges. So the convolutions see the image's surroundings alone,
    and one small empty image for the whole batch; this layer joins the two.

    All positions are those in the map of the whole padded image, whose first row is 0.

    Args:
        input_padding: Pixels of zeros around the image.
        stride: Pixels of the image per pixel of the map.
        reach: How many pixels of the padding around the image the image has an influence on.
        origin: Position of the window's first row and column.
        margin: Rows and columns wanted around those that the image has an influence on, and one
            more at the start where its position would be odd; `None` for the whole map.
        data_format: `"channels_last"` or `"channels_first"`; Keras's default if `None`.

    Input shape:
        A list of three: the window, (batch, height, width, channels), right wherever the image has
        an influence; the map of an `EmptyBorder`, (1, border_height, border_width, channels); and
        the image without its padding, of which only the size is used.

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
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.input_padding = input_padding
        self.stride = stride
        self.reach = reach
        self.origin = origin
        self.margin = margin
        self.data_format = data_format or keras.config.image_data_format()

    @property
    def start(self) -> int:
        """Position of the result's first row and column."""
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
            # From either edge on as in the border, and its middle in between.
            middle = border_size // 2
            index = ops.arange(self.start, self._stop(image_size), dtype="int32")
            # The minimum of index and middle, by a maximum with a constant: torch.export takes no
            # unknown size for a tensor.
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
        """Returns the position behind the result's last row or column."""
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
