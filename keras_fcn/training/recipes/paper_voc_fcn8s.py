"""The paper's FCN-8s on PASCAL VOC."""

import dataclasses

from keras_fcn.training.recipes.paper_voc_fcn16s import PaperVocFCN16s


@dataclasses.dataclass(frozen=True, kw_only=True)
class PaperVocFCN8s(PaperVocFCN16s):
    """FCN-8s, initialized from a trained FCN-16s, as published.

        keras-fcn train paper_voc_fcn8s --from runs/fcn16s --out runs/fcn8s

    As `paper_voc_fcn32s`, but at a rate of 1e-14. The score expected on seg11valid is a mean IoU of
    0.655 (shelhamer/fcn.berkeleyvision.org, README); wkentaro/pytorch-fcn retrained it to 0.655.
    Not trained here; the hours are those of FCN-32s.

    References:
        - [Shelhamer et al., 2016](https://arxiv.org/abs/1605.06211), section 4
    """

    model: str = "fcn8s"
    weights: str | None = "fcn16s"
    learning_rate: float = 1e-14
