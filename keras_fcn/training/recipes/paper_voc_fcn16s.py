"""The paper's FCN-16s on PASCAL VOC."""

import dataclasses

from keras_fcn.training.recipes.paper_voc_fcn32s import PaperVocFCN32s


@dataclasses.dataclass(frozen=True, kw_only=True)
class PaperVocFCN16s(PaperVocFCN32s):
    """FCN-16s, initialized from a trained FCN-32s, as published.

        keras-fcn train paper_voc_fcn16s --from runs/fcn32s --out runs/fcn16s

    As `paper_voc_fcn32s`, but at a rate of 1e-12. The score expected on seg11valid is a mean IoU of
    0.650 (shelhamer/fcn.berkeleyvision.org, README); wkentaro/pytorch-fcn retrained it to 0.649.
    Not trained here; the hours are those of FCN-32s.

    References:
        - [Shelhamer et al., 2016](https://arxiv.org/abs/1605.06211), section 4
    """

    model: str = "fcn16s"
    weights: str | None = "fcn32s"
    learning_rate: float = 1e-12
