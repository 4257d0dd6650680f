"""The preprocessing of VGG-16: BGR channel order and mean subtraction."""

from typing import Any

import keras

PASCAL_VOC_MEAN = (104.00699, 116.66877, 122.67892)


@keras.saving.register_keras_serializable(package="keras_fcn")
class VGGPreprocessing(keras.layers.Layer):
    """Converts RGB in [0, 255] to BGR and subtracts the mean colour, as in Caffe's VGG-16.

    Computed in float32 under every dtype policy, so that mixed precision rounds only once, at the
    end.

    Args:
        mean: Mean (blue, green, red) in [0, 255]; PASCAL VOC's by default.
        data_format: `"channels_last"` or `"channels_first"`; Keras's default if `None`.

    Input shape:
        (batch, height, width, 3), RGB in [0, 255], of any dtype.

    Output shape:
        The same, BGR, in the compute dtype.

    Raises:
        ValueError: If `mean` does not have three values.

    Examples:
        >>> np.array(VGGPreprocessing(mean=(1, 2, 3))(np.array([[[[30, 20, 10]]]]))).tolist()
        [[[[9.0, 18.0, 27.0]]]]
    """

    def __init__(
        self,
        mean: tuple[float, float, float] = PASCAL_VOC_MEAN,
        data_format: str | None = None,
        **kwargs: Any,
    ):
        super().__init__(autocast=False, **kwargs)
        self.mean = tuple(float(value) for value in mean)
        if len(self.mean) != 3:
            raise ValueError(
                f"`mean` must have three values, blue, green and red. Received: mean={mean}."
            )
        self.data_format = data_format or keras.config.image_data_format()

    def call(self, inputs):
        channel_axis = -1 if self.data_format == "channels_last" else 1
        mean = keras.ops.reshape(
            keras.ops.convert_to_tensor(self.mean, "float32"),
            (3,) if channel_axis == -1 else (3, 1, 1),
        )
        bgr = keras.ops.flip(keras.ops.cast(inputs, "float32"), axis=channel_axis)
        return keras.ops.cast(bgr - mean, self.compute_dtype)

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        return {**super().get_config(), "mean": list(self.mean), "data_format": self.data_format}
