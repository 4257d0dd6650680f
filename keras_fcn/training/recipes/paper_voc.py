"""The paper's three stages on PASCAL VOC."""

import dataclasses
from collections.abc import Mapping

from keras_fcn.training.recipe import Recipe, StagedRecipe
from keras_fcn.training.recipes.paper_voc_fcn8s import PaperVocFCN8s
from keras_fcn.training.recipes.paper_voc_fcn16s import PaperVocFCN16s
from keras_fcn.training.recipes.paper_voc_fcn32s import PaperVocFCN32s


@dataclasses.dataclass(frozen=True, kw_only=True)
class PaperVoc(StagedRecipe):
    """FCN-32s, FCN-16s and FCN-8s in turn on PASCAL VOC, as published.

        keras-fcn train paper_voc --out runs/paper_voc

    The recipes `paper_voc_fcn32s`, `paper_voc_fcn16s` and `paper_voc_fcn8s`, each initialized from
    the best model of the previous one, with their expected scores and hours.
    """

    stages: Mapping[str, Recipe] = dataclasses.field(
        default_factory=lambda: {
            "fcn32s": PaperVocFCN32s(),
            "fcn16s": PaperVocFCN16s(),
            "fcn8s": PaperVocFCN8s(),
        }
    )
