"""FCN-32s on the HHA features of NYUDv2."""

import dataclasses

from keras_fcn.training.recipes.paper_nyudv2_color import PaperNYUDv2Color


@dataclasses.dataclass(frozen=True, kw_only=True)
class PaperNYUDv2HHA(PaperNYUDv2Color):
    """FCN-32s on NYUDv2's HHA features instead of colour, as in the paper's release.

        keras-fcn train paper_nyudv2_hha --out runs/hha

    As `paper_nyudv2_color`. HHA is horizontal disparity, height above ground and angle with
    gravity. The score expected on the test images is a mean IoU of 0.242, that of the first paper
    (table 4). Not trained here; as many hours as `paper_nyudv2_color`.

    References:
        - [Shelhamer et al., 2016](https://arxiv.org/abs/1605.06211), section 5.1
    """

    modalities: tuple[str, ...] = ("hha",)
    mean: tuple[float, ...] | None = None
