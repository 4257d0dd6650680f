"""The training and validation examples of a recipe."""

import dataclasses
import warnings
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from keras_fcn.data import batches
from keras_fcn.data.catalog import label_space_of
from keras_fcn.data.class_weights import median_frequency, warn_of_absent_classes
from keras_fcn.data.examples import check_pairs
from keras_fcn.data.files import Pair, find_pairs, name_in
from keras_fcn.data.joint_classes import JointClasses
from keras_fcn.data.label_map_files import Palette
from keras_fcn.data.loading import load
from keras_fcn.data.named import example_names, version_of
from keras_fcn.data.unread import parts, read_later
from keras_fcn.distribution import processes
from keras_fcn.label_spaces import LabelSpace, choose
from keras_fcn.spec import SEMANTIC
from keras_fcn.training.augmentation import Augmenter, transforms
from keras_fcn.training.held_out import hold_out
from keras_fcn.training.progress import progress_bar
from keras_fcn.training.recipe import Recipe

_NUM_NAMES = 5


@dataclasses.dataclass(frozen=True)
class Split:
    """Examples with their names and their label space.

    Args:
        examples: Pairs of files, or a dataset as from `keras_fcn.data.load`.
        label_space: The `LabelSpace` of the label maps after augmentation: with an `ignore_class`
            for new pixels of crops and rotations, even if the files have none.
        palette: Colours of true-colour label maps, for pairs.
        channels: Number of channels of the images.
        source: Arguments of `load_named` for a data set by name; `None` for pairs.
        joint: Classes of several tasks, whose joint label maps the examples hold; `None` for one.
        images: Folder of the images, for pairs: their names begin with their subfolder there.
    """

    examples: Sequence[Pair] | tf.data.Dataset
    label_space: LabelSpace
    source: dict | None = None
    palette: Palette | None = None
    channels: int = 3
    joint: JointClasses | None = None
    images: str | None = None

    def __len__(self):
        return len(self.examples)

    def names(self) -> list[str]:
        """Returns the names of the examples, with their subfolders, in their order."""
        if self.source is not None:
            return example_names(**self.source)
        return [name_in(self.images or pair.image.parent, pair.image) for pair in self.examples]

    def fingerprint(self) -> str:
        """Returns the number of examples and a checksum of the file names in their order.

        For a data set by name, the name and version replace the checksum.
        """
        if self.source is None:
            pairs = zip(self.names(), self.examples, strict=True)
            names = "\n".join(f"{name} {pair.label_map.name}" for name, pair in pairs)
            checksum = zlib.crc32(names.encode(errors="surrogateescape"))
            return f"{len(self)} training images, names {checksum:08x}"
        name, split = self.source["name"], self.source["split"]
        version = version_of(name, self.source["data_dir"])
        return f"{len(self)} training images, {name} {version}, {split}"

    def batches(self, shard: tuple[int, int] = (0, 1)) -> tf.data.Dataset:
        """Returns batches of one unchanged example, in order, of one shard."""
        return batches.evaluation_batches(
            self.examples,
            **self.classes,
            palette=self.palette,
            channels=self.channels,
            shard=shard,
        )

    def training_batches(
        self,
        recipe: Recipe,
        epoch: int,
        first_step: int,
        shard: tuple[int, int] = (0, 1),
        extra: Sequence[Augmenter] = (),
    ) -> tf.data.Dataset:
        """Returns the batches of one epoch of a recipe, from batch number `first_step`.

        `shard` is (rank, world_size) of the processes among which each batch is sharded; `extra`
        are further transforms, as in `transforms`. With several tasks, the label map is a
        dictionary.
        """
        joint = self.joint
        of_epoch = batches.training_batches(
            self.examples,
            **self.classes,
            palette=self.palette,
            channels=self.channels,
            batch_size=recipe.batch_size // shard[1],
            shard=shard,
            seed=recipe.seed,
            transforms=transforms(recipe, self.label_space, extra),
            first_epoch=epoch,
            first_step=first_step,
        )
        if joint is None:
            return of_epoch
        return of_epoch.map(lambda image, label_map: (image, joint.split(label_map)))

    def names_of_batch(self, recipe: Recipe, epoch: int, step: int) -> list[str]:
        """Returns the names of the examples of one training batch."""
        places = batches.places_of_batch(
            self.examples,
            **self.classes,
            batch_size=recipe.batch_size,
            seed=recipe.seed,
            epoch=epoch,
            step=step,
        )
        names = self.names()
        return [names[place] for place in places]

    def class_weights(self) -> np.ndarray:
        """Returns class weights by median frequency balancing.

        Warns of classes that never occur, whose weight is 0. With several processes, each counts
        its shard, and all must call this.
        """
        num_classes = self.label_space.num_classes
        sums = np.zeros((2, num_classes), "int64")
        pixels, pixels_where_present = sums
        examples = self.batches(processes.shard())
        with progress_bar("counting classes", int(examples.cardinality())) as advance:
            for _, label_map in examples:
                label_map = label_map.numpy()
                counts = np.bincount(label_map[label_map != self.label_space.ignore_class])
                counts = np.pad(counts, (0, num_classes - len(counts)))
                pixels += counts
                pixels_where_present += (counts > 0) * counts.sum()
                advance()
        pixels, pixels_where_present = processes.sum_of_all(sums)
        if processes.rank() == 0:
            warn_of_absent_classes(pixels, self.label_space.class_names)
        return median_frequency(pixels, pixels_where_present)

    @property
    def label_spaces(self) -> dict[str, LabelSpace]:
        """Dictionary from each task to its `LabelSpace`."""
        return {SEMANTIC: self.label_space} if self.joint is None else self.joint.label_spaces

    def of_task(self, task: str) -> "Split":
        """Returns the split of the label maps of one of several tasks; itself if there is one."""
        joint = self.joint
        if joint is None:
            return self
        elements, read = parts(self.examples)

        def read_one(element):
            example = read(element)
            return {**example, "label_map": joint.split(example["label_map"])[task]}

        return dataclasses.replace(
            self,
            examples=read_later(elements, read_one),
            label_space=joint.label_spaces[task],
            joint=None,
        )

    @property
    def classes(self) -> dict[str, Any]:
        """Arguments `num_classes` and `ignore_class` of batches and checks."""
        space = self.label_space
        return {"num_classes": space.num_classes, "ignore_class": space.ignore_class}


def open_splits(recipe: Recipe) -> tuple[Split, Split | None]:
    """Returns the training and validation splits of a recipe; `check_files` reads their files.

    Data sets by name are downloaded and built if needed.

    Raises:
        FileNotFoundError, ValueError: If files are missing, or if the recipe does not name them.
    """
    if recipe.data is not None:
        _check_named(recipe)
        label_space, open_them = label_space_of(recipe.data, recipe.tasks[0]), _named_splits
    else:
        _check_folders(recipe)
        label_space = _space_of_files(recipe)
        if recipe.crop is not None or recipe.rotation is not None:
            label_space = _with_ignore_class(label_space)
        open_them = _folder_splits
    # Raises before a download that takes minutes.
    transforms(recipe, label_space)
    return open_them(recipe, label_space)


def check_files(splits: tuple[Split, Split | None], recipe: Recipe) -> None:
    """Reads every pair of files once; with several processes, each reads its shard.

    Warns of classes without a pixel in the training label maps. All processes must call this. Data
    sets by name were checked when they were built.

    Args:
        splits: As from `open_splits`.
        recipe: Their recipe.

    Raises:
        FileNotFoundError, ValueError: If a file cannot be used, or if all label maps of a split
            ignore every pixel, in every process.
    """
    if splits[0].source is not None:
        return
    rank, world_size = processes.shard()
    training, *validation = (
        split.examples[rank::world_size] for split in splits if split is not None
    )
    space = _space_of_files(recipe)
    pixels = np.zeros((2, space.num_classes + 1), "int64")  # Of training and validation.
    rules = {
        "num_classes": space.num_classes,
        "ignore_class": space.ignore_class,
        "palette": splits[0].palette,
        "channels": recipe.channels,
    }

    def check():
        with progress_bar("checking files", sum(map(len, (training, *validation)))) as advance:
            rules["progress"] = lambda done, of: advance()
            for pairs, counts in zip((training, *validation), pixels, strict=False):
                check_pairs(pairs, **rules, pixels=counts)

    processes.all_or_none(check)
    pixels = processes.sum_of_all(pixels)
    for split, counts, name in zip(splits, pixels, ("training", "validation"), strict=True):
        if split is not None and not counts[:-1].any():
            raise ValueError(
                f"The {name} label maps must show a class. Received: every pixel is "
                f"ignore_class={space.ignore_class}."
            )
    *of_classes, ignored = map(int, pixels[0])
    # The class weights warn of it, too.
    if rank == 0 and recipe.class_weights is None:
        _warn_of_unseen_classes(of_classes, ignored, space)


def _warn_of_unseen_classes(pixels, ignored, space):
    unseen = [name for name, count in zip(space.class_names, pixels, strict=True) if not count]
    if not unseen:
        return
    names = ", ".join(unseen[:_NUM_NAMES]) + ", ..." * (len(unseen) > _NUM_NAMES)
    message = (
        f"No pixel of the training label maps shows {len(unseen)} of {space.num_classes} classes, "
        f"which the model cannot learn: {names}."
    )
    if ignored:
        share = ignored / (sum(pixels) + ignored)
        message += f" {share:.0%} of the pixels are ignore_class={space.ignore_class}."
    warnings.warn(message, stacklevel=3)


def _space_of_files(recipe):
    """Without the `ignore_class` for new pixels, which must not occur in files."""
    return choose(recipe.label_space, recipe.num_classes, recipe.ignore_class)


def _with_ignore_class(space):
    """Returns the label space, with 255 for new pixels if it has no `ignore_class`."""
    if space.ignore_class is not None:
        return space
    ignore_class = next(
        value for value in (255, 65535, -1) if value not in range(space.num_classes)
    )
    return dataclasses.replace(space, ignore_class=ignore_class)


def _named_splits(recipe, label_space):
    place = {"data_dir": recipe.data_dir, "manual_dir": recipe.manual_dir}
    kinds = {"modalities": recipe.modalities, "tasks": recipe.tasks}
    joint = None
    if len(recipe.tasks) > 1:
        joint = JointClasses({task: label_space_of(recipe.data, task) for task in recipe.tasks})
        label_space = joint.label_space
    splits = [None, None]
    for number, name in enumerate((recipe.train_split, recipe.val_split)):
        if name is not None:
            examples = load(recipe.data, name, **kinds, **place)
            splits[number] = Split(
                examples if joint is None else _joined(examples, joint),
                label_space,
                {"name": recipe.data, "split": name, **place},
                channels=recipe.num_channels,
                joint=joint,
            )
    return tuple(splits)


def _joined(examples, joint):
    elements, read = parts(examples)

    def read_joined(element):
        example = read(element)
        return {**example, "label_map": joint.join(example["label_map"])}

    return read_later(elements, read_joined)


def _folder_splits(recipe, label_space):
    folders = (recipe.images, recipe.labels), (recipe.val_images, recipe.val_labels)
    # A split may lie in a subfolder of the other one.
    of_val = [folder for folder in folders[1] if folder is not None]
    pairs: list[Sequence[Pair]] = [find_pairs(*folders[0], recursive=True, without=of_val)]
    palette = label_space.colours if recipe.palette else None
    if recipe.val_images is not None:
        pairs.append(find_pairs(*folders[1], recursive=True, without=folders[0]))
    elif recipe.holds_out:
        pairs = [*hold_out(pairs[0], recipe, _space_of_files(recipe), palette)]
    images = recipe.images, recipe.val_images or recipe.images
    splits = [
        Split(split, label_space, palette=palette, channels=recipe.channels, images=folder)
        for split, folder in zip(pairs, images, strict=False)
    ]
    return splits[0], splits[1] if len(splits) > 1 else None


def _check_named(recipe):
    for name in (
        *("images", "labels", "val_images", "val_labels"),
        *("label_space", "num_classes", "ignore_class"),
    ):
        if getattr(recipe, name) is not None:
            raise ValueError(
                f"`data` must be used without `{name}`. Received: data={recipe.data!r}, "
                f"{name}={getattr(recipe, name)!r}."
            )
    if recipe.palette:
        raise ValueError(
            "`palette` (--palette) must be used with `labels`, not with a data set by name. "
            f"Received: data={recipe.data!r}."
        )


def _check_folders(recipe):
    if recipe.images is None or recipe.labels is None:
        raise ValueError(
            "Either `data` or both `images` and `labels` (--images, --labels) must be given. "
            f"Received: images={recipe.images!r}, labels={recipe.labels!r}."
        )
    if recipe.manual_dir is not None or recipe.data_dir is not None:
        raise ValueError(
            "`manual_dir` and `data_dir` must be used with a data set by name, not with folders. "
            f"Received: images={recipe.images!r}."
        )
    if (recipe.val_images is None) != (recipe.val_labels is None):
        raise ValueError(
            "`val_images` and `val_labels` (--val-images, --val-labels) must be given together. "
            f"Received: val_images={recipe.val_images!r}, val_labels={recipe.val_labels!r}."
        )
