"""Early fusion of colour and depth on NYUDv2."""

import dataclasses

from keras_fcn.training.recipes.paper_nyudv2_color import PaperNYUDv2Color


@dataclasses.dataclass(frozen=True, kw_only=True)
class PaperNYUDv2ColorDepth(PaperNYUDv2Color):
    """Early fusion of NYUDv2's colour and depth, as in the paper's release.

        keras-fcn train paper_nyudv2_color_depth --out runs/color_depth

    As `paper_nyudv2_color`, with a fourth channel of conv1_1 for the logarithm of the depth, whose
    kernel starts as the mean of those of the colours. The score expected on the test images is a
    mean IoU of 0.305, that of the first paper (table 4). Not trained here; as many hours as
    `paper_nyudv2_color`.

    References:
        - [Shelhamer et al., 2016](https://arxiv.org/abs/1605.06211), section 5.1
    """

    modalities: tuple[str, ...] = ("image", "depth")
    fusion: str = "early"
    mean: tuple[float, ...] | None = None
