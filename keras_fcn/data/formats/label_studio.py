"""Label Studio: a JSON export with brush strokes, bitmasks, polygons and rectangles."""

import collections
import functools
import math
import os
import re
import urllib.parse
from pathlib import Path

import numpy as np

from keras_fcn.data.files import IMAGE_SUFFIXES, find_file
from keras_fcn.data.formats import regions
from keras_fcn.data.formats.brush import decode_bitmask, decode_brush
from keras_fcn.data.formats.classes import Classes, class_names, label_space
from keras_fcn.data.formats.source import (
    Item,
    Source,
    find_image,
    is_background,
    read_json,
    relative_path,
    stem,
    with_background,
)

_LABELS = ("brushlabels", "bitmasklabels", "polygonlabels", "rectanglelabels", "labels")
_BRUSH, _BITMASK = "rle", "imageDataURL"
_MOST_PERCENT = 500
_BOX = ("x", "y", "width", "height")
_UPLOAD = re.compile("[0-9a-f]{8}-")  # Label Studio's prefix of the names of uploaded files.


def label_studio(
    source: str | os.PathLike, *, images: str | os.PathLike | None = None, classes: Classes = None
) -> Source:
    """Reads Label Studio's export "JSON".

    Regions are drawn in their order. Polygons and rectangles are filled as pycocotools fills those
    of the export "COCO". Of several annotations of a task, the one marked as ground truth counts,
    otherwise the first that was not skipped.

    Args:
        source: The JSON file.
        images: Folder of the images, by default that of the JSON file. Files may have the names of
            the export or those before the upload, without the prefix of 8 digits.
        classes: Names of the classes 1, 2, ..., or of 0, 1, ... if the first is the background; see
            `class_names`. By default the labels in alphabetical order.

    Raises:
        FileNotFoundError: If there is no JSON file, or an image is missing.
        ImportError: If there are polygons or rectangles and pycocotools is not installed.
        ValueError: If the JSON is no such export, or has a label that is not in `classes`.
    """
    path, given = Path(source), class_names(classes)
    tasks = read_json(path)
    if not _are_dicts(tasks) or not all(_are_dicts(task.get("annotations")) for task in tasks):
        raise ValueError(
            f"{path} must be Label Studio's export 'JSON', a list of tasks with `annotations`. "
            "Received: something else, such as JSON-MIN. Export it as JSON."
        )
    left_out: collections.Counter = collections.Counter()
    class_ids: dict[str, int] = {}
    items = []
    for task in tasks:
        origin = f"{path}, task {task.get('id')}"
        annotations = [one for one in task["annotations"] if not one.get("was_cancelled")]
        if not annotations:
            left_out["tasks without an annotation"] += 1
            continue
        left_out["further annotations of a task"] += len(annotations) - 1
        chosen = next((one for one in annotations if one.get("ground_truth")), annotations[0])
        drawn = list(_regions(chosen.get("result"), origin, left_out))
        for label, _, _ in drawn:
            if given is not None and label not in given and not is_background(label):
                raise ValueError(
                    f"{origin} must have labels of `classes` (--classes), {', '.join(given)}. "
                    f"Received: {label!r}."
                )
            class_ids[label] = 0
        if len(sizes := {size for _, size, _ in drawn}) > 1:
            raise ValueError(f"{origin} must have regions of one image. Received: sizes {sizes}.")
        name, file = _image(task, origin, [Path(images) if images is not None else path.parent])
        draw = functools.partial(_draw, [(label, r) for label, _, r in drawn], class_ids, origin)
        items.append(Item(name, file, draw, origin, next(iter(sizes), None)))
    names = with_background(given or sorted(class_ids))
    class_ids |= {name: class_id for class_id, name in enumerate(names)}
    class_ids |= {label: 0 for label in class_ids if is_background(label)}
    return Source(label_space(names, None), items, left_out, [path])


def _regions(results, origin, left_out):
    """Yields the label, the size of the image and the geometry of each region."""
    if _are_dicts(results):
        # Relations connect two regions, and have no value.
        left_out["relations"] += sum(one.get("type") == "relation" for one in results)
        results = [one for one in results if one.get("type") != "relation"]
    if not _are_dicts(results) or not _are_dicts([one.get("value") for one in results]):
        raise ValueError(
            f"{origin} must have a list of results with a value. Received: {str(results)[:80]}."
        )
    labelled = {str(one.get("id")) for one in results if _label(one["value"]) is not None}
    for result in results:
        value, label = result["value"], _label(result["value"])
        points = value.get("points")
        is_mask = _BRUSH in value or _BITMASK in value
        has_area = is_mask or all(key in value for key in _BOX)
        if label is None and (has_area or points) and str(result.get("id")) in labelled:
            continue  # A second result of the same region has its label.
        if label is None or not (has_area or (isinstance(points, list) and len(points) > 2)):
            left_out[f"regions of the type {result.get('type')}"] += 1
            continue
        size = result.get("original_height"), result.get("original_width")
        if not all(type(side) is int and side > 0 for side in size):
            raise ValueError(
                f"{origin} must have the original size of each region. Received: {size}."
            )
        if not is_mask:
            regions.check_pycocotools()
            _check_numbers(value, origin)
        yield label, size, value


def _are_dicts(values):
    return isinstance(values, list) and all(isinstance(value, dict) for value in values)


def _check_numbers(value, origin):
    if "points" in value:
        points = value["points"]
        is_valid = all(isinstance(point, list) and len(point) == 2 for point in points)
        numbers = [number for point in points for number in point] if is_valid else [None]
    else:
        numbers = [*(value[key] for key in _BOX), value.get("rotation") or 0]
    if not all(regions.is_number(number) and abs(number) < _MOST_PERCENT for number in numbers):
        raise ValueError(
            f"{origin} must have regions near the image, in percent of its size. "
            f"Received: {str(value)[:80]}."
        )


def _label(value):
    for key in _LABELS:
        if isinstance(labels := value.get(key), list) and labels:
            return str(labels[0])
    return None


def _image(task, origin, folders):
    """Returns the name and the file of the image of a task."""
    data = task.get("data")
    values = data.values() if isinstance(data, dict) else ()
    texts = [text for text in values if isinstance(text, str)]
    names = [name for text in texts if (name := _path(text)).lower().endswith(IMAGE_SUFFIXES)]
    # Other columns of an imported table may repeat the name of the file.
    if len({name.rpartition("/")[2] for name in names}) != 1:
        raise ValueError(f"{origin} must have one image in its data. Received: {texts}.")
    name = relative_path(names[0].lstrip("/"), origin)
    base = name.rpartition("/")[2]
    candidates = [name, base, _UPLOAD.sub("", base, count=1) if _UPLOAD.match(base) else base]
    for candidate in candidates[:-1]:
        if any(find_file(folder, candidate) for folder in folders):
            break
    else:
        candidate = candidates[-1]
    return stem(candidate), find_image(candidate, folders, origin)


def _path(text):
    """Returns the path in a URL such as /data/upload/1/x.jpg or /data/local-files/?d=a/x.jpg."""
    url = urllib.parse.urlsplit(text)
    for value in urllib.parse.parse_qs(url.query).get("d", ()):
        return value
    return urllib.parse.unquote(url.path)


def _draw(drawn, class_ids, origin, size):
    label_map = np.zeros(size, "int32")
    for label, value in drawn:
        if _BRUSH in value:
            region = decode_brush(value[_BRUSH], size, origin)
        elif _BITMASK in value:
            region = decode_bitmask(value[_BITMASK], size, origin)
        else:
            region = regions.decode(regions.of_polygons([_polygon(value, size)], size, origin))
        label_map[region] = class_ids[label]
    return label_map


def _polygon(value, size):
    """Returns x, y, x, y, ... in pixels; Label Studio has them in percent."""
    height, width = size
    if "points" in value:
        return [c for x, y in value["points"] for c in (x / 100 * width, y / 100 * height)]
    x, y, w, h = (value[key] / 100 for key in _BOX)
    x, y, w, h = x * width, y * height, w * width, h * height
    # A rectangle turns clockwise around its upper left corner.
    angle = math.radians(value.get("rotation") or 0)
    cos, sin = math.cos(angle), math.sin(angle)
    right, down = (w * cos, w * sin), (-h * sin, h * cos)
    corners = [(0, 0), right, (right[0] + down[0], right[1] + down[1]), down]
    return [c for dx, dy in corners for c in (x + dx, y + dy)]
