"""The paper's three stages on PASCAL-Context."""

import dataclasses
from collections.abc import Mapping

from keras_fcn.spec import PASCAL_CONTEXT_MEAN
from keras_fcn.training.recipe import Recipe, StagedRecipe, replace
from keras_fcn.training.recipes.paper_voc import PaperVoc


def _stages():
    return replace(
        PaperVoc(),
        data="pascal_context",
        val_split="validation",
        mean=PASCAL_CONTEXT_MEAN,
        steps=300_000,
    ).stages


@dataclasses.dataclass(frozen=True, kw_only=True)
class PaperPascalContext(StagedRecipe):
    """FCN-32s, FCN-16s and FCN-8s in turn on the 60 classes of PASCAL-Context.

        keras-fcn train paper_pascal_context --out runs/pascal_context

    As `paper_voc`, but 300,000 images in each stage and the mean of shelhamer/
    fcn.berkeleyvision.org, which publishes no scores. The expected mean IoU of the three stages is
    at least 0.318, 0.348 and 0.351: the scores of the first paper on the validation images (version
    2, appendix B, table 6), whose models were trained on batches of 20, over 59 classes; here the
    background is the 60th. Not trained here; nine times the hours of `paper_voc_fcn32s`.

    References:
        - [Long et al., 2015](https://arxiv.org/abs/1411.4038v2), appendix B
        - [Shelhamer et al., 2016](https://arxiv.org/abs/1605.06211), section 5.2
    """

    stages: Mapping[str, Recipe] = dataclasses.field(default_factory=_stages)
