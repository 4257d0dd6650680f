"""COCO: a JSON file of instances with polygons or run lengths, and a folder of images."""

import collections
import functools
import os
from pathlib import Path

import numpy as np

from keras_fcn.data.formats import regions
from keras_fcn.data.formats.classes import label_space
from keras_fcn.data.formats.source import (
    Item,
    Source,
    find_image,
    read_json,
    relative_path,
    stem,
    with_background,
)

OVERLAPS = ("area", "order")
_PREFIX = "instances_"
_ONLY_SPLIT = "default"  # CVAT exports everything as this split.
_NEEDED = {
    "images": ("id", "file_name"),
    "annotations": ("image_id", "category_id"),
    "categories": ("id", "name"),
}


def coco(
    source: str | os.PathLike, *, images: str | os.PathLike | None = None, overlap: str = "area"
) -> Source:
    """Reads instances in COCO's format.

    Class 0 is the background, and the categories are the classes 1, 2, ... in the order of their
    ids. Polygons are filled as pycocotools fills them. A crowd is drawn as its category.

    Args:
        source: The JSON file; or a folder with one for each split, as
            `annotations/instances_SPLIT.json` or `SPLIT/*.json`.
        images: Folder of the images. By default they are looked for next to the JSON file and, for
            a folder, in `SPLIT`, `images/SPLIT` and `images`.
        overlap: Which instance gets the pixels of several: `"area"` for the smallest, `"order"` for
            the last in the file.

    Raises:
        FileNotFoundError: If there is no JSON file, or an image is missing.
        ImportError: If pycocotools is not installed.
        ValueError: If the JSON is not COCO's, the splits have different categories, or `overlap` is
            not as described.
    """
    if overlap not in OVERLAPS:
        raise ValueError(f"`overlap` must be one of {', '.join(OVERLAPS)}. Received: {overlap=}.")
    regions.check_pycocotools()
    source = Path(source)
    files = _files(source)
    contents = {path: _content(path) for path in files.values()}
    categories = _categories(contents)
    names = with_background([categories[category_id] for category_id in sorted(categories)])
    class_ids = {
        category_id: names.index(name) if name in names else 0
        for category_id, name in categories.items()
    }
    left_out: collections.Counter = collections.Counter()
    items = []
    for split, path in files.items():
        if images is not None:
            folders = [Path(images, split or ""), Path(images)]
        else:
            root = path.parent if source.is_file() else source
            name = split or _ONLY_SPLIT
            places = (name, f"images/{name}", "images", "")
            folders = list(dict.fromkeys([path.parent, *(root / place for place in places)]))
        items += _items(contents[path], path, folders, split, class_ids, overlap, left_out)
    return Source(label_space(names, None), items, left_out, list(files.values()))


def _files(source):
    """Returns the JSON file of each split."""
    if not source.is_dir():
        return {None: source}
    found = sorted(source.glob("annotations/*.json"))
    instances = [path for path in found if path.name.startswith(_PREFIX)]
    files = {path.stem.removeprefix(_PREFIX): path for path in instances or found}
    for path in sorted(source.glob("*/*.json")) if not files else ():
        if (other := files.setdefault(path.parent.name, path)) != path:
            raise ValueError(f"A split must have one JSON file. Received: {other} and {path}.")
    if not files and len(found := sorted(source.glob("*.json"))) == 1:
        return {None: found[0]}
    if not files:
        raise FileNotFoundError(
            f"{source} must hold annotations/instances_SPLIT.json, SPLIT/*.json or one .json file."
        )
    return {None: files[_ONLY_SPLIT]} if list(files) == [_ONLY_SPLIT] else files


def _content(path):
    content = read_json(path)
    for key, names in _NEEDED.items():
        entries = content.get(key) if isinstance(content, dict) else None
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            held = sorted(content) if isinstance(content, dict) else type(content).__name__
            raise ValueError(
                f"{path} must hold lists of {', '.join(_NEEDED)}, as COCO's instances. "
                f"Received: {held}."
            )
        for entry in entries:
            if wrong := [name for name in names if not isinstance(entry.get(name), int | str)]:
                raise ValueError(
                    f"{path}: each of {key} must have {wrong[0]}. Received: {str(entry)[:80]}."
                )
    counts = collections.Counter(image["id"] for image in content["images"])
    if twice := [image_id for image_id, count in counts.items() if count > 1]:
        raise ValueError(f"{path} must have one image per id. Received twice: {twice[0]!r}.")
    return content


def _categories(contents):
    categories: dict = {}
    for path, content in contents.items():
        for category in content["categories"]:
            category_id, name = category["id"], category["name"]
            if type(category_id) is not int or not isinstance(name, str) or not name:
                raise ValueError(
                    f"{path} must have categories of id and name. Received: {category}."
                )
            if categories.setdefault(category_id, name) != name:
                raise ValueError(
                    f"{path} must name each category once, as the other splits do. Received: "
                    f"category {category_id} is {name!r} and {categories[category_id]!r}."
                )
            ids = [other for other in sorted(categories) if categories[other] == name]
            if len(ids) > 1 and len(with_background([name])) > 1:
                raise ValueError(
                    f"{path} must name no two categories alike. Received: {name!r} for the "
                    f"categories {ids[0]} and {ids[1]}. Rename one in the file, or give the "
                    "annotations of both one category_id."
                )
    return categories


def _items(content, path, folders, split, class_ids, overlap, left_out):
    annotations = collections.defaultdict(list)
    for annotation in content["annotations"]:
        if annotation["category_id"] not in class_ids:
            raise ValueError(
                f"{path} must have the category of each annotation. Received: category_id="
                f"{annotation['category_id']} of annotation {annotation.get('id')}."
            )
        if _has_region(annotation.get("segmentation")):
            annotations[annotation["image_id"]].append(annotation)
        else:
            left_out["annotations without a polygon or run lengths"] += 1
    for image in content["images"]:
        name = relative_path(image["file_name"], str(path))
        draw = functools.partial(
            _draw, annotations.pop(image["id"], []), class_ids, overlap, f"{path}: {name}"
        )
        size = image.get("height"), image.get("width")
        size = size if all(type(side) is int for side in size) else None
        yield Item(stem(name), find_image(name, folders, str(path)), draw, str(path), size, split)
    if annotations:
        raise ValueError(
            f"{path} must have the image of each annotation. Received: image_id="
            f"{next(iter(annotations))!r}."
        )


def _has_region(segmentation):
    if isinstance(segmentation, dict):
        return bool(segmentation)
    # A polygon of two points would be a box to pycocotools.
    return isinstance(segmentation, list) and any(_is_area(part) for part in segmentation)


def _is_area(polygon):
    return not isinstance(polygon, list) or len(polygon) >= 6


def _draw(annotations, class_ids, overlap, origin, size):
    drawn = []
    for annotation in annotations:
        where, segmentation = (
            f"{origin}, annotation {annotation.get('id')}",
            annotation["segmentation"],
        )
        if isinstance(segmentation, dict):
            region = regions.of_run_lengths(segmentation, size, where)
        else:
            polygons = [part for part in segmentation if _is_area(part)]
            region = regions.of_polygons(polygons, size, where)
        drawn.append((class_ids[annotation["category_id"]], region))
    if overlap == "area":
        drawn.sort(key=lambda pair: -regions.area(pair[1]))
    label_map = np.zeros(size, "int32")
    for class_id, region in drawn:
        label_map[regions.decode(region)] = class_id
    return label_map
