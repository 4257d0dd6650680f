"""Any value of a JSON may be missing or another: the import works, or is refused in a sentence."""

import copy
import random

import pytest
from data.formats import test_coco, test_label_studio, test_labelme
from data.formats.folders import files, save_image, save_json

from keras_fcn.data.formats import import_data

pytestmark = pytest.mark.any_backend

OTHERS = (None, -1, 0, 1.5, float("nan"), float("inf"), 10**30, "", "x", "../x", True)
OTHERS += ([], [1], [[]], [None], {}, {"a": 1})
BOX = {"x": 10, "y": 20, "width": 50, "height": 40, "rotation": 3}
# One run over all 4 * 200 values.
STROKE = {"rle": [0, 0, 3, 32, 57, 27, 255, 3, 31, 255]}
POLYGON = {"points": [[10, 10], [90, 20], [15, 60]]}
SOURCES = {
    "coco": test_coco.instances(
        (3, [test_coco.SQUARE]), (7, {"size": [10, 20], "counts": [50, 150]}), height=10, width=20
    ),
    "labelme": {
        **{"imagePath": "a.png", "imageData": None, "imageHeight": 10, "imageWidth": 20},
        "shapes": test_labelme.SHAPES[:4],
    },
    "label-studio": [
        test_label_studio.task(
            test_label_studio.region("cat", POLYGON, "polygon", (10, 20)),
            test_label_studio.region("dog", BOX, "rectangle", (10, 20)),
            test_label_studio.region("dog", STROKE, "brush", (10, 20)),
        )
    ],
}


def places(node, path=()):
    if path:
        yield path
    pairs = node.items() if isinstance(node, dict) else enumerate(node)
    for key, value in pairs:
        yield from places(value if isinstance(value, dict | list) else (), (*path, key))


def damaged(content, seed):
    content, choice = copy.deepcopy(content), random.Random(seed)
    *parents, last = choice.choice(list(places(content)))
    node = content
    for key in parents:
        node = node[key]
    if choice.random() < 0.25:
        del node[last]
    else:
        node[last] = choice.choice(OTHERS)
    return content


@pytest.mark.parametrize("format", SOURCES)
def test_no_value_of_a_json_ends_in_another_error(tmp_path, format):
    refused = 0
    for seed in range(60):
        folder = tmp_path / str(seed)
        save_image(folder / "in" / "a.png", 10, 20)
        path = save_json(folder / "in" / "x.json", damaged(SOURCES[format], seed))
        try:
            source = folder / "in" if format == "labelme" else path
            import_data(format, source, folder / "out")
        except (ValueError, FileNotFoundError):
            refused += 1
            assert not (folder / "out" / "classes.toml").exists()
        else:
            assert len(files(folder / "out" / "labels")) == 1
    assert 10 < refused < 60
