"""The examples that a recipe learns from and is scored on."""

import dataclasses
import zlib
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from keras_fcn.data import batches
from keras_fcn.data.check import median_frequency, warn_of_absent_classes
from keras_fcn.data.examples import Palette, check_pairs
from keras_fcn.data.files import Pair, find_pairs
from keras_fcn.data.loading import load
from keras_fcn.data.named import example_names, label_space_of, version_of
from keras_fcn.data.transforms import photometric_jitter, random_crop, random_flip, random_scale
from keras_fcn.distribution import processes
from keras_fcn.label_spaces import LabelSpace, choose
from keras_fcn.training.progress import progress_bar
from keras_fcn.training.recipe import Recipe


@dataclasses.dataclass(frozen=True)
class Split:
    """Examples and what they are called.

    Args:
        examples: Pairs of files, or a dataset as from `keras_fcn.data.load`.
        label_space: The `LabelSpace` of the label maps, or of what becomes of them: with an
            `ignore_class` for the padding of crops where the files have none.
        palette: Colours of true-colour label maps, for pairs.
        source: The split of a data set by name and where it lies, as in `load_named`; `None` for
            pairs.
    """

    examples: Sequence[Pair] | tf.data.Dataset
    label_space: LabelSpace
    source: dict | None = None
    palette: Palette | None = None

    def __len__(self):
        return len(self.examples)

    def names(self) -> list[str]:
        """Returns what the examples are called, without folder, in their order."""
        if self.source is None:
            return [pair.image.name for pair in self.examples]
        return example_names(**self.source)

    def fingerprint(self) -> str:
        """Returns how many examples there are, and a sum over the names of files, in their order.

        A data set by name is told by its name and version.
        """
        if self.source is None:
            told = "\n".join(f"{pair.image.name} {pair.label_map.name}" for pair in self.examples)
            checksum = zlib.crc32(told.encode(errors="surrogateescape"))
            return f"{len(self)} training images, names {checksum:08x}"
        name, split = self.source["name"], self.source["split"]
        version = version_of(name, self.source["data_dir"])
        return f"{len(self)} training images, {name} {version}, {split}"

    def batches(self, shard: tuple[int, int] = (0, 1)) -> tf.data.Dataset:
        """Returns batches of one example, in order and unchanged: of a process, its own."""
        return batches.evaluation_batches(
            self.examples, **self.classes, palette=self.palette, shard=shard
        )

    def training_batches(
        self, recipe: Recipe, epoch: int, first_step: int, shard: tuple[int, int] = (0, 1)
    ) -> tf.data.Dataset:
        """Returns the batches of one epoch of a recipe, from number `first_step` on.

        `shard` is (index, count) of the processes that share each batch.
        """
        return batches.training_batches(
            self.examples,
            **self.classes,
            palette=self.palette,
            batch_size=recipe.batch_size // shard[1],
            shard=shard,
            seed=recipe.seed,
            transforms=transforms(recipe, self.label_space.ignore_class),
            first_epoch=epoch,
            first_step=first_step,
        )

    def names_of_batch(self, recipe: Recipe, epoch: int, step: int) -> list[str]:
        """Returns what the examples of one training batch are called."""
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
        """Returns the weights of the classes by median frequency.

        Warns of classes that never occur, whose weight is 0. Several processes count their shares
        and must call this alike.
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
        if processes.index() == 0:
            warn_of_absent_classes(pixels, self.label_space.class_names)
        return median_frequency(pixels, pixels_where_present)

    @property
    def classes(self) -> dict[str, int | None]:
        """The number of classes and the ignored one, as batches and checks take them."""
        space = self.label_space
        return {"num_classes": space.num_classes, "ignore_class": space.ignore_class}


def open_splits(recipe: Recipe) -> tuple[Split, Split | None]:
    """Returns what a recipe learns from and what it validates on; `check_files` reads them.

    Data sets by name are downloaded and built where that has not been done.

    Raises:
        FileNotFoundError, ValueError: If files are missing, or if the recipe does not say which.
    """
    if recipe.data is not None:
        _check_named(recipe)
        label_space, open_them = label_space_of(recipe.data), _named_splits
    else:
        _check_folders(recipe)
        label_space = choose(recipe.label_space, recipe.num_classes, recipe.ignore_class)
        if recipe.crop is not None:
            label_space = _with_ignore_class(label_space)
        open_them = _folder_splits
    # Before the minutes that a download takes.
    transforms(recipe, label_space.ignore_class)
    return open_them(recipe, label_space)


def check_files(splits: Sequence[Split | None], recipe: Recipe) -> None:
    """Reads every pair of files once; several processes read their shares, and call this alike.

    Data sets by name were checked when they were built.

    Args:
        splits: As from `open_splits`.
        recipe: Their recipe.

    Raises:
        FileNotFoundError, ValueError: If a file cannot be used, in every process.
    """
    if splits[0].source is not None:
        return
    index, count = processes.shard()
    pairs = [pair for split in splits if split is not None for pair in split.examples]
    share = pairs[index::count]
    # What stands for the padding of crops must not occur in files.
    space = choose(recipe.label_space, recipe.num_classes, recipe.ignore_class)
    rules = {
        "num_classes": space.num_classes,
        "ignore_class": space.ignore_class,
        "palette": splits[0].palette,
    }

    def check():
        with progress_bar("checking files", len(share)) as advance:
            check_pairs(share, **rules, progress=lambda done, of: advance())

    processes.all_or_none(check)


def transforms(recipe: Recipe, ignore_class: int | None) -> list:
    """Returns the random changes of a recipe, in their order.

    Raises:
        ValueError: If there is a crop and no ignored class for the padding of small images, or a
            setting is not as the transform needs it.
    """
    chosen = []
    if recipe.random_scale is not None:
        chosen.append(random_scale(*recipe.random_scale))
    if recipe.crop is not None:
        if ignore_class is None:
            raise ValueError(
                "`crop` must go with an ignored class for the padding of small images. "
                f"Received: crop={recipe.crop}, ignore_class=None."
            )
        chosen.append(random_crop(*recipe.crop, ignore_class))
    if recipe.flip:
        chosen.append(random_flip)
    if recipe.jitter:
        chosen.append(photometric_jitter())
    return chosen


def _with_ignore_class(space):
    """The label space, with 255 for the padding of crops if it has no ignored class."""
    if space.ignore_class is not None:
        return space
    ignore_class = next(
        value for value in (255, 65535, -1) if value not in range(space.num_classes)
    )
    return dataclasses.replace(space, ignore_class=ignore_class)


def _named_splits(recipe, label_space):
    place = {"data_dir": recipe.data_dir, "manual_dir": recipe.manual_dir}
    splits = [None, None]
    for number, name in enumerate((recipe.train_split, recipe.val_split)):
        if name is not None:
            splits[number] = Split(
                load(recipe.data, name, **place),
                label_space,
                {"name": recipe.data, "split": name, **place},
            )
    return tuple(splits)


def _folder_splits(recipe, label_space):
    pairs = [find_pairs(recipe.images, recipe.labels)]
    if recipe.val_images is not None:
        pairs.append(find_pairs(recipe.val_images, recipe.val_labels))
    palette = label_space.palette if recipe.palette else None
    splits = [Split(split, label_space, palette=palette) for split in pairs]
    return splits[0], splits[1] if len(splits) > 1 else None


def _check_named(recipe):
    for name in (
        *("images", "labels", "val_images", "val_labels"),
        *("label_space", "num_classes", "ignore_class"),
    ):
        if getattr(recipe, name) is not None:
            raise ValueError(
                "`data` must stand without folders and classes of its own. Received: "
                f"data={recipe.data!r} and {name}."
            )
    if recipe.palette:
        raise ValueError(
            "`palette` (--palette) must go with `labels`, not with a data set by name. Received: "
            f"data={recipe.data!r}."
        )


def _check_folders(recipe):
    if recipe.images is None or recipe.labels is None:
        raise ValueError(
            "Either `data` or both `images` and `labels` (--images, --labels) must be given."
        )
    if recipe.manual_dir is not None or recipe.data_dir is not None:
        raise ValueError(
            "`manual_dir` and `data_dir` must go with a data set by name, not with folders. "
            f"Received: images={recipe.images!r}."
        )
    if (recipe.val_images is None) != (recipe.val_labels is None):
        raise ValueError(
            "`val_images` and `val_labels` (--val-images, --val-labels) must be given together."
        )
