"""A recipe is everything that a training run is made of; its settings are declared here, once."""

import dataclasses
import inspect
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from keras_fcn.io import hub
from keras_fcn.label_spaces import NAMES
from keras_fcn.spec import MODALITIES, MODEL_NAMES, SEMANTIC, TASKS, VGG16_FILTERS
from keras_fcn.spelling import proposal
from keras_fcn.training.contradictions import check_settings
from keras_fcn.training.settings import Setting, as_arguments, setting, settings_of


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """A training run: its data, its model, how it is trained, and how it is scored.

    Raises:
        ValueError: If a setting is not valid, or two settings contradict each other.
    """

    data: str | None = setting(
        None,
        help="name of a data set, see `keras_fcn.data.load`; none for folders of files, "
        "whose classes are `label_space` or `num_classes`",
    )
    train_split: str = setting("train", help="split of `data` to train on")
    val_split: str | None = setting(
        "validation", help="split of `data` to validate on; none for no validation"
    )
    data_dir: str | None = setting(
        None, help="folder in which TFDS keeps data sets", is_folder=True, option=True
    )
    manual_dir: str | None = setting(
        None,
        help="folder of the files of `data` that you downloaded yourself",
        is_folder=True,
        option=True,
    )
    images: str | None = setting(
        None, help="folder of training images, instead of `data`", is_folder=True, option=True
    )
    labels: str | None = setting(
        None, help="folder of their label maps, of the same names", is_folder=True, option=True
    )
    val_images: str | None = setting(
        None, help="folder of validation images", is_folder=True, option=True
    )
    val_labels: str | None = setting(
        None, help="folder of their label maps", is_folder=True, option=True
    )
    val_share: float | None = setting(
        None,
        help="fraction of the training images that is held out for validation, with similar "
        "classes, instead of `val_images`",
        above=0,
        below=1,
        option=True,
        metavar="SHARE",
    )
    folds: int | None = setting(
        None,
        help="number of parts of similar classes for a cross-validation, one of which is held out, "
        "instead of `val_images`",
        minimum=2,
        option=True,
        metavar="N",
    )
    fold: int | None = setting(
        None,
        help="which of the `folds` is held out for validation, from 1",
        minimum=1,
        option=True,
        metavar="K",
    )
    group_by: str | None = setting(
        None,
        help="regular expression that is searched in the name of each image: images of which its "
        "first group matches the same, such as the frames of a video, stay in one part",
        option=True,
        metavar="REGEX",
    )
    label_space: str | None = setting(
        None,
        help=f"name of a label space ({', '.join(NAMES)}), or a .toml or .json file",
        option=True,
        metavar="NAME",
    )
    num_classes: int | None = setting(
        None,
        help="number of classes, instead of `label_space`",
        minimum=2,
        option=True,
    )
    ignore_class: int | None = setting(
        None,
        help="class id of ignored pixels, with `num_classes`",
        option=True,
        metavar="ID",
    )
    palette: bool = setting(
        False,
        help="whether label maps hold the colours of `label_space` instead of class ids",
        option=True,
    )
    channels: int = setting(
        3,
        help="channels of the images: 3 for RGB, 1 for grey, 4 for files of four channels",
        minimum=1,
        option=True,
        in_checkpoint=True,
    )
    modalities: tuple[str, ...] = setting(
        ("image",),
        help="features of `data` that the network takes, of `nyudv2`",
        choices=tuple(MODALITIES),
        in_checkpoint=True,
    )
    fusion: str = setting(
        "late",
        help="whether several `modalities` are joined before the first convolution, or the scores "
        "of a stream for each are averaged",
        choices=("early", "late"),
        in_checkpoint=True,
    )
    stream_weights: tuple[str, ...] | None = setting(
        None,
        help="initial weights of each stream of late fusion, in the order of `modalities`; none "
        "for `weights` in each",
        in_checkpoint=True,
    )
    tasks: tuple[str, ...] = setting(
        (SEMANTIC,),
        help="label maps of `data` that the network predicts, with a head for each; `geometric` "
        "of `sift_flow`",
        choices=TASKS,
        in_checkpoint=True,
    )
    model: str = setting(
        "fcn8s",
        help="the network; `fcn4s` needs a `backbone`",
        choices=MODEL_NAMES,
        option=True,
        in_checkpoint=True,
    )
    backbone: str | None = setting(
        None,
        help="network of `keras.applications` in place of VGG-16, such as `mobilenet_v2`",
        option=True,
        metavar="NAME",
        in_checkpoint=True,
    )
    head: str | None = setting(
        "conv",
        help="in front of the scores of a `backbone`: a 3x3 convolution, or the paper's fc6 and "
        "fc7, with `fc_units` outputs",
        choices=("conv", "fc"),
        in_checkpoint=True,
    )
    freeze_batch_norm: bool = setting(
        False,
        help="whether the batch normalization of a `backbone` keeps its statistics and weights, "
        "which few images in a batch would spoil",
        in_checkpoint=True,
    )
    weights: str | None = setting(
        None,
        help="initial weights: `imagenet`, `camvid`, `pascal_voc`, `pascal_voc_atonce`, a file, or "
        "`hf://OWNER/REPO/FILE@REVISION` for one of the Hugging Face Hub; "
        "with a `backbone`, `imagenet` or a file of an FCN on the same one; none for random values",
        option=True,
        metavar="WEIGHTS",
        in_checkpoint=True,
    )
    padding: str = setting(
        "paper",
        help="`paper` pads the image by 100 pixels, as published; `same` pads fc6 instead, which "
        "is faster",
        choices=("paper", "same"),
        option=True,
        in_checkpoint=True,
    )
    filters: tuple[int, int, int, int, int] = setting(
        VGG16_FILTERS,
        help="filters of the convolutions in each of VGG-16's five blocks",
        minimum=1,
        in_checkpoint=True,
    )
    fc_units: int = setting(
        4096,
        help="outputs of fc6 and of fc7",
        minimum=1,
        option=True,
        in_checkpoint=True,
    )
    fc6_kernel_size: int = setting(
        7,
        help="height and width of fc6's window in pixels of pool5; odd",
        minimum=1,
        in_checkpoint=True,
    )
    input_upsampling: int = setting(
        1,
        help="whole factor by which the image is enlarged before the network; 2 resolves objects "
        "of half the size for four times the arithmetic",
        minimum=1,
        in_checkpoint=True,
    )
    dropout_rate: float = setting(
        0.5,
        help="fraction of the outputs of fc6 and fc7 that training drops",
        minimum=0,
        below=1,
        in_checkpoint=True,
    )
    skip_scales: tuple[float, float] | None = setting(
        None,
        help="factors of pool4 and pool3 before their scores; none for those of published weights, "
        "else 1",
        in_checkpoint=True,
    )
    mean: tuple[float, ...] | None = setting(
        None,
        help="mean (blue, green, red) that preprocessing subtracts, or one number for each of the "
        "`channels` if they are not 3; none for that of published weights, else PASCAL VOC's",
        in_checkpoint=True,
    )
    trainable_upsampling: bool = setting(
        False,
        help="whether the transposed convolutions are trained",
        in_checkpoint=True,
    )
    freeze: str | None = setting(
        None,
        help="`backbone` trains only the score layers, and the `head` of a `backbone`; "
        "`block2` freezes the convolutions up to the second block; none trains everything",
        choices=("backbone", "block1", "block2", "block3", "block4", "block5"),
    )
    deep_supervision: float = setting(
        0.0,
        help="weight of the loss of each coarser head, see `keras_fcn.models.deep_supervision`; 0 "
        "for no such loss",
        minimum=0,
    )
    gradient_checkpointing: bool = setting(
        False,
        help="whether the backward pass recomputes the activations inside VGG-16's blocks instead "
        "of keeping them (rematerialization): the same gradients with less memory in more time",
        in_checkpoint=True,
    )
    precision: str = setting(
        "float32",
        help="dtype policy",
        choices=("float32", "mixed_bfloat16", "mixed_float16"),
        option=True,
        in_checkpoint=True,
    )
    loss: str = setting(
        "cross_entropy",
        help="loss of each pixel; `ohem` is the cross-entropy of the hardest pixels alone",
        choices=("cross_entropy", "focal", "ohem"),
    )
    ohem_threshold: float = setting(
        0.7,
        help="pixels whose class has a smaller probability are hard, with loss `ohem`",
        above=0,
        maximum=1,
    )
    ohem_min_kept: float = setting(
        1 / 16,
        help="smallest fraction of the pixels that loss `ohem` keeps, if fewer are hard",
        minimum=0,
        maximum=1,
    )
    region_loss: str | None = setting(
        None, help="loss of regions that is added to `loss`", choices=("dice", "lovasz_softmax")
    )
    region_loss_weight: float = setting(1.0, help="weight of `region_loss`", minimum=0)
    class_weights: str | None = setting(
        None,
        help="`median_frequency` weights the pixels of `loss` by class, against class imbalance",
        choices=("median_frequency",),
        in_checkpoint=True,
    )
    class_weights_power: float = setting(
        1.0,
        help="exponent of the class weights; 0.5 brings them closer to 1",
        minimum=0,
        in_checkpoint=True,
    )
    normalization: str = setting(
        "valid_pixels",
        help="`valid_pixels` takes the mean of the loss over the pixels that are not ignored; "
        "`sum` takes its sum, as in the paper",
        choices=("valid_pixels", "sum"),
    )
    optimizer: str = setting(
        "adamw",
        help="`coupled_sgd` is SGD with the paper's multipliers for biases",
        choices=("adamw", "coupled_sgd"),
    )
    learning_rate: float = setting(
        1e-4, help="peak of the learning rate", above=0, option=True, metavar="RATE"
    )
    momentum: float = setting(0.99, help="momentum of `coupled_sgd`", minimum=0, below=1)
    weight_decay: float = setting(
        1e-4,
        help="weight decay of the kernels; biases do not decay",
        minimum=0,
        option=True,
        metavar="DECAY",
    )
    schedule: str = setting(
        "cosine",
        help="course of the learning rate; `cosine` falls to 0 at the end",
        choices=("constant", "cosine"),
    )
    warmup: float = setting(
        0.05,
        help="fraction of all steps in which the rate rises linearly to its peak",
        minimum=0,
        below=1,
    )
    ema: float | None = setting(
        None,
        help="decay per step of a moving average of the weights, which is validated and saved; "
        "none for no average",
        above=0,
        below=1,
    )
    batch_size: int = setting(1, help="images per step", minimum=1, option=True)
    accumulate: int = setting(1, help="steps whose gradients make one update", minimum=1)
    epochs: int | None = setting(
        10, help="passes over the training images; none to give `steps`", minimum=1, option=True
    )
    steps: int | None = setting(None, help="batches to train on, instead of `epochs`", minimum=1)
    flip: bool = setting(True, help="whether half of the images are mirrored")
    random_scale: tuple[float, float] | None = setting(
        None,
        help="smallest and largest factor of a random resizing; none for no resizing",
        above=0,
        option=True,
        metavar=("MIN", "MAX"),
    )
    crop: tuple[int, int] | None = setting(
        None,
        help="height and width of a random window; none for whole images; smaller images are "
        "padded with ignored pixels",
        minimum=1,
        option=True,
        metavar=("HEIGHT", "WIDTH"),
    )
    crop_classes: tuple[str, ...] | None = setting(
        None,
        help="names or ids of rare classes: a share of the windows of `crop` is drawn around a "
        "pixel of one of them; none for windows anywhere",
        is_class=True,
        option=True,
        metavar="CLASS",
    )
    crop_classes_share: float = setting(
        1 / 3,
        help="fraction of the windows that is drawn around `crop_classes`",
        minimum=0,
        maximum=1,
        option=True,
        metavar="SHARE",
    )
    random_resized_crop: tuple[int, int] | None = setting(
        None,
        help="height and width to which a random part of the image is resized, instead of "
        "`random_scale` and `crop`; none for no such part",
        minimum=1,
        option=True,
        metavar=("HEIGHT", "WIDTH"),
    )
    random_resized_crop_area: tuple[float, float] = setting(
        (0.25, 1.0),
        help="smallest and largest part for `random_resized_crop`, as fractions of the image's "
        "area",
        above=0,
        maximum=1,
    )
    rotation: float | None = setting(
        None,
        help="largest angle in degrees of a random rotation, either way; new pixels are ignored; "
        "none for no rotation",
        above=0,
        maximum=180,
        option=True,
        metavar="DEGREES",
    )
    class_mix: tuple[str, ...] | None = setting(
        None,
        help="names or ids of rare classes whose pixels are pasted from another training image "
        "(ClassMix); none for no pasting",
        is_class=True,
        option=True,
        metavar="CLASS",
    )
    class_mix_share: float = setting(
        0.5, help="fraction of the images on which `class_mix` pastes", minimum=0, maximum=1
    )
    jitter: bool = setting(False, help="whether colours change at random", option=True)
    blur: float | None = setting(
        None,
        help="largest standard deviation in pixels of a random Gaussian blur; none for no blur",
        above=0,
        option=True,
        metavar="PIXELS",
    )
    noise: float | None = setting(
        None,
        help="largest standard deviation of random Gaussian noise, as a fraction of 255; none for "
        "no noise",
        above=0,
        maximum=1,
        option=True,
        metavar="FRACTION",
    )
    cutout: tuple[int, int] | None = setting(
        None,
        help="height and width of a rectangle that is erased from each image, but not from its "
        "label map; none for no rectangle",
        minimum=1,
        option=True,
        metavar=("HEIGHT", "WIDTH"),
    )
    validate_every: int = setting(
        1, help="epochs between two validations; the last epoch is always validated", minimum=1
    )
    patience: int | None = setting(
        None,
        help="epochs without a better validation mean IoU after which the run ends (early "
        "stopping); none to train all `epochs`",
        minimum=1,
        option=True,
        metavar="N",
    )
    test_scales: tuple[float, ...] = setting(
        (1.0,),
        help="factors of the resized images over which final predictions are averaged (test-time "
        "augmentation)",
        above=0,
    )
    test_flip: bool = setting(
        False, help="whether final predictions are averaged with those of the mirrored images"
    )
    seed: int = setting(
        0,
        help="seed of initial values, order, augmentation and dropout",
        minimum=0,
        maximum=2**32 - 1,
        option=True,
    )

    def __post_init__(self):
        for name, declared in SETTINGS.items():
            object.__setattr__(self, name, declared.checked(getattr(self, name)))
        check_settings(self, SETTINGS)

    @property
    def num_channels(self) -> int:
        """Number of channels of the images, of all `modalities` together."""
        if self.modalities == ("image",):
            return self.channels
        return sum(MODALITIES[modality] for modality in self.modalities)

    @property
    def views_differ(self) -> bool:
        """Whether final predictions are averaged over more than the image itself."""
        return self.test_flip or self.test_scales != (1.0,)

    def mean_loss_rate(self, height: int, width: int) -> float:
        """Returns the equivalent learning rate for a mean loss, at an image's size.

        Examples:
            >>> recipe = Recipe(optimizer="coupled_sgd", normalization="sum", learning_rate=1e-10)
            >>> recipe.mean_loss_rate(500, 500)
            2.5e-05
        """
        return self.learning_rate * height * width * self.batch_size * self.accumulate

    @property
    def holds_out(self) -> bool:
        """Whether validation images are held out of the training images."""
        return self.val_share is not None or self.folds is not None

    def num_steps(self, num_examples: int) -> int:
        """Returns the number of batches of the run."""
        return self.steps or self.epochs * self.steps_per_epoch(num_examples)  # type: ignore[operator]

    def steps_per_epoch(self, num_examples: int) -> int:
        """Returns the number of batches of an epoch, the last of which may be smaller."""
        return math.ceil(num_examples / self.batch_size)

    def with_absolute_paths(self) -> "Recipe":
        """Returns the recipe with absolute paths, so that it can be repeated from any folder.

        Weights of the Hugging Face Hub get the commit of their file, which is downloaded.
        """
        changes = {name: getattr(self, name) for name in PATHS}
        if self.label_space is not None and self.label_space.endswith((".toml", ".json")):
            changes["label_space"] = self.label_space
        paths: dict[str, Any] = {
            # Shells leave ~ in `--data-dir=~/data`.
            name: os.path.abspath(os.path.expanduser(path))
            for name, path in changes.items()
            if path is not None
        }
        if self.weights is not None:
            paths["weights"] = _fixed(self.weights)
        if self.stream_weights is not None:
            paths["stream_weights"] = tuple(map(_fixed, self.stream_weights))
        return dataclasses.replace(self, **paths)


def _fixed(weights):
    """Returns the absolute path of a file, the commit of one of the Hub, or a name as it is."""
    if hub.is_address(weights):
        return hub.pinned(weights)
    # A folder may have the name of weights or of a model.
    return os.path.abspath(weights) if Path(weights).is_file() else weights


SETTINGS: Mapping[str, Setting] = settings_of(Recipe)
"""The declared settings by name."""
PATHS = tuple(name for name, declared in SETTINGS.items() if declared.is_folder)
"""The settings that are paths of folders."""
# Python 3.13 removes the indentation of docstrings, Python 3.12 does not.
Recipe.__doc__ = inspect.cleandoc(Recipe.__doc__ or "").replace(
    "Raises:", f"{as_arguments(Recipe)}\n\nRaises:"
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class StagedRecipe:
    """Recipes in turn: each starts from the best model of the one before.

    Args:
        stages: Dictionary from the name of each stage, which is that of its folder, to its recipe.

    Raises:
        ValueError: If there is no stage.
    """

    stages: Mapping[str, Recipe]

    def __post_init__(self):
        if not self.stages:
            raise ValueError(f"`stages` must hold at least one recipe. Received: {self.stages}.")


def replace(recipe: Recipe | StagedRecipe, **changes: Any) -> Recipe | StagedRecipe:
    """Returns the recipe with other settings; of a staged recipe, in every stage.

    Raises:
        ValueError: If there is no such setting, or a value is not as `Recipe` describes.
    """
    if isinstance(recipe, StagedRecipe):
        stages: Any = {name: replace(stage, **changes) for name, stage in recipe.stages.items()}
        return dataclasses.replace(recipe, stages=stages)
    if unknown := sorted(changes.keys() - SETTINGS.keys()):
        raise ValueError(
            f"{unknown[0]!r} is not a setting of a recipe.{proposal(unknown[0], SETTINGS)} The "
            f"settings are {', '.join(SETTINGS)}."
        )
    # One of the two replaces the other.
    if changes.get("steps") is not None:
        changes = {"epochs": None, **changes}
    elif changes.get("epochs") is not None:
        changes = {"steps": None, **changes}
    return dataclasses.replace(recipe, **changes)


def as_settings(recipe: Recipe) -> dict[str, Any]:
    """Returns all settings of a recipe by name."""
    return {name: getattr(recipe, name) for name in SETTINGS}


def from_settings(settings: Mapping[str, Any]) -> Recipe:
    """Returns the recipe of some settings; an absent one that may be `None` is `None`.

    Raises:
        ValueError: If there is no such setting, or a value is not as `Recipe` describes.
    """
    absent = {name: None for name, declared in SETTINGS.items() if declared.is_optional}
    return replace(Recipe(), **(absent | dict(settings)))  # type: ignore[return-value]
