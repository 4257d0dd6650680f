"""Checks the data format of a layer."""

from typing import Any

import keras

from keras_fcn.arguments import DATA_FORMATS, one_of


def checked_data_format(data_format: Any) -> str:
    """Returns a data format, or Keras's default for `None`.

    Raises:
        ValueError: If it is neither `"channels_last"` nor `"channels_first"`.
    """
    if data_format is None:
        return keras.config.image_data_format()
    return one_of("data_format", data_format, DATA_FORMATS)
