"""Any folder of images and label maps."""

import dataclasses

from keras_fcn.training.recipe import Recipe


@dataclasses.dataclass(frozen=True, kw_only=True)
class Folder(Recipe):
    """FCN-8s on your own images, with AdamW.

        keras-fcn train folder --images images --labels labels --num-classes 3 --out runs/first

    The name may be omitted. Time and score depend on the data; `camvid_fcn8s` is an example.
    """
