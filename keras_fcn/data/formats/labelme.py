"""labelme: a folder of JSON files with the shapes of one image each."""

import base64
import binascii
import collections
import functools
import io
import os
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from keras_fcn.data.files import visible_files
from keras_fcn.data.formats.classes import Classes, class_names, label_space
from keras_fcn.data.formats.regions import is_number
from keras_fcn.data.formats.source import (
    Item,
    Source,
    as_folder,
    find_image,
    ignore_class_for,
    is_background,
    read_json,
    relative_path,
    with_background,
)
from keras_fcn.data.image_files import DECODING_ERRORS

# Numbers of points, `None` for 3 or more. X-AnyLabeling, which grew out of labelme, writes the four
# corners of a rectangle, and has two shapes of its own.
_POINTS: dict[str, tuple[int, ...] | None] = {"polygon": None, "rectangle": (2, 4)}
_POINTS |= dict.fromkeys(("oriented_rectangle", "rotation", "quadrilateral"), (4,))
_POINTS |= dict.fromkeys(("circle", "mask"), (2,))
_WITHOUT_AREA = ("point", "points", "line", "linestrip")
_IGNORED = "__ignore__"
_FARTHEST = 1e5


def labelme(
    source: str | os.PathLike,
    *,
    images: str | os.PathLike | None = None,
    classes: Classes = None,
) -> Source:
    """Reads the JSON files of labelme.

    Polygons, rectangles, circles and masks are drawn in their order, as labelme draws them, and
    those of X-AnyLabeling alike. Points and lines have no area and are left out. The label
    `__ignore__` marks ignored pixels, and `_background_` is class 0.

    Args:
        source: Folder of JSON files, with or without subfolders.
        images: Folder of the images, by default that of each JSON file. An image that is missing
            there is taken from the JSON file, if that holds it.
        classes: Names of the classes 1, 2, ..., or of 0, 1, ... if the first is the background; see
            `class_names`. By default the labels in alphabetical order.

    Raises:
        FileNotFoundError: If there is no such folder or no JSON file, or an image is missing.
        ValueError: If a JSON file is not labelme's, or has a label that is not in `classes`.
    """
    folder = as_folder(source)
    files = [path for path in visible_files(folder) if path.suffix.lower() == ".json"]
    if not files:
        raise FileNotFoundError(f"{folder} must hold the .json files of labelme.")
    given = class_names(classes)
    left_out: collections.Counter = collections.Counter()
    labels: set[str] = set()
    items = []
    class_ids: dict[str, int] = {}
    for path in files:
        content = _content(path)
        for shape in content["shapes"]:
            if shape["shape_type"] in _WITHOUT_AREA:
                left_out[f"{shape['shape_type']}s".replace("ss", "s")] += 1
                continue
            labels.add(shape["label"])
            is_known = shape["label"] in (*(given or ()), _IGNORED) or is_background(shape["label"])
            if given is not None and not is_known:
                raise ValueError(
                    f"{path} must hold labels of `classes` (--classes), {', '.join(given)}. "
                    f"Received: {shape['label']!r}."
                )
        items.append(_item(path, content, folder, images, class_ids))
    names = [name for name in given or sorted(labels) if name != _IGNORED]
    names = with_background(names)
    ignores = _IGNORED in labels or _IGNORED in (given or ())
    ignore_class = ignore_class_for(len(names)) if ignores else None
    class_ids |= {name: class_id for class_id, name in enumerate(names)}
    class_ids |= {label: 0 for label in labels if is_background(label)}
    class_ids[_IGNORED] = ignore_class or 0
    return Source(label_space(names, ignore_class), items, left_out, files)


def _content(path):
    """Returns the content of a JSON file with checked shapes."""
    content = read_json(path)
    shapes = content.get("shapes") if isinstance(content, dict) else None
    if not isinstance(shapes, list):
        raise ValueError(f"{path} must be a file of labelme, with a list `shapes`.")
    for shape in shapes:
        label = shape.get("label") if isinstance(shape, dict) else None
        if not isinstance(label, str) or not label:
            raise ValueError(f"{path} must hold shapes with a label. Received: {str(shape)[:80]}.")
        kind = shape["shape_type"] = str(shape.get("shape_type") or "polygon")
        if kind in _WITHOUT_AREA:
            continue
        points = shape.get("points")
        is_list = isinstance(points, list) and all(_is_point(point) for point in points)
        counts = _POINTS.get(kind, ())
        if is_list and (len(points) >= 3 if counts is None else len(points) in counts):
            continue
        raise ValueError(
            f"{path} must hold shapes of the types {', '.join((*_POINTS, *_WITHOUT_AREA))} with "
            f"their points. Received: {kind} of {str(points)[:60]}."
        )
    return content


def _is_point(point):
    # Pillow takes time in proportion to the size of a shape. NaN is less than nothing, too.
    is_pair = isinstance(point, list) and len(point) == 2 and all(map(is_number, point))
    return is_pair and all(-_FARTHEST < coordinate < _FARTHEST for coordinate in point)


def _item(path, content, folder, images, class_ids):
    name = path.relative_to(folder).with_suffix("").as_posix()
    image = _image(path, content, folder, images)
    size = content.get("imageHeight"), content.get("imageWidth")
    size = size if all(type(side) is int for side in size) else None
    draw = functools.partial(_draw, path, class_ids)
    return Item(name, image, draw, str(path), size)


def _image(path, content, folder, images):
    embedded = functools.partial(_embedded, path) if content.get("imageData") else None
    places = [path.parent]
    if images is not None:
        places = (
            [images / path.relative_to(folder).parent, images] if (images := Path(images)) else []
        )
    try:
        name = relative_path(content.get("imagePath"), str(path))
    except ValueError:
        # labelme writes ../images/x.jpg if its output folder is another one.
        if images is None and embedded is None:
            raise ValueError(
                f"{path} names the image {content.get('imagePath')!r}, which is outside of its "
                "folder. Pass the folder of the images (--images)."
            ) from None
        name = str(content.get("imagePath")).replace("\\", "/").rpartition("/")[2] or path.stem
        places = places if images is not None else []
    if images is not None:
        name = name.rpartition("/")[2]
    try:
        return find_image(name, places, str(path))
    except FileNotFoundError:
        if embedded is None:
            raise
        return embedded


def _embedded(path):
    return _from_base64(read_json(path)["imageData"], path, "imageData")


def _from_base64(text, path, key):
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, TypeError, ValueError) as error:
        raise ValueError(f"{path} must hold {key} in base64. Received: {error}.") from None


def _draw(path, class_ids, size):
    """Draws what labelme's `shapes_to_label` draws."""
    label_map = np.zeros(size, "int32")
    for shape in _content(path)["shapes"]:
        kind = shape["shape_type"]
        if kind in _WITHOUT_AREA:
            continue
        region = (
            _mask(shape, size, path) if kind == "mask" else _region(kind, shape["points"], size)
        )
        label_map[region] = class_ids[shape["label"]]
    return label_map


def _region(kind, points, size):
    image = Image.new("L", size[::-1])
    draw = ImageDraw.Draw(image)
    points = [tuple(point) for point in points]
    if kind == "circle":
        (x, y), (edge_x, edge_y) = points
        radius = ((x - edge_x) ** 2 + (y - edge_y) ** 2) ** 0.5
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), outline=1, fill=1)
    elif kind == "rectangle":
        x, y = zip(*points, strict=True)
        draw.rectangle((min(x), min(y), max(x), max(y)), outline=1, fill=1)
    else:
        draw.polygon(points, outline=1, fill=1)
    return np.asarray(image) > 0


def _mask(shape, size, path):
    (left, top), (right, bottom) = np.asarray(shape["points"]).astype(int).tolist()
    try:
        image = Image.open(io.BytesIO(_from_base64(shape.get("mask"), path, "masks")))
    except (*DECODING_ERRORS, Image.DecompressionBombError) as error:
        raise ValueError(f"{path} must hold masks as images. Received: {error}.") from None
    region = np.zeros(size, bool)
    box = region[max(top, 0) : bottom + 1, max(left, 0) : right + 1]
    if min(left, top) < 0 or box.shape != (image.height, image.width):
        raise ValueError(
            f"{path} must hold masks of the size of their box within the image. Received: "
            f"{image.size} for the box {shape['points']}."
        )
    try:
        box[:] = np.asarray(image.convert("L")) > 0
    except DECODING_ERRORS as error:
        raise ValueError(f"{path} must hold masks as images. Received: {error}.") from None
    return region
