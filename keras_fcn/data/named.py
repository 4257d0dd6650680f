"""Loads data sets by name: those of the FCN papers, and some of TensorFlow Datasets (TFDS).

Void is always 255, and class ids are those of the data set's label space, whatever the files hold.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import operator
import os
import re
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_fcn.arguments import as_path
from keras_fcn.data.catalog import VOID, find_data_set
from keras_fcn.data.shards import Shard, check_enough, checked_shard

if TYPE_CHECKING:
    import tensorflow as tf

# Features that name an example; the first that exists is used.
_NAMES = ("file_name", "image_id")


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
            downloaded, or `manual_dir` does not exist and the data are not built yet.
        OSError: If the data are not built yet and `data_dir` cannot be written.
    """
    data_set, shard = find_data_set(name), checked_shard(shard)
    manual_dir = None if manual_dir is None else as_path("manual_dir", manual_dir).expanduser()
    _check_split(name, split, data_set.splits)
    if data_set.caveat:
        warnings.warn(f"{name}: {data_set.caveat}", stacklevel=2)
    builder = _builder(data_set, data_dir)
    _check_features(name, features, builder)
    # What is built needs its archives no more.
    if not (manual_dir is None or manual_dir.is_dir() or builder.is_prepared()):
        raise FileNotFoundError(f"`manual_dir` must be a folder. Received: {manual_dir}.")
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
    known = _builder(find_data_set(name), data_dir).info.features
    feature = next((feature for feature in _NAMES if feature in known), None)
    options: Any = {"data_dir": data_dir, "manual_dir": manual_dir}
    if feature is None:
        return [f"{number:06d}" for number in range(len(load_named(name, split, **options)))]
    from keras_fcn.data.unread import parts

    unread, _ = parts(load_named(name, split, features=(feature,), **options))
    values = unread.map(lambda element: element[feature]).as_numpy_iterator()
    return [value.decode() for value in values]


def version_of(name: str, data_dir: str | os.PathLike | None = None) -> str:
    """Returns the version of the builder of a data set by name, such as "1.0.0".

    Args:
        name: One of `data_set_names()`.
        data_dir: See `load_named`.
    """
    return str(_builder(find_data_set(name), data_dir).version)


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
    # TFDS expands ~ for some of its files only.
    if data_dir is not None:
        as_path("data_dir", data_dir)
        data_dir = os.path.expanduser(data_dir)
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
    if not builder.is_prepared():
        _check_writable(name, os.fspath(builder.data_dir))
    # Google hosts copies of built data sets, but none of this package's.
    config = tfds.download.DownloadConfig(manual_dir=manual_dir, try_download_gcs=in_tfds)
    try:
        with contextlib.redirect_stdout(sys.stderr):  # TFDS prints its progress.
            builder.download_and_prepare(download_config=config)
    except AssertionError as error:
        if not in_tfds:
            raise
        # TFDS's builders raise AssertionError if files of `manual_dir` are missing.
        raise FileNotFoundError(f"{name} cannot be built. {error}") from error


def _check_writable(name, folder):
    if "://" in folder:  # A bucket, which TFDS writes.
        return
    place = next(path for path in (Path(folder), *Path(folder).parents) if path.exists())
    if not (place.is_dir() and os.access(place, os.W_OK)):
        raise OSError(
            f"`data_dir` must be a folder that can be written, to build {name} in {folder}. "
            f"Received: {place}, which cannot. Set it to another folder, or to one in which "
            f"{name} is built."
        )


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
        table = tf.constant([data_set.class_ids.get(value, VOID) for value in range(256)], "uint8")

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
