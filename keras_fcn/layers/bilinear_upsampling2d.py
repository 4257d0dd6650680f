"""Bilinear upsampling of images of any size."""

from typing import Any

import keras
from keras import ops

from keras_fcn.arguments import integers


@keras.saving.register_keras_serializable(package="keras_fcn")
class BilinearUpSampling2D(keras.layers.UpSampling2D):
    """`keras.layers.UpSampling2D(size, interpolation="bilinear")` for images of unknown size.

    Keras's layer compares the size with 0, which fails in a TensorFlow graph of unknown height or
    width. This one interpolates along one axis after the other: each output pixel lies between an
    input pixel and its neighbour, which at the edge is the pixel itself.

    Args:
        size: Whole factor of height and width, or one for each.
        data_format: As in Keras.
        **kwargs: Further arguments of `keras.layers.Layer`.

    Input shape:
        (batch, height, width, channels), or channels first.

    Output shape:
        (batch, height * size, width * size, channels), or channels first; of the layer's compute
        dtype, also for integers.

    Examples:
        >>> image = np.array([0.0, 4.0]).reshape(1, 1, 2, 1)
        >>> layer = BilinearUpSampling2D((1, 2), data_format="channels_last")
        >>> np.array(layer(image)).ravel().tolist()
        [0.0, 1.0, 3.0, 4.0]
    """

    def __init__(
        self, size: int | tuple[int, int] = 2, data_format: str | None = None, **kwargs: Any
    ):
        super().__init__(size, data_format, interpolation="bilinear", **kwargs)
        self.size = tuple(integers("size", self.size, least=1))  # type: ignore[has-type]

    def call(self, inputs):
        first = 1 if self.data_format == "channels_last" else 2
        rows = _upsample(ops.cast(inputs, self.compute_dtype), first, self.size[0])
        return _upsample(rows, first + 1, self.size[1])

    def get_config(self):
        config = super().get_config()
        del config["interpolation"]
        return config


def _upsample(x, axis, factor):
    if factor == 1:
        return x
    before = [slice(None)] * axis
    first, last = x[(*before, slice(None, 1))], x[(*before, slice(-1, None))]
    # Slices of the enlarged map, as those of a single pixel would be empty: ONNX Runtime and
    # OpenVINO fail where the transposition of an empty map of one channel became a reshape.
    enlarged = ops.concatenate([first, x, last], axis)
    previous, following = enlarged[(*before, slice(None, -2))], enlarged[(*before, slice(2, None))]
    pixels = []
    for index in range(factor):
        # Distance to the centre of the input pixel, in its width.
        offset = (index + 0.5) / factor - 0.5
        neighbour = previous if offset < 0 else following
        pixels.append((1 - abs(offset)) * x + abs(offset) * neighbour)
    shape = list(ops.shape(x))
    shape[axis] = shape[axis] * factor
    return ops.reshape(ops.stack(pixels, axis + 1), shape)
