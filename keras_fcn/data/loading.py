"""Loads folders, lists of files and named data sets as `tf.data.Dataset` of image and label map."""

import os
from collections.abc import Sequence

import tensorflow as tf

from keras_fcn.arguments import as_path, as_tuple, boolean, wrong
from keras_fcn.data.catalog import data_set_names, label_map_feature
from keras_fcn.data.files import Pair, find_pairs, layouts, split_folders
from keras_fcn.data.label_map_files import Palette, is_grey
from keras_fcn.data.named import load_named
from keras_fcn.data.reader import Reader
from keras_fcn.data.shards import Shard, check_enough, checked_shard
from keras_fcn.data.unread import parts, read_later
from keras_fcn.label_spaces import LabelSpace
from keras_fcn.label_spaces.label_space import check_label_space
from keras_fcn.spec import SEMANTIC


def load(
    name_or_directory: str | os.PathLike,
    split: str | None = None,
    *,
    label_space: LabelSpace | None = None,
    palette: Palette | None = None,
    channels: int = 3,
    on_error: str = "raise",
    data_dir: str | os.PathLike | None = None,
    manual_dir: str | os.PathLike | None = None,
    download: bool = True,
    shard: Shard = None,
    modalities: Sequence[str] = ("image",),
    tasks: Sequence[str] = (SEMANTIC,),
) -> tf.data.Dataset:
    """Loads a data set by its name, or from a folder.

    A folder may have one of these layouts, each with subfolders of any depth:

    - `DIR/train` and `DIR/trainannot`, for the split "train"
    - `DIR/images/train` and `DIR/labels/train`
    - `DIR/train/images` and `DIR/train/labels`
    - `DIR/images` and `DIR/labels`, without a split

    A name of `data_set_names()` always means that data set. Pass `./camvid` for a folder of the
    same name.

    Args:
        name_or_directory: Folder, or name such as `"camvid"`.
        split: Name of the split, such as `"train"`; `None` for all of `DIR/images`.
        label_space: See `from_pairs`; only for a folder.
        palette: See `from_pairs`; only for a folder.
        channels: See `from_pairs`; only for a folder.
        on_error: See `from_pairs`; only for a folder.
        data_dir: Folder of prepared data sets; only for a name.
        manual_dir: Folder of files that you downloaded yourself; only for a name.
        download: Whether to download missing data; only for a name.
        shard: See `from_pairs`.
        modalities: Features of a data set by name whose channels make up the image, in this order,
            such as `("image", "depth")` of "nyudv2".
        tasks: What the label maps of a data set by name are of: `("semantic",)`, or `"geometric"`
            or both of "sift_flow".

    Returns:
        Dataset of {"image": (height, width, 3) uint8, "label_map": (height, width) int32}. With a
        depth among the `modalities`, the image is float32. With several `tasks`, the label map is
        a dictionary of one for each.

    Raises:
        FileNotFoundError: If there is neither such a data set nor such a folder, if the folder has
            none of the layouts, or if the data set is missing and cannot be downloaded.
        ValueError: As in `find_pairs`, or if the data set has no such split or task.
    """
    tasks, modalities = as_tuple("tasks", tasks), as_tuple("modalities", modalities)
    name = next((name for name in data_set_names() if name == name_or_directory), None)
    if not tasks or (name is None and tasks != (SEMANTIC,)):
        raise ValueError(
            "`tasks` must be one or more tasks of a data set by name, such as ('semantic', "
            f"'geometric') of 'sift_flow'. Received: {name_or_directory=}, {tasks=}."
        )
    if not modalities or (name is None and modalities != ("image",)):
        raise ValueError(
            "`modalities` must be one or more features of a data set by name, such as ('image', "
            f"'depth') of 'nyudv2'. Received: {name_or_directory=}, {modalities=}."
        )
    if not isinstance(split, str | None):
        raise wrong("split", "a name, such as 'train', or None", split)
    if name is None:
        folder = as_path("name_or_directory", name_or_directory)
        images, labels = _find_folders(folder, split, data_set_names())
        return from_directory(
            images,
            labels,
            label_space,
            recursive=True,
            palette=palette,
            channels=channels,
            on_error=on_error,
            shard=shard,
        )
    if label_space is not None or palette is not None or on_error != "raise":
        raise ValueError(
            "`label_space`, `palette` and `on_error` must be left out for a data set by name. "
            f"Received: {name_or_directory=}. For a folder of this name pass "
            f"'./{name_or_directory}'."
        )
    if split is None:
        raise ValueError(
            "`split` must be given for a data set by name, such as 'train'. "
            f"Received: {name_or_directory=}, {split=}."
        )
    features = {task: label_map_feature(name, task) for task in tasks}
    more = {*modalities, *features.values()} - {"image", "label_map"}
    elements, read = parts(
        load_named(
            name,
            split,
            features=tuple(sorted(more)),
            data_dir=data_dir,
            manual_dir=manual_dir,
            download=boolean("download", download),
            shard=shard,
        )
    )

    def read_both(element):
        example = read(element)
        image = _joined([example[name] for name in modalities])
        label_maps = {task: tf.cast(example[name], tf.int32) for task, name in features.items()}
        return {"image": image, "label_map": label_maps if len(tasks) > 1 else label_maps[tasks[0]]}

    return read_later(elements, read_both)


def _joined(maps):
    """Returns one image of the channels of several, in float32 unless all are of 8 bits."""
    if len(maps) > 1 or maps[0].shape.rank == 2:
        maps = [found[:, :, None] if found.shape.rank == 2 else found for found in maps]
    if any(found.dtype != tf.uint8 for found in maps):
        maps = [tf.cast(found, tf.float32) for found in maps]
    return tf.concat(maps, axis=2)


def from_directory(
    images: str | os.PathLike,
    labels: str | os.PathLike,
    label_space: LabelSpace | None = None,
    *,
    recursive: bool = False,
    palette: Palette | None = None,
    channels: int = 3,
    on_error: str = "raise",
    shard: Shard = None,
) -> tf.data.Dataset:
    """Reads the images of one folder and the label maps of the same names in another.

    Images may be PNG, JPEG, WebP, TIFF or BMP, of 8 or 16 bits, grey or RGB, with or without alpha.
    Label maps may be PNG, TIFF or BMP whose grey values, palette indices or colours are classes.
    Files are read while iterating.

    Args:
        images: See `find_pairs`.
        labels: See `find_pairs`.
        label_space: See `from_pairs`.
        recursive: See `find_pairs`.
        palette: See `from_pairs`.
        channels: See `from_pairs`.
        on_error: See `from_pairs`.
        shard: See `from_pairs`.

    Returns:
        Dataset of {"image": (height, width, 3) uint8, "label_map": (height, width) int32} in the
        order of the names.

    Raises:
        FileNotFoundError, ValueError: As in `find_pairs`.
        tensorflow.errors.InvalidArgumentError: As in `from_pairs`.
    """
    pairs = find_pairs(images, labels, recursive=recursive)
    return from_pairs(
        pairs, label_space, palette=palette, channels=channels, on_error=on_error, shard=shard
    )


def from_pairs(
    pairs: Sequence[Pair],
    label_space: LabelSpace | None = None,
    *,
    palette: Palette | None = None,
    channels: int = 3,
    on_error: str = "raise",
    shard: Shard = None,
) -> tf.data.Dataset:
    """Reads pairs of files.

    Args:
        pairs: As from `find_pairs` or `read_pairs_file`, or tuples of two paths.
        label_space: Label maps may hold only its classes and its `ignore_class`; its
            `colours` decode true-colour label maps. `None` allows any values but no colours.
        palette: Class ids of colours, instead of the palette of `label_space`; see
            `read_label_map`. To add void:
            `{**dict(zip(space.palette, range(space.num_classes))), (0, 0, 0): 255}`. A palette of
            greys must be passed here: that of `label_space` does not apply to grey files, whose
            values are class ids.
        channels: Number of image channels that the model takes, see `read_image`.
        on_error: `"raise"`, or `"skip"` to leave out pairs that cannot be used; each iteration then
            ends with a warning that counts and names them.
        shard: (rank, world_size) for the shard of process `rank`, from 0, of `world_size`
            processes, or `"auto"` for the shard of this process in `data_parallel`. Every example
            is in exactly one shard, always the same, and no other file is read. Shards differ by at
            most one example. For training, pass `shard` to `training_batches` instead, which shards
            every epoch differently and gives each process equally many examples.

    Returns:
        Dataset of {"image": (height, width, 3) uint8, "label_map": (height, width) int32} in the
        order of the pairs.

    Raises:
        ValueError: If there are fewer pairs than shards or none, or `label_space`, `on_error` or
            `shard` is not as described.
        tensorflow.errors.InvalidArgumentError: While iterating, if a file cannot be used; the
            message names it.
    """
    pairs, (rank, world_size) = as_tuple("pairs", pairs), checked_shard(shard)
    if label_space is not None:
        check_label_space(label_space)
    if world_size > 1:
        check_enough(len(pairs), (rank, world_size))
    pairs = pairs[rank::world_size]
    # Values of grey files are class ids unless a palette of greys was passed.
    if palette is None and label_space is not None and not is_grey(label_space.palette):
        palette = label_space.colours
    reader = Reader(
        pairs,
        num_classes=None if label_space is None else label_space.num_classes,
        ignore_class=None if label_space is None else label_space.ignore_class,
        palette=palette,
        channels=channels,
        on_error=on_error,
    )
    indices = tf.data.Dataset.range(len(pairs))
    if on_error == "raise":
        return read_later(indices, lambda index: _named(index, *reader.example(index)))
    return reader(indices).map(_named)


def _named(_, image, label_map):
    return {"image": image, "label_map": label_map}


def _find_folders(folder, split, names):
    if not folder.is_dir():
        raise FileNotFoundError(
            f"`name_or_directory` must be a folder that exists or one of {', '.join(names)}. "
            f"Received: {folder}."
        )
    if (folders := split_folders(folder, split)) is not None:
        return folders
    tried = " or ".join(f"{images} with {labels}" for images, labels in layouts(split))
    found = sorted(
        path.relative_to(folder).as_posix()
        for path in (*folder.glob("*"), *folder.glob("images/*"))
        if path.is_dir()
    )
    raise FileNotFoundError(
        f"{folder} must hold the folders {tried}. Received: {split=}; the folder holds "
        f"{', '.join(found[:12]) or 'no folders'}{', ...' if len(found) > 12 else ''}. "
        + ("Pass a `split`, or use " if split is None else "Use ")
        + "`from_directory` for any other two folders."
    )
