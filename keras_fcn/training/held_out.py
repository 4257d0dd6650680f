"""Validation images that are held out of a recipe's training images."""

import warnings
from collections.abc import Sequence

from keras_fcn.data.files import Pair, name_in
from keras_fcn.data.label_map_files import Palette
from keras_fcn.data.partition import count_pixels, groups_of, partition, series_of
from keras_fcn.label_spaces import LabelSpace
from keras_fcn.spelling import counted
from keras_fcn.training.progress import progress_bar
from keras_fcn.training.recipe import Recipe


def hold_out(
    pairs: Sequence[Pair], recipe: Recipe, label_space: LabelSpace, palette: Palette | None
) -> tuple[list[Pair], list[Pair]]:
    """Returns the training and the validation pairs by `val_share`, or by `folds` and `fold`.

    Args:
        pairs: All pairs.
        recipe: The recipe.
        label_space: Label space of the files.
        palette: Colours of true-colour label maps.

    Raises:
        ValueError: If a label map cannot be used, or there are too few images or groups.
    """
    names = [name_in(recipe.images, pair.image.with_suffix("")) for pair in pairs]  # type: ignore
    if recipe.group_by is None and (series := series_of(names)) is not None:
        warnings.warn(
            f"Images such as {series[0]} and {series[1]} differ only in their number. If they are "
            "frames of one video, keep them in one split, or the validation scores are too good: "
            r"pass `group_by` (--group-by), such as '^(.*?)\d+\D*$'.",
            stacklevel=2,
        )
    groups = groups_of(names, recipe.group_by)
    if recipe.val_share is not None:
        shares, held_out = [1 - recipe.val_share, recipe.val_share], 1
    else:
        shares, held_out = [1 / recipe.folds] * recipe.folds, recipe.fold - 1  # type: ignore
    with progress_bar("counting classes", len(pairs)) as advance:
        counts = count_pixels(pairs, label_space, palette, advance)
    parts = partition(counts, groups, shares)
    validation = set(parts[held_out])
    share, found = shares[held_out], len(validation) / len(pairs)
    if recipe.group_by is not None and abs(found - share) > share / 2:
        count = f"{len(validation)} of {counted(len(pairs), 'image')}"
        warnings.warn(
            f"{count} are held out, {found:.0%} instead of {share:.0%}, because each group of "
            "`group_by` stays in one part. For another share, pass validation images of "
            "your own (--val-images, --val-labels).",
            stacklevel=2,
        )
    return (
        [pair for number, pair in enumerate(pairs) if number not in validation],
        [pairs[number] for number in parts[held_out]],
    )
