"""The data augmentation of a recipe."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from keras_fcn.data.transforms import (
    MixingTransform,
    Transform,
    as_transform,
    class_mix,
    cutout,
    gaussian_blur,
    gaussian_noise,
    photometric_jitter,
    random_crop,
    random_flip,
    random_resized_crop,
    random_rotation,
    random_scale,
)
from keras_fcn.label_spaces import LabelSpace
from keras_fcn.training.recipe import Recipe

Augmenter = Transform | MixingTransform | Callable[..., Any]
"""A transform, or what `keras_fcn.data.transforms.as_transform` takes."""


def transforms(
    recipe: Recipe,
    label_space: LabelSpace,
    extra: Sequence[Augmenter] = (),
) -> list[Transform | MixingTransform]:
    """Returns the data augmentation of a recipe, in its order.

    Sizes come first, so that the others compute on few pixels; pasting comes before the colours, so
    that both parts of an image change alike; what is erased has neither blur nor noise.

    Args:
        recipe: The recipe.
        label_space: Classes that the recipe names, and the `ignore_class` of new pixels.
        extra: Augmentation that follows that of the recipe: transforms, or anything that
            `as_transform` takes.

    Raises:
        ValueError: If there is a crop or a rotation but no `ignore_class` for new pixels, a class
            is none of the label space, or a setting is invalid for its transform.
    """
    chosen: list[Transform | MixingTransform] = []
    if recipe.random_scale is not None:
        chosen.append(random_scale(*recipe.random_scale))
    if recipe.rotation is not None:
        ignore_class = _ignore_class_for("rotation", "new pixels", recipe, label_space)
        chosen.append(random_rotation(-recipe.rotation, recipe.rotation, ignore_class))
    if recipe.crop is not None:
        ignore_class = _ignore_class_for("crop", "the padding of small images", recipe, label_space)
        rare = _class_ids("crop_classes", recipe, label_space)
        chosen.append(
            random_crop(*recipe.crop, ignore_class, classes=rare, share=recipe.crop_classes_share)
        )
    if recipe.random_resized_crop is not None:
        smallest, largest = recipe.random_resized_crop_area
        chosen.append(
            random_resized_crop(
                *recipe.random_resized_crop, smallest_area=smallest, largest_area=largest
            )
        )
    if recipe.flip:
        chosen.append(random_flip)
    if recipe.class_mix is not None:
        rare = _class_ids("class_mix", recipe, label_space)
        chosen.append(class_mix(rare, probability=recipe.class_mix_share))
    if recipe.jitter:
        chosen.append(photometric_jitter())
    if recipe.blur is not None:
        chosen.append(gaussian_blur(0.0, recipe.blur))
    if recipe.noise is not None:
        chosen.append(gaussian_noise(0.0, recipe.noise))
    if recipe.cutout is not None:
        chosen.append(cutout(*recipe.cutout))
    return [*chosen, *(_as_transform(each, label_space) for each in extra)]


def _ignore_class_for(name, purpose, recipe, label_space):
    if label_space.ignore_class is None:
        raise ValueError(
            f"`{name}` must be used with an `ignore_class` for {purpose}. "
            f"Received: {name}={getattr(recipe, name)}, ignore_class=None."
        )
    return label_space.ignore_class


def _class_ids(name, recipe, label_space):
    """Returns the ids of the classes that a setting names."""
    try:
        return [label_space.class_id(wanted) for wanted in getattr(recipe, name) or ()]
    except ValueError as error:
        raise ValueError(f"`{name}` must hold classes of the data: {error}") from None


def _as_transform(augmenter, label_space):
    """Returns a transform, which takes a seed, as it is, and adapts anything else."""
    if isinstance(augmenter, MixingTransform):
        return augmenter
    if inspect.isfunction(augmenter) and "seed" in inspect.signature(augmenter).parameters:
        return augmenter
    return as_transform(augmenter, ignore_class=label_space.ignore_class)
