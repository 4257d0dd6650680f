"""One experiment per file: model and data, the command, the expected scores and hours."""

from keras_fcn.spelling import proposal
from keras_fcn.training.recipe import Recipe, StagedRecipe
from keras_fcn.training.recipes.camvid_fcn8s import CamvidFCN8s
from keras_fcn.training.recipes.folder import Folder
from keras_fcn.training.recipes.modern_voc_fcn8s import ModernVocFCN8s
from keras_fcn.training.recipes.paper_nyudv2_color import PaperNYUDv2Color
from keras_fcn.training.recipes.paper_nyudv2_color_depth import PaperNYUDv2ColorDepth
from keras_fcn.training.recipes.paper_nyudv2_color_hha import PaperNYUDv2ColorHHA
from keras_fcn.training.recipes.paper_nyudv2_hha import PaperNYUDv2HHA
from keras_fcn.training.recipes.paper_pascal_context import PaperPascalContext
from keras_fcn.training.recipes.paper_sift_flow import PaperSiftFlow
from keras_fcn.training.recipes.paper_voc import PaperVoc
from keras_fcn.training.recipes.paper_voc_alexnet import PaperVocAlexNet
from keras_fcn.training.recipes.paper_voc_fcn8s import PaperVocFCN8s
from keras_fcn.training.recipes.paper_voc_fcn8s_atonce import PaperVocFCN8sAtOnce
from keras_fcn.training.recipes.paper_voc_fcn16s import PaperVocFCN16s
from keras_fcn.training.recipes.paper_voc_fcn32s import PaperVocFCN32s
from keras_fcn.training.recipes.pets_fcn8s import PetsFCN8s

RECIPES = {
    "camvid_fcn8s": CamvidFCN8s,
    "folder": Folder,
    "modern_voc_fcn8s": ModernVocFCN8s,
    "paper_nyudv2_color": PaperNYUDv2Color,
    "paper_nyudv2_color_depth": PaperNYUDv2ColorDepth,
    "paper_nyudv2_color_hha": PaperNYUDv2ColorHHA,
    "paper_nyudv2_hha": PaperNYUDv2HHA,
    "paper_pascal_context": PaperPascalContext,
    "paper_sift_flow": PaperSiftFlow,
    "paper_voc": PaperVoc,
    "paper_voc_alexnet": PaperVocAlexNet,
    "paper_voc_fcn16s": PaperVocFCN16s,
    "paper_voc_fcn32s": PaperVocFCN32s,
    "paper_voc_fcn8s": PaperVocFCN8s,
    "paper_voc_fcn8s_atonce": PaperVocFCN8sAtOnce,
    "pets_fcn8s": PetsFCN8s,
}

__all__ = ["RECIPES", "find_recipe", *(recipe.__name__ for recipe in RECIPES.values())]


def find_recipe(name: str) -> Recipe | StagedRecipe:
    """Returns the recipe of a name.

    Raises:
        ValueError: If there is none.

    Examples:
        >>> find_recipe("paper_voc_fcn32s").learning_rate
        1e-10
    """
    if name not in RECIPES:
        raise ValueError(
            f"RECIPE must be one of {', '.join(RECIPES)}, or a config.toml of a run. "
            f"Received: {name}.{proposal(name, RECIPES)}"
        )
    return RECIPES[name]()
