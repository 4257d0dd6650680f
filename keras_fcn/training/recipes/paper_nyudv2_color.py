"""FCN-32s on the colour images of NYUDv2."""

import dataclasses

from keras_fcn.spec import NYUDV2_MEAN
from keras_fcn.training.recipes.paper_voc_fcn32s import PaperVocFCN32s


@dataclasses.dataclass(frozen=True, kw_only=True)
class PaperNYUDv2Color(PaperVocFCN32s):
    """FCN-32s on NYUDv2's colour images, as in the paper's release.

        keras-fcn train paper_nyudv2_color --out runs/color

    As `paper_voc_fcn32s`, with 40 classes, 300,000 images and NYUDv2's mean. The score expected on
    the test images is a mean IoU of 0.292, that of the first paper (table 4). Not trained here;
    three times the hours of `paper_voc_fcn32s`.

    References:
        - [Shelhamer et al., 2016](https://arxiv.org/abs/1605.06211), section 5.1
    """

    data: str | None = "nyudv2"
    train_split: str = "train+validation"
    val_split: str | None = "test"
    mean: tuple[float, ...] | None = NYUDV2_MEAN
    steps: int | None = 300_000
