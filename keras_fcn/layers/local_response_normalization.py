"""AlexNet's local response normalization."""

from typing import Any

import keras
from keras import ops

from keras_fcn.arguments import integer, number
from keras_fcn.layers.data_format import checked_data_format


@keras.saving.register_keras_serializable(package="keras_fcn")
class LocalResponseNormalization(keras.layers.Layer):
    """Divides each value by a power of the mean square of the channels around its own.

    y = x / (1 + alpha * m) ** beta, where m is the sum of squares over `size` channels, divided by
    `size`; channels beyond the first and the last count as 0. As in Caffe's LRN layer.

    Args:
        size: Number of channels, odd.
        alpha: Factor of the mean square.
        beta: Exponent.
        data_format: `"channels_last"` or `"channels_first"`; Keras's default if `None`.

    Input shape:
        (batch, height, width, channels).

    Output shape:
        The same.

    Raises:
        ValueError: If `size` is not odd and positive.

    Examples:
        >>> layer = LocalResponseNormalization(size=3, alpha=3.0, beta=1.0)
        >>> np.array(layer(np.array([[[[1.0, 0.0, 1.0]]]]))).tolist()
        [[[[0.5, 0.0, 0.5]]]]

    References:
        - [Krizhevsky et al., 2012](https://papers.nips.cc/paper/4824), section 3.3
    """

    def __init__(
        self,
        size: int = 5,
        alpha: float = 1e-4,
        beta: float = 0.75,
        data_format: str | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.size = integer("size", size, least=1)
        if self.size % 2 == 0:
            raise ValueError(f"`size` must be a positive odd integer. Received: {size=}.")
        self.alpha, self.beta = number("alpha", alpha), number("beta", beta)
        self.data_format = checked_data_format(data_format)

    def call(self, inputs):
        axis = 3 if self.data_format == "channels_last" else 1
        channels = inputs.shape[axis]
        if self.compute_dtype == "float16":  # The square of 256 is infinite.
            inputs = ops.cast(inputs, "float32")
        border = [(0, 0)] * 4
        border[axis] = (self.size // 2, self.size // 2)
        squares = ops.pad(ops.square(inputs), border)
        window = [slice(None)] * 4
        total = 0.0
        for first in range(self.size):
            window[axis] = slice(first, first + channels)
            total = total + squares[tuple(window)]
        outputs = inputs / (1.0 + self.alpha / self.size * total) ** self.beta
        return ops.cast(outputs, self.compute_dtype)

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        return {
            **super().get_config(),
            "size": self.size,
            "alpha": self.alpha,
            "beta": self.beta,
            "data_format": self.data_format,
        }
