"""What a training run is made of: recipes, and what of them is written and read."""

import dataclasses
import difflib
import math
import numbers
import os
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from keras_fcn.models.fcn import FCN8s, FCN16s, FCN32s
from keras_fcn.models.vgg16 import VGG16_FILTERS

MODELS = {"fcn32s": FCN32s, "fcn16s": FCN16s, "fcn8s": FCN8s}
_CHOICES = {
    "model": tuple(MODELS),
    "padding": ("paper", "same"),
    "precision": ("float32", "mixed_bfloat16", "mixed_float16"),
    "freeze": (None, "backbone", "block1", "block2", "block3", "block4", "block5"),
    "loss": ("cross_entropy", "focal"),
    "region_loss": (None, "dice", "lovasz_softmax"),
    "class_weights": (None, "median_frequency"),
    "normalization": ("valid_pixels", "sum"),
    "optimizer": ("adamw", "coupled_sgd"),
    "schedule": ("constant", "cosine"),
}
_COUNTS = ("fc_units", "batch_size", "accumulate", "epochs", "steps", "validate_every")
PATHS = ("data_dir", "manual_dir", "images", "labels", "val_images", "val_labels")
# Rates below this learn nothing of a mean over pixels: the paper's are 1e-10 to 1e-14.
_LEAST_RATE_OF_A_MEAN = 1e-8


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """A training run: its data, its model, how it learns, and how it is scored.

    Args:
        data: Name of a data set, see `keras_fcn.data.load_named`; `None` for the folders below.
        train_split: Split of `data` to learn from.
        val_split: Split of `data` to validate on; `None` to go without.
        data_dir: Where TFDS keeps `data`.
        manual_dir: Where files of `data` lie that you fetched yourself.
        images: Folder of images to learn from, instead of `data`.
        labels: Folder of their label maps.
        val_images: Folder of images to validate on, or `None`.
        val_labels: Folder of their label maps.
        label_space: Name of a label space, such as `"camvid"`, or a .toml or .json file; for
            folders. (`data` brings its own.)
        num_classes: Number of classes; for folders, instead of `label_space`.
        ignore_class: Class id of pixels to leave out; with `num_classes`.
        palette: Whether label maps hold the colours of `label_space`, see
            `keras_fcn.data.examples.read_label_map`; for folders.
        model: `"fcn32s"`, `"fcn16s"` or `"fcn8s"`.
        weights: What to start from, as in the models: `None`, a name such as `"imagenet"`, a file.
        padding: As in the models.
        filters: As in the models.
        fc_units: As in the models.
        dropout_rate: As in the models.
        skip_scales: As in the models.
        mean: As in the models: (blue, green, red), or `None`.
        trainable_upsampling: As in the models.
        freeze: `"backbone"` trains the score layers alone; `"block2"` freezes the convolutions up
            to the second block; `None` trains everything.
        deep_supervision: Weight of the loss of each coarser head, see
            `keras_fcn.models.deep_supervision`; 0 for none.
        precision: dtype policy: `"float32"`, `"mixed_bfloat16"` or `"mixed_float16"`.
        loss: `"cross_entropy"` or `"focal"`.
        region_loss: `"dice"` or `"lovasz_softmax"`, which is added; `None` for neither.
        region_loss_weight: Weight of the `region_loss`.
        class_weights: `"median_frequency"` weights the pixels of `loss` by class; `None` does not.
        class_weights_power: Power of these weights: 0.5 brings them half the way to 1.
        normalization: What the loss of a batch is: `"valid_pixels"`, the mean over the pixels that
            count; or `"sum"`, over all of them, as in the paper.
        optimizer: `"adamw"`, or `"coupled_sgd"` with the paper's multipliers of biases.
        learning_rate: Its peak.
        momentum: Of `"coupled_sgd"`.
        weight_decay: Of the kernels; biases do not decay.
        schedule: `"constant"`, or `"cosine"` that ends at 0.
        warmup: Share of all steps during which the rate rises linearly to its peak.
        ema: Decay per step of a moving average of the weights, which is what is validated and
            kept; `None` for none.
        batch_size: Images per step.
        accumulate: Steps whose gradients make one update.
        epochs: Passes over the training images; `None` if `steps` says when to stop.
        steps: Batches to learn from.
        flip: Whether half of the images are mirrored.
        scale: Smallest and largest factor of a random resizing, or `None`.
        crop: Height and width of a random window, or `None` for whole images. Smaller images are
            padded with pixels that do not count.
        jitter: Whether colours change at random.
        validate_every: Epochs between two validations; the last epoch always validates.
        test_scales: Factors of the resized images over which final predictions are averaged.
        test_flip: Whether they are averaged with those of mirrored images, too.
        seed: Of initial values, order, transforms and dropout.

    Raises:
        ValueError: If a setting is not as described, or two do not go together.
    """

    data: str | None = None
    train_split: str = "train"
    val_split: str | None = "validation"
    data_dir: str | None = None
    manual_dir: str | None = None
    images: str | None = None
    labels: str | None = None
    val_images: str | None = None
    val_labels: str | None = None
    label_space: str | None = None
    num_classes: int | None = None
    ignore_class: int | None = None
    palette: bool = False
    model: str = "fcn8s"
    weights: str | None = None
    padding: str = "paper"
    filters: tuple[int, int, int, int, int] = VGG16_FILTERS
    fc_units: int = 4096
    dropout_rate: float = 0.5
    skip_scales: tuple[float, float] | None = None
    mean: tuple[float, float, float] | None = None
    trainable_upsampling: bool = False
    freeze: str | None = None
    deep_supervision: float = 0.0
    precision: str = "float32"
    loss: str = "cross_entropy"
    region_loss: str | None = None
    region_loss_weight: float = 1.0
    class_weights: str | None = None
    class_weights_power: float = 1.0
    normalization: str = "valid_pixels"
    optimizer: str = "adamw"
    learning_rate: float = 1e-4
    momentum: float = 0.99
    weight_decay: float = 1e-4
    schedule: str = "cosine"
    warmup: float = 0.05
    ema: float | None = None
    batch_size: int = 1
    accumulate: int = 1
    epochs: int | None = 10
    steps: int | None = None
    flip: bool = True
    scale: tuple[float, float] | None = None
    crop: tuple[int, int] | None = None
    jitter: bool = False
    validate_every: int = 1
    test_scales: tuple[float, ...] = (1.0,)
    test_flip: bool = False
    seed: int = 0

    def __post_init__(self):
        for name, kind in _field_types().items():
            object.__setattr__(self, name, _converted(name, getattr(self, name), kind))
        for name, choices in _CHOICES.items():
            shown = ", ".join(map(str, choices)).replace("None", "none")
            self._require(getattr(self, name) in choices, name, f"one of {shown}")
        self._require(min(self.filters) >= 1, "filters", "at least 1 each")
        for name in _COUNTS:
            value = getattr(self, name)
            self._require(value is None or value >= 1, name, "at least 1")
        self._require(self.learning_rate > 0, "learning_rate", "greater than 0")
        self._require(0 <= self.momentum < 1, "momentum", "at least 0 and less than 1")
        self._require(0 <= self.warmup < 1, "warmup", "at least 0 and less than 1")
        self._require(0 <= self.dropout_rate < 1, "dropout_rate", "at least 0 and less than 1")
        self._require(
            self.num_classes is None or self.num_classes >= 2, "num_classes", "at least 2"
        )
        self._require(
            self.crop is None or min(self.crop) >= 1, "crop", "a height and a width of at least 1"
        )
        self._require(
            self.scale is None or 0 < self.scale[0] <= self.scale[1],
            "scale",
            "a smallest factor, greater than 0, and a largest",
        )
        self._require(
            not self.deep_supervision or self.model != "fcn32s",
            "deep_supervision",
            "0 for fcn32s, which has no coarser head",
        )
        self._require(self.ema is None or 0 < self.ema < 1, "ema", "greater than 0 and less than 1")
        for name in (
            *("weight_decay", "seed", "deep_supervision"),
            *("region_loss_weight", "class_weights_power"),
        ):
            self._require(getattr(self, name) >= 0, name, "at least 0")
        self._require(
            bool(self.test_scales) and min(self.test_scales) > 0,
            "test_scales",
            "numbers greater than 0",
        )
        if (self.epochs is None) == (self.steps is None):
            raise ValueError(
                "One of `epochs` and `steps` must be given, the other be none. "
                f"Received: epochs={self.epochs}, steps={self.steps}."
            )
        self._check_normalization()

    def _require(self, condition, name, rule):
        if not condition:
            raise ValueError(f"`{name}` must be {rule}. Received: {name}={getattr(self, name)!r}.")

    def _check_normalization(self):
        if self.normalization == "sum":
            mean_losses = {
                "loss": "cross_entropy",
                "region_loss": None,
                "class_weights": None,
            }
            for name, value in mean_losses.items():
                if getattr(self, name) != value:
                    raise ValueError(
                        f"`normalization='sum'` must go with {name}={value}: the sum is that of "
                        f"the paper's cross-entropy. Received: {name}={getattr(self, name)!r}."
                    )
        elif self.learning_rate < _LEAST_RATE_OF_A_MEAN:
            raise ValueError(
                "`learning_rate` must be at least 1e-8 for the mean over pixels "
                "(normalization='valid_pixels'): the paper's rates of 1e-10 to 1e-14 are for the "
                "sum over all pixels, and one of 1e-10 amounts to 2.5e-05 of the mean at 500x500. "
                f"Received: learning_rate={self.learning_rate:g}. Set normalization='sum', or "
                "multiply the rate by the number of pixels."
            )

    @property
    def views_differ(self) -> bool:
        """Whether final predictions are averaged over more than the image itself."""
        return self.test_flip or self.test_scales != (1.0,)

    def mean_loss_rate(self, height: int, width: int) -> float:
        """Returns the rate of the mean loss that a summed one amounts to, at an image's size.

        Examples:
            >>> recipe = Recipe(optimizer="coupled_sgd", normalization="sum", learning_rate=1e-10)
            >>> recipe.mean_loss_rate(500, 500)
            2.5e-05
        """
        return self.learning_rate * height * width * self.batch_size * self.accumulate

    def num_steps(self, num_examples: int) -> int:
        """Returns the number of batches that the run learns from."""
        return self.steps or self.epochs * self.steps_per_epoch(num_examples)

    def steps_per_epoch(self, num_examples: int) -> int:
        """Returns the number of batches of an epoch, the last of which may be smaller."""
        return math.ceil(num_examples / self.batch_size)

    def with_absolute_paths(self) -> "Recipe":
        """Returns the recipe as it can be repeated from any folder."""
        changes = {name: getattr(self, name) for name in PATHS}
        # A folder may be called as weights or models are.
        if self.weights is not None and Path(self.weights).is_file():
            changes["weights"] = self.weights
        if self.label_space is not None and self.label_space.endswith((".toml", ".json")):
            changes["label_space"] = self.label_space
        paths = {name: os.path.abspath(path) for name, path in changes.items() if path is not None}
        return dataclasses.replace(self, **paths)


@dataclasses.dataclass(frozen=True, kw_only=True)
class StagedRecipe:
    """Recipes in turn, each of which starts from the best model of the one before.

    Args:
        stages: Dictionary from the name of each stage, which its folder is called, to its recipe.

    Raises:
        ValueError: If there is no stage.
    """

    stages: Mapping[str, Recipe]

    def __post_init__(self):
        if not self.stages:
            raise ValueError(f"`stages` must hold at least one recipe. Received: {self.stages}.")


def replace(recipe: Recipe | StagedRecipe, **changes: Any) -> Recipe | StagedRecipe:
    """Returns the recipe with other settings; those of every stage of a staged one.

    Raises:
        ValueError: If there is no such setting, or a value is not as `Recipe` describes.
    """
    if isinstance(recipe, StagedRecipe):
        stages = {name: replace(stage, **changes) for name, stage in recipe.stages.items()}
        return dataclasses.replace(recipe, stages=stages)
    if unknown := sorted(changes.keys() - _field_types().keys()):
        alike = difflib.get_close_matches(unknown[0], _field_types(), n=1)
        raise ValueError(
            f"{unknown[0]!r} is no setting of a recipe. "
            + (f"Did you mean {alike[0]!r}? " if alike else "")
            + f"The settings are {', '.join(_field_types())}."
        )
    # Who says how long to train says so in one of the two.
    if changes.get("steps") is not None:
        changes = {"epochs": None, **changes}
    elif changes.get("epochs") is not None:
        changes = {"steps": None, **changes}
    return dataclasses.replace(recipe, **changes)


def as_settings(recipe: Recipe) -> dict[str, Any]:
    """Returns all settings of a recipe by name."""
    return {name: getattr(recipe, name) for name in _field_types()}


def from_settings(settings: Mapping[str, Any]) -> Recipe:
    """Returns the recipe of some settings; one that may be `None` and is not there is `None`.

    Raises:
        ValueError: If there is no such setting, or a value is not as `Recipe` describes.
    """
    absent = {
        name: None for name, kind in _field_types().items() if type(None) in typing.get_args(kind)
    }
    return replace(Recipe(), **(absent | dict(settings)))


def _field_types():
    return typing.get_type_hints(Recipe)


def _converted(name, value, kind):
    """The value as its type says, from what TOML, JSON or a caller write for it."""
    kinds = typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)
    if value is None and type(None) in kinds:
        return None
    kind = next(k for k in kinds if k is not type(None))
    if typing.get_origin(kind) is tuple:
        items = typing.get_args(kind)
        any_length = items[-1] is Ellipsis
        if isinstance(value, list | tuple) and (any_length or len(value) == len(items)):
            return tuple(_converted(name, item, items[0]) for item in value)
        rule = "a list of numbers" if any_length else f"{len(items)} numbers"
    elif kind is float and isinstance(value, numbers.Real) and not isinstance(value, bool):
        if math.isfinite(value):
            return float(value)
        rule = "a finite number"
    elif kind is int and isinstance(value, numbers.Integral) and not isinstance(value, bool):
        return int(value)
    elif isinstance(value, kind) and kind is not int:
        return value
    else:
        rule = {str: "a text", int: "an integer", float: "a number", bool: "true or false"}[kind]
    raise ValueError(f"`{name}` must be {rule}. Received: {name}={value!r}.")
