"""The layer that aligns two feature maps of different size by cropping one."""

from typing import Any

import keras

from keras_fcn.arguments import integer
from keras_fcn.layers.data_format import checked_data_format


@keras.saving.register_keras_serializable(package="keras_fcn")
class CropToReference(keras.layers.Layer):
    """Crops a feature map to the height and width of a reference, starting at a given offset.

    The crop window starts `offset` pixels from the top and left and has the reference's size,
    which may differ from batch to batch. It is clipped at the end of the feature map. The values
    of the reference are not used.

    Args:
        offset: Pixels cropped at the top and at the left; see `keras_fcn.alignment`.
        data_format: `"channels_last"` or `"channels_first"`; Keras's default if `None`.

    Input shape:
        A list of two, (batch, height, width, channels) and the reference
        (batch, reference_height, reference_width, any).

    Output shape:
        (batch, reference_height, reference_width, channels).

    Raises:
        ValueError: If `offset` is negative, or not inside the feature map.

    Examples:
        >>> skip, upsampled = np.zeros((1, 34, 34, 21)), np.zeros((1, 18, 18, 21))
        >>> tuple(CropToReference(5)([skip, upsampled]).shape)
        (1, 18, 18, 21)
    """

    def __init__(self, offset: int, data_format: str | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        self.offset = integer("offset", offset, least=0)
        self.data_format = checked_data_format(data_format)

    def call(self, inputs):
        feature_map, reference = inputs
        self._check_size(feature_map.shape)
        first = self._first_spatial_axis
        height, width = keras.ops.shape(reference)[first : first + 2]
        rows = slice(self.offset, self.offset + height)
        columns = slice(self.offset, self.offset + width)
        if first == 1:
            return feature_map[:, rows, columns, :]
        return feature_map[:, :, rows, columns]

    def compute_output_shape(self, input_shape):
        feature_map, reference = input_shape
        self._check_size(feature_map)
        shape = list(feature_map)
        for axis in (self._first_spatial_axis, self._first_spatial_axis + 1):
            size, wanted = feature_map[axis], reference[axis]
            known = size is not None and wanted is not None
            shape[axis] = min(wanted, size - self.offset) if known else wanted
        return tuple(shape)

    def get_config(self):
        return {**super().get_config(), "offset": self.offset, "data_format": self.data_format}

    def _check_size(self, shape):
        # A symbolic size, as in an export, is no `int` and cannot be compared.
        sizes = shape[self._first_spatial_axis :][:2]
        if any(isinstance(size, int) and size <= self.offset for size in sizes):
            raise ValueError(
                f"The feature map of layer {self.name!r} must be larger than {self.offset} "
                f"pixels. Received: shape {tuple(shape)}."
            )

    @property
    def _first_spatial_axis(self):
        return 1 if self.data_format == "channels_last" else 2
