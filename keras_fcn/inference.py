"""From an image of any size to its label map."""

import keras
import numpy as np


def predict_label_map(model: keras.Model, image: np.ndarray) -> np.ndarray:
    """Predicts the class of every pixel of an image.

    Args:
        model: An FCN; see `keras_fcn.models.fcn`.
        image: RGB in [0, 255], (height, width, 3), in the layout that files have.

    Returns:
        Class ids, (height, width), int32.

    Raises:
        ValueError: If `image` does not have three axes.

    Examples:
        >>> predict_label_map(FCN8s(2, fc_units=4), np.zeros((5, 9, 3), "uint8")).shape
        (5, 9)
    """
    image = np.asarray(image)
    if image.ndim != 3:
        raise ValueError(
            f"`image` must be (height, width, channels). Received: image.shape={image.shape}."
        )
    if model.data_format == "channels_first":
        image = image.transpose(2, 0, 1)
    return predict_label_maps(model, image[None])[0]


def predict_label_maps(model: keras.Model, images: np.ndarray) -> np.ndarray:
    """Predicts the class of every pixel of a batch in the model's data format.

    Returns:
        Class ids, (batch, height, width), int32.
    """
    logits = keras.ops.convert_to_numpy(model.predict_on_batch(images))
    class_axis = 1 if model.data_format == "channels_first" else -1
    return logits.argmax(axis=class_axis).astype("int32")
