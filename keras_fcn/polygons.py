"""Regions of a label map as polygons, in GeoJSON."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_fcn.io.extras import check_installed
from keras_fcn.label_spaces import LabelSpace


def polygons(label_map: np.ndarray, label_space: LabelSpace) -> dict[str, Any]:
    """Returns the regions of each class as a GeoJSON FeatureCollection.

    A region is a set of pixels of one class that touch along edges. Its polygon follows the edges
    of the pixels, so that its area, holes taken off, is its number of pixels. Coordinates are in
    pixels: x to the right, y down, (0, 0) the upper left corner of the image. As RFC 7946 asks, the
    outer ring runs counterclockwise for a y axis that points up, and the holes run clockwise.

    Args:
        label_map: Class ids, (height, width). Other pixels, such as ignored ones, have no polygon.
        label_space: The `LabelSpace` of the classes.

    Returns:
        Dictionary to write as JSON. Each feature has the properties `class_id`, `class`, `colour`
        (#rrggbb) and `pixels`.

    Raises:
        ImportError: If rasterio is not installed.

    References:
        - [RFC 7946](https://www.rfc-editor.org/rfc/rfc7946)
    """
    check_rasterio()
    from rasterio.features import shapes

    label_map = np.asarray(label_map)
    is_class = (label_map >= 0) & (label_map < label_space.num_classes)
    regions = shapes(label_map.astype("int32"), mask=is_class, connectivity=4)
    features = [_feature(geometry, int(label), label_space) for geometry, label in regions]
    features.sort(key=lambda feature: feature["properties"]["class_id"])
    return {"type": "FeatureCollection", "features": features}


def check_rasterio() -> None:
    """Raises an ImportError if rasterio is not installed."""
    check_installed("large", ("rasterio",), "for polygons")


def _feature(geometry, label, label_space):
    outer, *holes = geometry["coordinates"]
    red, green, blue = label_space.palette[label]
    return {
        "type": "Feature",
        "properties": {
            "class_id": label,
            "class": label_space.class_names[label],
            "colour": f"#{red:02x}{green:02x}{blue:02x}",
            "pixels": round(abs(_area(outer)) - sum(abs(_area(hole)) for hole in holes)),
        },
        "geometry": {
            "type": "Polygon",
            "coordinates": [_oriented(outer, 1), *(_oriented(hole, -1) for hole in holes)],
        },
    }


def _area(ring: Sequence[tuple[float, float]]) -> float:
    """Returns the area of a closed ring, positive if it runs counterclockwise with y up."""
    x, y = np.asarray(ring).T
    return float((x[:-1] * y[1:] - x[1:] * y[:-1]).sum() / 2)


def _oriented(ring, sign):
    points = [[int(x), int(y)] for x, y in ring]
    return points if sign * _area(ring) > 0 else points[::-1]
