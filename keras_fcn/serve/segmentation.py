"""The model of a server, and what it predicts for the image of a request."""

import dataclasses

import numpy as np
from PIL import Image
from starlette.exceptions import HTTPException

from keras_fcn.inference import predict
from keras_fcn.label_spaces import LabelSpace
from keras_fcn.models.base import BaseFCN
from keras_fcn.models.prediction_memory import check_prediction_memory


@dataclasses.dataclass(frozen=True)
class Segmentation:
    """What the model predicts for an image.

    Args:
        image: (height, width, channels), uint8.
        label_map: Class ids, (height, width), int32.
        confidence: Probability of the predicted class, (height, width), float32.
        predicted_size: (height, width) at which the image was predicted.
    """

    image: np.ndarray
    label_map: np.ndarray
    confidence: np.ndarray
    predicted_size: tuple[int, int]


@dataclasses.dataclass(frozen=True)
class ServedModel:
    """The model of a server.

    Args:
        name: What the page calls it.
        model: The model.
        label_space: The `LabelSpace` of its classes.
        scales: See `keras_fcn.inference.predict`.
        flip: See `keras_fcn.inference.predict`.
        max_side: The longest side in pixels at which images are predicted; `None` for any.
        license: License of the weights, if it is known.
        sources: URLs of the license.

    Raises:
        ValueError: If `max_side` is less than 1.
    """

    name: str
    model: BaseFCN
    label_space: LabelSpace
    scales: tuple[float, ...] = (1.0,)
    flip: bool = False
    max_side: int | None = None
    license: str | None = None
    sources: tuple[str, ...] = ()

    def __post_init__(self):
        if self.max_side is not None and self.max_side < 1:
            raise ValueError(
                f"`max_side` (--max-side) must be at least 1. Received: max_side={self.max_side}."
            )

    def segment(self, image: np.ndarray, max_side: int | None = None) -> Segmentation:
        """Predicts an image; a larger one than `max_side` in a smaller copy.

        The label map and the confidence of a copy are enlarged by nearest neighbour.

        Args:
            image: (height, width, channels), uint8.
            max_side: The longest side in pixels of the copy that is predicted. The smaller of this
                and the model's own counts.

        Raises:
            HTTPException: 413 if the prediction does not fit in the free memory.
        """
        size = image.shape[:2]
        sides = [side for side in (max_side, self.max_side) if side is not None]
        copy = _with_side(image, min([*sides, max(size)]))
        try:
            check_prediction_memory(self.model, *copy.shape[:2], scale=max(self.scales))
        except ValueError as error:
            raise HTTPException(413, str(error)) from None
        prediction = predict(self.model, copy, scales=self.scales, flip=self.flip)
        return Segmentation(
            image,
            _enlarged(prediction.label_map, size),
            _enlarged(prediction.confidence, size),
            copy.shape[:2],
        )


def _with_side(image, side):
    """Returns a copy of the image whose longer side is `side`, or the image if it is that long."""
    height, width = image.shape[:2]
    if side == max(height, width):
        return image
    scale = side / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    # Channel by channel, since Pillow would take a fourth channel for an alpha channel.
    channels = (Image.fromarray(channel) for channel in np.moveaxis(image, -1, 0))
    return np.dstack([channel.resize(size, Image.Resampling.LANCZOS) for channel in channels])


def _enlarged(values, size):
    """Returns the array at a size (height, width), by nearest neighbour."""
    if values.shape == size:
        return values
    rows, columns = (
        ((np.arange(length) + 0.5) * known / length).astype(int)
        for length, known in zip(size, values.shape, strict=True)
    )
    return values[rows[:, None], columns]
