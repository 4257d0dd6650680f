"""Features of the examples of every builder."""

from typing import Any

import tensorflow_datasets as tfds


def label_map_feature() -> tfds.features.Image:
    """Returns the feature of a label map, (height, width, 1), uint8."""
    return tfds.features.Image(shape=(None, None, 1), encoding_format="png")


def segmentation_features(image_format: str, **more: Any) -> tfds.features.FeaturesDict:
    """Returns the features `image`, `label_map` and `file_name`, and further ones.

    Args:
        image_format: "jpeg" or "png": the format of the image files, which are stored unchanged.
        **more: Further features by name.
    """
    return tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(shape=(None, None, 3), encoding_format=image_format),
            "label_map": label_map_feature(),
            "file_name": tfds.features.Text(),
            **more,
        }
    )
