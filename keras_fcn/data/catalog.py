"""The catalog of the data sets that have a name: builders, splits, features and label spaces."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from keras_fcn import label_spaces
from keras_fcn.label_spaces import LabelSpace
from keras_fcn.spec import SEMANTIC
from keras_fcn.spelling import proposal

VOID = 255
"""Value of ignored pixels in the label maps of every data set, whatever its files hold."""


@dataclasses.dataclass(frozen=True)
class DataSet:
    """The builder of a data set, and which of its features are the image and the label map."""

    label_space: LabelSpace
    splits: tuple[str, ...]
    # TFDS's name, with the configuration if there are several.
    builder: str
    in_tfds: bool = True
    image: str = "image"
    label_map: str = "label_map"
    # Class id by value in the files, if they differ; all other values are void.
    class_ids: Mapping[int, int] | None = None
    # Feature and label space of further label maps, by the name of their task.
    tasks: Mapping[str, tuple[str, LabelSpace]] = dataclasses.field(default_factory=dict)
    # A limitation of the data, shown as a warning.
    caveat: str = ""


def data_set_names() -> tuple[str, ...]:
    """Returns the names of the data sets for `load_named` and `label_space_of`.

    Examples:
        >>> "voc_segmentation/2012_sbd" in data_set_names()
        True
    """
    return tuple(_DATA_SETS)


def label_space_of(name: str, task: str = SEMANTIC) -> LabelSpace:
    """Returns the label space of a data set by name; its `ignore_class` is 255.

    Args:
        name: One of `data_set_names()`.
        task: `"semantic"`, or `"geometric"` of "sift_flow".

    Raises:
        ValueError: If there is no such data set, or it has no such task.

    Examples:
        >>> label_space_of("camvid").class_names[:3]
        ('sky', 'building', 'pole')
    """
    return _task(name, task)[1]


def label_map_feature(name: str, task: str = SEMANTIC) -> str:
    """Returns the name of a task's label map in the examples of `load_named`.

    Args:
        name: See `label_space_of`.
        task: See `label_space_of`.

    Raises:
        ValueError: As `label_space_of`.

    Examples:
        >>> label_map_feature("sift_flow", "geometric")
        'geometric_label_map'
    """
    return _task(name, task)[0]


def find_data_set(name: str) -> DataSet:
    """Returns the entry of a data set.

    Raises:
        ValueError: If there is no such data set.
    """
    if not isinstance(name, str) or name not in _DATA_SETS:
        raise ValueError(
            f"`name` must be one of {', '.join(_DATA_SETS)}. Received: {name=}."
            + proposal(str(name), _DATA_SETS)
        )
    return _DATA_SETS[name]


def _task(name, task):
    data_set = find_data_set(name)
    tasks = {SEMANTIC: ("label_map", data_set.label_space), **data_set.tasks}
    if not isinstance(task, str) or task not in tasks:
        raise ValueError(f"`task` must be a task of {name}: {', '.join(tasks)}. Received: {task=}.")
    return tasks[task]


_TRAIN_AND_VALIDATION = ("train", "validation")

# Cityscapes' `id` of a label -> its `trainId`, the class id of the benchmark.
_CITYSCAPES_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)

# TFDS takes scene_parse150's label maps from the benchmark's instance task, which renumbers 100 of
# the 150 classes from 1, in their order. These 50, among them all surfaces, are void there.
_WITHOUT_INSTANCES = (
    *("wall", "building", "sky", "floor", "tree", "ceiling", "road", "grass", "sidewalk"),
    *("earth", "mountain", "plant", "water", "house", "sea", "rug", "field", "rock", "base"),
    *("sand", "skyscraper", "grandstand", "path", "runway", "stairway", "river", "bridge"),
    *("blind", "hill", "bar", "hovel", "tower", "dirt track", "land", "escalator", "buffet"),
    *("poster", "stage", "conveyer belt", "canopy", "swimming pool", "waterfall", "tent"),
    *("cradle", "tank", "lake", "blanket", "pier", "crt screen", "shower"),
)
_SCENE_PARSE150_CLASSES = [
    class_id
    for class_id, class_name in enumerate(label_spaces.ADE20K.class_names)
    if class_name not in _WITHOUT_INSTANCES
]

_VOC = label_spaces.PASCAL_VOC
_PAPER_DATA_SETS = {
    "voc_segmentation/2011": (_VOC, (*_TRAIN_AND_VALIDATION, "seg11valid")),
    "voc_segmentation/2012": (_VOC, (*_TRAIN_AND_VALIDATION, "seg11valid")),
    "voc_segmentation/2012_sbd": (_VOC, ("train", "seg11valid")),
    "voc_segmentation/2012_aug": (_VOC, _TRAIN_AND_VALIDATION),
    "camvid": (
        dataclasses.replace(label_spaces.CAMVID, ignore_class=VOID),
        (*_TRAIN_AND_VALIDATION, "test"),
    ),
    "pascal_context": (label_spaces.PASCAL_CONTEXT, _TRAIN_AND_VALIDATION),
    "nyudv2": (label_spaces.NYUDV2_40, (*_TRAIN_AND_VALIDATION, "test")),
    "sift_flow": (label_spaces.SIFT_FLOW, ("train", "test")),
}
_TASKS = {
    "sift_flow": {"geometric": ("geometric_label_map", label_spaces.SIFT_FLOW_GEOMETRIC)},
}
_DATA_SETS = {
    **{
        name: DataSet(label_space, splits, builder=name, in_tfds=False, tasks=_TASKS.get(name, {}))
        for name, (label_space, splits) in _PAPER_DATA_SETS.items()
    },
    "oxford_iiit_pet": DataSet(
        label_spaces.OXFORD_IIIT_PET,
        ("train", "test"),
        builder="oxford_iiit_pet",
        label_map="segmentation_mask",
        class_ids={1: 0, 2: 1, 3: 2},
    ),
    "cityscapes": DataSet(
        label_spaces.CITYSCAPES,
        (*_TRAIN_AND_VALIDATION, "test"),
        builder="cityscapes/semantic_segmentation",
        image="image_left",
        label_map="segmentation_label",
        class_ids={label_id: class_id for class_id, label_id in enumerate(_CITYSCAPES_IDS)},
    ),
    "scene_parse150": DataSet(
        label_spaces.ADE20K,
        ("train", "test"),
        builder="scene_parse150",
        label_map="annotation",
        class_ids=dict(enumerate(_SCENE_PARSE150_CLASSES, start=1)),
        caveat="TFDS has the label maps of the benchmark's instance task, in which only 100 of "
        "the 150 classes occur. Wall, sky, road and the other 47 are void (255).",
    ),
}
