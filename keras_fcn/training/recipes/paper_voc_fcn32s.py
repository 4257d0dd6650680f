"""The paper's FCN-32s on PASCAL VOC."""

import dataclasses

from keras_fcn.training.recipe import Recipe


@dataclasses.dataclass(frozen=True, kw_only=True)
class PaperVocFCN32s(Recipe):
    """FCN-32s on PASCAL VOC with SBD's training labels, as published.

        keras-fcn train paper_voc_fcn32s --out runs/fcn32s

    100,000 images one by one at their own size, no augmentation, summed loss. The score expected
    on seg11valid is a mean IoU of 0.636, that of the released model (shelhamer/
    fcn.berkeleyvision.org, README); wkentaro/pytorch-fcn retrained it to 0.628. Not trained here:
    in float32 a step takes about 6 s on two cores of an Intel Xeon with AMX (2026-11-23), all
    steps 170 hours.

    References:
        - [Shelhamer et al., 2016](https://arxiv.org/abs/1605.06211), section 4
    """

    data: str | None = "voc_segmentation/2012_sbd"
    val_split: str | None = "seg11valid"
    model: str = "fcn32s"
    weights: str | None = "imagenet"
    normalization: str = "sum"
    optimizer: str = "coupled_sgd"
    learning_rate: float = 1e-10
    momentum: float = 0.99
    weight_decay: float = 5e-4
    schedule: str = "constant"
    warmup: float = 0.0
    epochs: int | None = None
    steps: int | None = 100_000
    flip: bool = False
