"""The preprocessing of VGG-16: BGR channel order and mean subtraction."""

from typing import Any

import keras

from keras_fcn.arguments import boolean, finite_numbers
from keras_fcn.layers.data_format import checked_data_format

PASCAL_VOC_MEAN = (104.00699, 116.66877, 122.67892)


def default_mean(channels: int | None) -> tuple[float, ...]:
    """Returns PASCAL VOC's mean for images of a number of channels, as in `VGGPreprocessing`.

    For three channels it is (blue, green, red). Other images get the means of red, green and blue
    in turn; those of one channel their mean.
    """
    if channels == 3 or channels is None:
        return PASCAL_VOC_MEAN
    if channels == 1:
        return (sum(PASCAL_VOC_MEAN) / 3,)
    return tuple(PASCAL_VOC_MEAN[2 - channel % 3] for channel in range(channels))


@keras.saving.register_keras_serializable(package="keras_fcn")
class VGGPreprocessing(keras.layers.Layer):
    """Converts RGB in [0, 255] to BGR and subtracts the mean colour, as in Caffe's VGG-16.

    Images of another number of channels than three keep their order.

    Computed in float32 under every dtype policy, so that mixed precision rounds only once, at the
    end.

    Args:
        mean: Mean (blue, green, red) in [0, 255], PASCAL VOC's by default; for another number of
            channels, their means in the image's order.
        data_format: `"channels_last"` or `"channels_first"`; Keras's default if `None`.
        reverse_channels: Whether images of three channels are RGB and become BGR.

    Input shape:
        (batch, height, width, channels), RGB in [0, 255], of any dtype.

    Output shape:
        The same, BGR, in the compute dtype.

    Raises:
        ValueError: If `mean` is empty, not finite, or not of one value per channel.

    Examples:
        >>> np.array(VGGPreprocessing(mean=(1, 2, 3))(np.array([[[[30, 20, 10]]]]))).tolist()
        [[[[9.0, 18.0, 27.0]]]]
    """

    def __init__(
        self,
        mean: tuple[float, ...] = PASCAL_VOC_MEAN,
        data_format: str | None = None,
        reverse_channels: bool = True,
        **kwargs: Any,
    ):
        super().__init__(autocast=False, **kwargs)
        self.mean = tuple(finite_numbers("mean", mean))
        if not self.mean:
            raise ValueError(f"`mean` must have one value per channel. Received: {mean=}.")
        self.data_format = checked_data_format(data_format)
        self.reverse_channels = boolean("reverse_channels", reverse_channels)

    def call(self, inputs):
        channel_axis = -1 if self.data_format == "channels_last" else 1
        if inputs.shape[channel_axis] not in (None, len(self.mean)):  # Broadcasting would add some.
            raise ValueError(
                f"The images must have the {len(self.mean)} channels of mean={self.mean}. "
                f"Received: shape {tuple(inputs.shape)}."
            )
        mean = keras.ops.reshape(
            keras.ops.convert_to_tensor(self.mean, "float32"),
            (-1,) if channel_axis == -1 else (-1, 1, 1),
        )
        x = keras.ops.cast(inputs, "float32")
        if len(self.mean) == 3 and self.reverse_channels:
            x = keras.ops.flip(x, axis=channel_axis)
        return keras.ops.cast(x - mean, self.compute_dtype)

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        return {
            **super().get_config(),
            "mean": list(self.mean),
            "data_format": self.data_format,
            "reverse_channels": self.reverse_channels,
        }
