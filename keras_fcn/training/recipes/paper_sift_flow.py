"""The paper's three stages on SIFT Flow."""

import dataclasses
from collections.abc import Mapping

from keras_fcn.spec import SIFT_FLOW_MEAN
from keras_fcn.training.recipe import Recipe, StagedRecipe, replace
from keras_fcn.training.recipes.paper_voc import PaperVoc


def _stages():
    stages = replace(
        PaperVoc(),
        data="sift_flow",
        tasks=("semantic", "geometric"),
        val_split="test",
        mean=SIFT_FLOW_MEAN,
        steps=300_000,
    ).stages
    return {**stages, "fcn8s": replace(stages["fcn8s"], learning_rate=1e-12)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class PaperSiftFlow(StagedRecipe):
    """FCN-32s, FCN-16s and FCN-8s in turn on SIFT Flow's 33 semantic and 3 geometric classes.

        keras-fcn train paper_sift_flow --out runs/sift_flow
        keras-fcn predict runs/sift_flow photo.jpg --task geometric

    As `paper_voc`, but with a head for each of the two label maps on one backbone
    (`MultitaskFCN8s`), 300,000 images in each stage, FCN-8s at a rate of 1e-12, and the mean of
    shelhamer/fcn.berkeleyvision.org. The loss is the sum of both, with equal weights, as in the
    release; the mean IoU of the semantic classes selects the best model. The test set lacks cow,
    desert and moon; the mean IoU excludes them unless they are predicted, as in the release's
    score.py. The release publishes no scores; the first paper's FCN-16s, trained on batches of 20,
    has a mean IoU of 0.395 and a pixel accuracy of 0.852, and a pixel accuracy of 0.943 in the
    geometric classes (table 5). Not trained here; the hours are fewer than nine times those of
    `paper_voc_fcn32s`, as the images have 256x256 pixels.

    References:
        - [Long et al., 2015](https://arxiv.org/abs/1411.4038), section 5
        - [Shelhamer et al., 2016](https://arxiv.org/abs/1605.06211), section 5.3
    """

    stages: Mapping[str, Recipe] = dataclasses.field(default_factory=_stages)
