"""FCN-8s on the Oxford-IIIT pets."""

import dataclasses

from keras_fcn.training.recipe import Recipe


@dataclasses.dataclass(frozen=True, kw_only=True)
class PetsFCN8s(Recipe):
    """FCN-8s on pet, background and outline: a first experiment on data that TFDS downloads.

        keras-fcn train pets_fcn8s --out runs/pets

    3,680 training photos and 3,669 test photos. Not trained here, and no score of this recipe is
    published. Extrapolated from CamVid's steps, an epoch takes about half an hour on two cores of
    an Intel Xeon with AMX.
    """

    data: str | None = "oxford_iiit_pet"
    val_split: str | None = "test"
    weights: str | None = "imagenet"
    padding: str = "same"
    precision: str = "mixed_bfloat16"
    batch_size: int = 8
    epochs: int | None = 5
    random_scale: tuple[float, float] | None = (0.75, 1.5)
    crop: tuple[int, int] | None = (320, 320)
    jitter: bool = True
