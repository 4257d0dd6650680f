"""Loads data sets by name: those of the FCN papers, and some of TensorFlow Datasets (TFDS).

Void is always 255, and class ids are those of the data set's label space, whatever the files hold.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import operator
import os
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_fcn import label_spaces
from keras_fcn.data.shards import Shard, check_enough, checked_shard
from keras_fcn.label_spaces import LabelSpace
from keras_fcn.spec import SEMANTIC

if TYPE_CHECKING:
    import tensorflow as tf

_VOID = 255
# Features that name an example; the first that exists is used.
_NAMES = ("file_name", "image_id")


@dataclasses.dataclass(frozen=True)
class _DataSet:
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


def load_named(
    name: str,
    split: str,
    *,
    data_dir: str | os.PathLike | None = None,
    manual_dir: str | os.PathLike | None = None,
    download: bool = True,
    features: Sequence[str] = (),
    shard: Shard = None,
) -> tf.data.Dataset:
    """Loads a data set by its name, and builds it with TFDS first if needed.

    TFDS's "scene_parse150" labels only the 100 of ADE20K's 150 classes that have instances: walls,
    sky and other surfaces are 255. Loading it warns of that.

    Args:
        name: One of `data_set_names()`.
        split: A split of the data set, or an expression of TFDS: "train+validation",
            "train[:90%]".
        data_dir: Folder of built data sets, by default TFDS's: `$TFDS_DATA_DIR`, or
            `tensorflow_datasets` in the home folder.
        manual_dir: Folder of archives or of their unpacked contents, which are then not
            downloaded. By default `downloads/manual` in `data_dir`.
        download: Whether to download and build data sets that are not in `data_dir`.
        features: Further features of the data set to keep, such as "depth" of "nyudv2" or
            "geometric_label_map" of "sift_flow".
        shard: See `from_pairs`; a shard is a contiguous range of examples in TFDS's files.

    Returns:
        `tf.data.Dataset` of {"image": (height, width, 3), uint8, RGB, "label_map": (height,
        width), uint8, 255 for void}, always in the same order. Further features of one channel are
        (height, width), too.

    Raises:
        ValueError: If there is no such data set, split or feature, or `shard` is not as described.
        FileNotFoundError: If the data are neither in `data_dir` nor `manual_dir` and cannot be
            downloaded, or `manual_dir` does not exist.
    """
    data_set, shard = _data_set(name), checked_shard(shard)
    _check_split(name, split, data_set.splits)
    if manual_dir is not None and not Path(manual_dir).is_dir():
        raise FileNotFoundError(f"`manual_dir` must be a folder. Received: {manual_dir=}.")
    if data_set.caveat:
        warnings.warn(f"{name}: {data_set.caveat}", stacklevel=2)
    builder = _builder(data_set, data_dir)
    _check_features(name, features, builder)
    try:
        _prepare(name, builder, manual_dir, download, data_set.in_tfds)
    except FileExistsError:
        # Another process built it meanwhile. A new builder reads the number of its examples.
        builder = _builder(data_set, data_dir)
        if not builder.is_prepared():
            raise
    _check_built(name, split, builder)
    if shard[1] > 1:
        split = _shard_of(split, builder, shard)
    return _load(builder, split, data_set, features)


def example_names(
    name: str,
    split: str,
    *,
    data_dir: str | os.PathLike | None = None,
    manual_dir: str | os.PathLike | None = None,
) -> list[str]:
    """Returns the names of the examples of a split, in the order of `load_named`.

    A name is the file name, otherwise the id, or the index from 0 if the data set has neither.

    Args:
        name: See `load_named`.
        split: See `load_named`.
        data_dir: See `load_named`.
        manual_dir: See `load_named`.

    Raises:
        FileNotFoundError, ValueError: As in `load_named`.
    """
    known = _builder(_data_set(name), data_dir).info.features
    feature = next((feature for feature in _NAMES if feature in known), None)
    options: Any = {"data_dir": data_dir, "manual_dir": manual_dir}
    if feature is None:
        return [f"{number:06d}" for number in range(len(load_named(name, split, **options)))]
    from keras_fcn.data.unread import parts

    unread, _ = parts(load_named(name, split, features=(feature,), **options))
    values = unread.map(lambda element: element[feature]).as_numpy_iterator()
    return [value.decode() for value in values]


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


def _task(name, task):
    data_set = _data_set(name)
    tasks = {SEMANTIC: ("label_map", data_set.label_space), **data_set.tasks}
    if task not in tasks:
        raise ValueError(f"`task` must be a task of {name}: {', '.join(tasks)}. Received: {task=}.")
    return tasks[task]


def version_of(name: str, data_dir: str | os.PathLike | None = None) -> str:
    """Returns the version of the builder of a data set by name, such as "1.0.0".

    Args:
        name: One of `data_set_names()`.
        data_dir: See `load_named`.
    """
    return str(_builder(_data_set(name), data_dir).version)


def data_set_names() -> tuple[str, ...]:
    """Returns the names of the data sets for `load_named` and `label_space_of`.

    Examples:
        >>> "voc_segmentation/2012_sbd" in data_set_names()
        True
    """
    return tuple(_DATA_SETS)


def _data_set(name):
    if name not in _DATA_SETS:
        raise ValueError(f"`name` must be one of {', '.join(_DATA_SETS)}. Received: {name=}.")
    return _DATA_SETS[name]


def _check_split(name, split, known):
    if unknown := [part for part in _split_names(split) if part not in known]:
        raise ValueError(
            f"`split` must combine the splits of {name}: {', '.join(known)}. "
            f"Received: {split=}, in which {unknown[0]!r} is none of them."
        )


def _split_names(split):
    return [re.split(r"[\[\s]", part.strip())[0] for part in split.split("+")]


def _check_features(name, features, builder):
    known = tuple(builder.info.features)
    if isinstance(features, str) or any(feature not in known for feature in features):
        raise ValueError(
            f"`features` must be a sequence of features of {name}: {', '.join(known)}. "
            f"Received: {features=}."
        )


def _builder(data_set, data_dir):
    if data_set.in_tfds:
        import tensorflow_datasets as tfds

        return tfds.builder(data_set.builder, data_dir=data_dir)
    folder, _, config = data_set.builder.partition("/")
    module = importlib.import_module(f"keras_fcn.data.builders.{folder}.{folder}_dataset_builder")
    return module.Builder(data_dir=data_dir, config=config or None)


def _prepare(name, builder, manual_dir, download, in_tfds):
    import tensorflow_datasets as tfds

    if not download:
        if not builder.is_prepared():
            raise FileNotFoundError(
                f"{name} is not in {builder.data_dir}, and `download` is False. Pass "
                "`download=True` to build it from `manual_dir` or the internet."
            )
        return
    # Google hosts copies of built data sets, but none of this package's.
    config = tfds.download.DownloadConfig(manual_dir=manual_dir, try_download_gcs=in_tfds)
    try:
        builder.download_and_prepare(download_config=config)
    except AssertionError as error:
        if not in_tfds:
            raise
        # TFDS's builders raise AssertionError if files of `manual_dir` are missing.
        raise FileNotFoundError(f"{name} cannot be built. {error}") from error


def _check_built(name, split, builder):
    # TFDS's mock for tests has no splits.
    built = tuple(builder.info.splits)
    if missing := [part for part in _split_names(split) if built and part not in built]:
        raise ValueError(
            f"`split` must combine the splits that {name} was built with in {builder.data_dir}: "
            f"{', '.join(built)}. Received: {split=}. The files of {missing[0]!r} were missing "
            "then: delete that folder to build it again."
        )


def _shard_of(split, builder, shard):
    """Returns TFDS's read instruction of one shard of `split`, which may be a sum of splits."""
    import tensorflow_datasets as tfds

    rank, world_size = shard
    splits = builder.info.splits
    # Like `tfds.even_splits`, whose shards of a sum of splits differ by more than one example.
    parts = []
    for part in tfds.core.ReadInstruction.from_spec(split).to_absolute(splits):
        length = splits[part.splitname].num_examples
        parts.append((part.splitname, *slice(part.from_, part.to).indices(length)[:2]))
    total = sum(end - start for _, start, end in parts)
    check_enough(total, shard)
    first, last = total * rank // world_size, total * (rank + 1) // world_size
    instructions, place = [], 0
    for name, start, end in parts:
        # `place` is the index of this part's first example in the sum.
        own = max(start, start + first - place), min(end, start + last - place)
        if own[0] < own[1]:
            instructions.append(
                tfds.core.ReadInstruction(name, from_=own[0], to=own[1], unit="abs")
            )
        place += end - start
    return functools.reduce(operator.add, instructions)


def _load(builder, split, data_set, features):
    import tensorflow as tf
    import tensorflow_datasets as tfds

    from keras_fcn.data.unread import read_later

    # Images are decoded by `read`, after sharding: a process decodes only those of its shard.
    known = builder.info.features
    wanted = (*features, data_set.image, data_set.label_map)
    images = {name for name in wanted if isinstance(known[name], tfds.features.Image)}
    elements = builder.as_dataset(
        split=split,
        shuffle_files=False,
        decoders={name: tfds.decode.SkipDecoding() for name in images},
    ).map(lambda found: {name: found[name] for name in wanted})
    table = None
    if data_set.class_ids is not None:
        table = tf.constant([data_set.class_ids.get(value, _VOID) for value in range(256)], "uint8")

    def read(found):
        found = {
            name: known[name].decode_example(value) if name in images else value
            for name, value in found.items()
        }
        # The first channel is the class. ADE20K's label maps have further ones for the instances.
        label_map = found[data_set.label_map][:, :, 0]
        if table is not None:
            label_map = tf.gather(table, tf.cast(label_map, "int32"))
        more = {feature: _without_single_channel(found[feature]) for feature in features}
        return {**more, "image": found[data_set.image], "label_map": label_map}

    return read_later(elements, read)


def _without_single_channel(feature):
    return feature[:, :, 0] if feature.shape.rank == 3 and feature.shape[2] == 1 else feature


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
        dataclasses.replace(label_spaces.CAMVID, ignore_class=_VOID),
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
        name: _DataSet(label_space, splits, builder=name, in_tfds=False, tasks=_TASKS.get(name, {}))
        for name, (label_space, splits) in _PAPER_DATA_SETS.items()
    },
    "oxford_iiit_pet": _DataSet(
        label_spaces.OXFORD_IIIT_PET,
        ("train", "test"),
        builder="oxford_iiit_pet",
        label_map="segmentation_mask",
        class_ids={1: 0, 2: 1, 3: 2},
    ),
    "cityscapes": _DataSet(
        label_spaces.CITYSCAPES,
        (*_TRAIN_AND_VALIDATION, "test"),
        builder="cityscapes/semantic_segmentation",
        image="image_left",
        label_map="segmentation_label",
        class_ids={label_id: class_id for class_id, label_id in enumerate(_CITYSCAPES_IDS)},
    ),
    "scene_parse150": _DataSet(
        label_spaces.ADE20K,
        ("train", "test"),
        builder="scene_parse150",
        label_map="annotation",
        class_ids=dict(enumerate(_SCENE_PARSE150_CLASSES, start=1)),
        caveat="TFDS has the label maps of the benchmark's instance task, in which only 100 of "
        "the 150 classes occur. Wall, sky, road and the other 47 are void (255).",
    ),
}
