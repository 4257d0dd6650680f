"""The paper's FCN-8s on PASCAL VOC, in one stage."""

import dataclasses

from keras_fcn.spec import AT_ONCE_SKIP_SCALES
from keras_fcn.training.recipes.paper_voc_fcn32s import PaperVocFCN32s


@dataclasses.dataclass(frozen=True, kw_only=True)
class PaperVocFCN8sAtOnce(PaperVocFCN32s):
    """FCN-8s from VGG-16 in one stage, with scaled skips, as published.

        keras-fcn train paper_voc_fcn8s_atonce --out runs/fcn8s_atonce

    As `paper_voc_fcn32s`, but 300,000 images, and pool4 and pool3 are scaled by 0.01 and 0.0001
    before their scores. The score expected on seg11valid is a mean IoU of 0.654 (shelhamer/
    fcn.berkeleyvision.org, README); wkentaro/pytorch-fcn retrained it to 0.647. Not trained here;
    three times the hours of FCN-32s.

    References:
        - [Shelhamer et al., 2016](https://arxiv.org/abs/1605.06211), section 4
    """

    model: str = "fcn8s"
    skip_scales: tuple[float, float] | None = AT_ONCE_SKIP_SCALES
    steps: int | None = 300_000
