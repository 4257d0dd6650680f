"""FCN-8s on PASCAL VOC with data augmentation and AdamW."""

import dataclasses

from keras_fcn.training.recipe import Recipe


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModernVocFCN8s(Recipe):
    """FCN-8s on the 10,582 images of "VOC aug", with random scales, random crops and AdamW.

        keras-fcn train modern_voc_fcn8s --out runs/modern_voc

    VOC 2012's training images and SBD's without VOC 2012's validation images, scored on those
    1,449. Not trained here, and no score of this recipe is published; the paper's recipe reaches a
    mean IoU of 0.655 on seg11valid. Extrapolated from CamVid's steps, an epoch takes 2 to 3 hours
    on two cores of an Intel Xeon with AMX.
    """

    data: str | None = "voc_segmentation/2012_aug"
    weights: str | None = "imagenet"
    padding: str = "same"
    precision: str = "mixed_bfloat16"
    region_loss: str | None = "dice"
    region_loss_weight: float = 0.5
    batch_size: int = 8
    epochs: int | None = 30
    random_scale: tuple[float, float] | None = (0.5, 2.0)
    crop: tuple[int, int] | None = (480, 480)
    jitter: bool = True
    test_scales: tuple[float, ...] = (0.75, 1.0, 1.25)
    test_flip: bool = True
