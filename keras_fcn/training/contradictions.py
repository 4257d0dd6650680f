"""Settings of a recipe that do not go together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from keras_fcn.spec import SEMANTIC, TASKS
from keras_fcn.training.settings import Setting

if TYPE_CHECKING:
    from keras_fcn.training.recipe import Recipe

# Rates below this train nothing with a mean over pixels: the paper's are 1e-10 to 1e-14.
_SMALLEST_RATE_OF_A_MEAN = 1e-8
# Settings that only FCNs on VGG-16 with one input have, and further ones of two networks.
_OF_VGG16 = (
    *("backbone", "deep_supervision", "fc6_kernel_size", "gradient_checkpointing"),
    "input_upsampling",
)
_NOT_OF_ALEXNET = (*_OF_VGG16, "skip_scales", "padding", "channels")
# Networks of several tasks have VGG-16's arguments that the release's have; their classes are joint
# ones while they are read.
_NOT_OF_SEVERAL_TASKS = (
    *(*_OF_VGG16, "skip_scales", "channels", "modalities"),
    *("class_weights", "crop_classes", "class_mix"),
)
# Depth has pixels without a value, which interpolation and noise would change.
_NOT_OF_MODALITIES = (
    *(*_OF_VGG16, "skip_scales", "mean", "random_scale", "jitter"),
    *("random_resized_crop", "rotation", "blur", "noise"),
)


def check_settings(recipe: Recipe, settings: Mapping[str, Setting]) -> None:
    """Raises a ValueError if two settings of a recipe contradict each other.

    Args:
        recipe: The recipe, each of whose settings is valid by itself.
        settings: The declared settings by name.
    """
    _Check(recipe, settings).all()


class _Check:
    def __init__(self, recipe, settings):
        self._recipe, self._settings = recipe, settings

    def all(self):
        recipe = self._recipe
        self._augmentation()
        if recipe.deep_supervision:
            rule = "0 for fcn32s, which has no coarser head"
            self._require(recipe.model != "fcn32s", "deep_supervision", rule)
            rule = "0 with gradient_checkpointing=True"
            self._require(not recipe.gradient_checkpointing, "deep_supervision", rule)
        if (recipe.epochs is None) == (recipe.steps is None):
            raise ValueError(
                "Exactly one of `epochs` and `steps` must be given. "
                f"Received: epochs={recipe.epochs}, steps={recipe.steps}."
            )
        self._validation()
        self._channels()
        self._backbone()
        if recipe.model == "fcn_alexnet":
            self._alexnet()
        self._stream_weights()
        if recipe.modalities != ("image",):
            self._modalities()
        self._tasks()
        self._normalization()

    def _validation(self):
        recipe = self._recipe
        is_validated = recipe.holds_out or recipe.val_images is not None
        if recipe.data is not None:
            is_validated = recipe.val_split is not None
        if recipe.patience is not None:
            self._require(is_validated, "patience", "none without a validation split")
        for name in ("val_share", "folds"):
            if getattr(recipe, name) is not None:
                rule = "none for a data set by name"
                self._require(recipe.data is None, name, f"{rule}: name a `val_split`")
                self._require(recipe.val_images is None, name, "none with `val_images`")
        if recipe.folds is not None:
            self._require(recipe.val_share is None, "folds", "none with `val_share`")
            is_one = recipe.fold is not None and recipe.fold <= recipe.folds
            self._require(is_one, "fold", f"1 to {recipe.folds}, the number of `folds`")
        else:
            self._require(recipe.fold is None, "fold", "none without `folds`")
        if not recipe.holds_out:
            self._require(
                recipe.group_by is None, "group_by", "none without `val_share` or `folds`"
            )

    def _augmentation(self):
        recipe = self._recipe
        scale = recipe.random_scale
        self._require(
            scale is None or scale[0] <= scale[1], "random_scale", "a smallest and a largest factor"
        )
        smallest, largest = recipe.random_resized_crop_area
        rule = "a smallest and a largest fraction"
        self._require(smallest <= largest, "random_resized_crop_area", rule)
        if recipe.random_resized_crop is None:
            self._require_defaults(("random_resized_crop_area",), "without `random_resized_crop`")
        else:
            self._require_defaults(("random_scale", "crop"), "with `random_resized_crop`")
        if recipe.crop is None:
            self._require_defaults(("crop_classes",), "without `crop`")
        if recipe.crop_classes is None:
            self._require_defaults(("crop_classes_share",), "without `crop_classes`")
        if recipe.class_mix is None:
            self._require_defaults(("class_mix_share",), "without `class_mix`")
        if recipe.loss != "ohem":
            self._require_defaults(("ohem_threshold", "ohem_min_kept"), "without loss='ohem'")

    def _channels(self):
        if self._recipe.channels != 3:
            self._require(self._recipe.data is None, "channels", "3 for a data set by name")
            self._require(not self._recipe.jitter, "jitter", "false for images that are not RGB")

    def _backbone(self):
        recipe = self._recipe
        if recipe.backbone is None:
            rule = "a network of keras.applications for fcn4s"
            self._require(recipe.model != "fcn4s", "backbone", rule)
            self._require_defaults(("head", "freeze_batch_norm"), "without a `backbone`")
            return
        rule = "`backbone` or none with a `backbone`"
        self._require(recipe.freeze in (None, "backbone"), "freeze", rule)
        names = ("deep_supervision", "gradient_checkpointing")
        self._require_defaults(names, "with a `backbone`")

    def _alexnet(self):
        recipe = self._recipe
        rule = "`backbone` or none for fcn_alexnet"
        self._require(recipe.freeze in (None, "backbone"), "freeze", rule)
        rule = "the file of a classifier for fcn_alexnet"
        self._require(recipe.weights != "imagenet", "weights", rule)
        self._require_defaults(_NOT_OF_ALEXNET, "for fcn_alexnet")

    def _stream_weights(self):
        recipe = self._recipe
        if recipe.stream_weights is not None:
            is_late = len(recipe.modalities) > 1 and recipe.fusion == "late"
            has_all = len(recipe.stream_weights) == len(recipe.modalities)
            rule = "one file per modality, with fusion='late'"
            self._require(is_late and has_all, "stream_weights", rule)

    def _modalities(self):
        recipe, modalities = self._recipe, list(self._recipe.modalities)
        rule = f"fcn32s for the modalities {modalities}"
        self._require(recipe.model == "fcn32s", "model", rule)
        self._require(recipe.data == "nyudv2", "data", f"nyudv2 for the modalities {modalities}")
        is_set = len(set(modalities)) == len(modalities)
        self._require(is_set, "modalities", "different ones")
        self._require_defaults(_NOT_OF_MODALITIES, "for several modalities")

    def _tasks(self):
        recipe, tasks = self._recipe, list(self._recipe.tasks)
        if tasks == [SEMANTIC]:
            return
        self._require(recipe.data == "sift_flow", "data", f"sift_flow for the tasks {tasks}")
        self._require(tasks == list(TASKS), "tasks", f"{[SEMANTIC]} or {list(TASKS)}")
        is_vgg16 = recipe.model in ("fcn32s", "fcn16s", "fcn8s")
        self._require(is_vgg16, "model", "fcn32s, fcn16s or fcn8s for several tasks")
        self._require_defaults(_NOT_OF_SEVERAL_TASKS, "for several tasks")

    def _normalization(self):
        recipe = self._recipe
        if recipe.normalization == "sum":
            mean_losses = {
                "loss": "cross_entropy",
                "region_loss": None,
                "class_weights": None,
            }
            for name, value in mean_losses.items():
                if getattr(recipe, name) != value:
                    raise ValueError(
                        f"`normalization='sum'` must go with {name}={value}: the sum is that of "
                        f"the paper's cross-entropy. Received: {name}={getattr(recipe, name)!r}."
                    )
        elif recipe.learning_rate < _SMALLEST_RATE_OF_A_MEAN:
            raise ValueError(
                "`learning_rate` must be at least 1e-8 for the mean over pixels "
                "(normalization='valid_pixels'): the paper's rates of 1e-10 to 1e-14 are for the "
                "sum over all pixels, and one of 1e-10 amounts to 2.5e-05 of the mean at 500x500. "
                f"Received: learning_rate={recipe.learning_rate:g}. Set normalization='sum', or "
                "multiply the rate by the number of pixels."
            )

    def _require(self, condition, name, rule):
        if not condition:
            raise self._settings[name].error(rule, getattr(self._recipe, name))

    def _require_defaults(self, names, where):
        for name in names:
            default = self._settings[name].default
            self._require(getattr(self._recipe, name) == default, name, f"{default} {where}")
