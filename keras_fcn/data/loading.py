"""Folders, lists of files and data sets by name -> `tf.data.Dataset` of {"image", "label_map"}."""

import os
from collections.abc import Sequence
from pathlib import Path

import tensorflow as tf

from keras_fcn.data.examples import Palette, is_grey
from keras_fcn.data.files import Pair, find_pairs
from keras_fcn.data.named import data_set_names, load_named
from keras_fcn.data.reader import Reader
from keras_fcn.data.shards import Shard, check_enough, checked_shard
from keras_fcn.data.unread import parts, read_later
from keras_fcn.label_spaces import LabelSpace

# Of images and of label maps, below the folder of a data set.
_LAYOUTS = (
    ("{split}", "{split}annot"),
    ("images/{split}", "labels/{split}"),
    ("{split}/images", "{split}/labels"),
)
_LAYOUT_WITHOUT_SPLIT = ("images", "labels")


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
) -> tf.data.Dataset:
    """Loads a data set by its name, or from a folder.

    A folder may have one of these layouts, each with subfolders as deep as wanted:

    - `DIR/train` and `DIR/trainannot`, for the split "train"
    - `DIR/images/train` and `DIR/labels/train`
    - `DIR/train/images` and `DIR/train/labels`
    - `DIR/images` and `DIR/labels`, without a split

    A name of `data_set_names()` means that data set even where a folder is called like it, which
    `./camvid` then means.

    Args:
        name_or_directory: Folder, or name such as `"camvid"`.
        split: Name of the part, such as `"train"`; `None` for all of `DIR/images`.
        label_space: See `from_pairs`; for a folder.
        palette: See `from_pairs`; for a folder.
        channels: See `from_pairs`; for a folder.
        on_error: See `from_pairs`; for a folder.
        data_dir: Where prepared data sets lie; for a name.
        manual_dir: Where files lie that you fetched yourself; for a name.
        download: Whether to fetch what is not there; for a name.
        shard: See `from_pairs`.

    Returns:
        Dataset of {"image": (height, width, 3) uint8, "label_map": (height, width) int32}.

    Raises:
        FileNotFoundError: If there is neither such a data set nor such a folder, if the folder has
            none of the layouts, or if the data set is not there and cannot be downloaded.
        ValueError: As in `find_pairs`, or if the data set has no such split.
    """
    if name_or_directory not in data_set_names():
        images, labels = _layout(Path(name_or_directory), split, data_set_names())
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
            f"Received: {name_or_directory}; for a folder of this name pass "
            f"'./{name_or_directory}'."
        )
    if split is None:
        raise ValueError(
            "`split` must be given for a data set by name, such as 'train'. "
            f"Received: {name_or_directory!r}, {split=}."
        )
    elements, read = parts(
        load_named(
            name_or_directory,
            split,
            data_dir=data_dir,
            manual_dir=manual_dir,
            download=download,
            shard=shard,
        )
    )

    def read_both(element):
        example = read(element)
        label_map = tf.cast(example["label_map"], tf.int32)
        return {"image": example["image"], "label_map": label_map}

    return read_later(elements, read_both)


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
    """Reads the images of one folder with the label maps of the same names in another.

    The images may be PNG, JPEG, WebP, TIFF or BMP, of 8 or 16 bits, grey or RGB, with or without
    alpha; the label maps PNG, TIFF or BMP whose grey values, palette indices or colours are
    classes. Files are read while iterating.

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
        label_space: Label maps may hold its classes and its `ignore_class` and nothing else, and
            colours are those of its palette. `None` takes any values and no colours.
        palette: Class ids of colours, instead of the label space's; see `read_label_map`. To add
            void: `{**dict(zip(space.palette, range(space.num_classes))), (0, 0, 0): 255}`. One of
            greys alone must be given: a label space's would be class ids in grey files.
        channels: Channels of the images that the model takes, see `read_image`.
        on_error: `"raise"`, or `"skip"` to leave out what cannot be used; each iteration then ends
            with a warning that counts and names it.
        shard: (index, count) for the share of number `index`, from 0, of `count` processes, or
            `"auto"` for that of this process among those that `data_parallel` has joined. Every
            example is in exactly one share, always the same, and no other is read; shares differ
            by one example at most. To train, pass `shard` to `training_batches` instead, which
            deals out anew in every epoch, equally many to each process.

    Returns:
        Dataset of {"image": (height, width, 3) uint8, "label_map": (height, width) int32} in the
        order of the pairs.

    Raises:
        ValueError: If there are no pairs, or not one for each process, or `on_error` or `shard`
            is not as described.
        tensorflow.errors.InvalidArgumentError: While iterating, if a file cannot be used; the
            message names it.
    """
    pairs, (index, count) = list(pairs), checked_shard(shard)
    if count > 1:
        check_enough(len(pairs), (index, count))
    pairs = pairs[index::count]
    # Values of grey files are class ids unless a palette of greys is asked for.
    if palette is None and label_space is not None and not is_grey(label_space.palette):
        palette = label_space.palette
    reader = Reader(
        pairs,
        num_classes=label_space and label_space.num_classes,
        ignore_class=label_space and label_space.ignore_class,
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


def _layout(folder, split, names):
    """The folders of the images and of the label maps."""
    if not folder.is_dir():
        raise FileNotFoundError(
            f"`name_or_directory` must be a folder that exists or one of {', '.join(names)}. "
            f"Received: {folder}."
        )
    layouts = [_LAYOUT_WITHOUT_SPLIT]
    if split is not None:
        layouts = [tuple(part.format(split=split) for part in layout) for layout in _LAYOUTS]
    for layout in layouts:
        images, labels = (folder / part for part in layout)
        if images.is_dir() and labels.is_dir():
            return images, labels
    tried = " or ".join(f"{images} with {labels}" for images, labels in layouts)
    found = sorted(
        path.relative_to(folder).as_posix()
        for path in (*folder.glob("*"), *folder.glob("images/*"))
        if path.is_dir()
    )
    raise FileNotFoundError(
        f"{folder} must hold the folders {tried}. Received: {split=}; the folder holds "
        f"{', '.join(found[:12]) or 'no folders'}{', ...' if len(found) > 12 else ''}. "
        + ("Pass a `split`, or " if split is None else "")
        + "`from_directory` takes any two folders."
    )
