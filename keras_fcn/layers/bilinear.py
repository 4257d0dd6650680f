"""The bilinear kernel of a transposed convolution."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_fcn.arguments import integers, wrong


@keras.saving.register_keras_serializable(package="keras_fcn")
class Bilinear(keras.initializers.Initializer):
    """Bilinear interpolation kernel of a `Conv2DTranspose` of stride s and kernel size 2s.

    Every class is upsampled independently: the interpolation weights are on the channel diagonal
    of the kernel, zeros elsewhere. Section 3.3 of the paper.

    Output shape:
        (size, size, channels, channels), the shape that the layer requests.

    Raises:
        ValueError: If the kernel is not square or its two channel counts differ.

    Examples:
        >>> np.array(Bilinear()((4, 4, 1, 1)))[0, :, 0, 0].tolist()
        [0.0625, 0.1875, 0.1875, 0.0625]

    References:
        - [Long et al., 2015](https://arxiv.org/abs/1411.4038)
    """

    def __call__(self, shape: Sequence[int], dtype: str | None = None) -> Any:
        sizes = integers("shape", shape, least=1)
        if len(sizes) != 4 or sizes[0] != sizes[1] or sizes[2] != sizes[3]:
            rule = "(size, size, channels, channels) for a bilinear kernel"
            raise wrong("shape", rule, tuple(shape))
        height, _, outputs, _ = sizes
        kernel = np.zeros(shape, "float32")
        diagonal = np.arange(outputs)
        kernel[:, :, diagonal, diagonal] = _bilinear_weights(height)[:, :, None]
        return keras.ops.convert_to_tensor(kernel, dtype=dtype or keras.config.floatx())


def _bilinear_weights(size):
    factor = (size + 1) // 2
    centre = factor - 1 if size % 2 else factor - 0.5
    weights = 1 - np.abs(np.arange(size) - centre) / factor
    return np.outer(weights, weights)
