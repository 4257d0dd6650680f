"""Late fusion of colour and HHA on NYUDv2."""

import dataclasses

from keras_fcn.training.recipes.paper_nyudv2_color import PaperNYUDv2Color


@dataclasses.dataclass(frozen=True, kw_only=True)
class PaperNYUDv2ColorHHA(PaperNYUDv2Color):
    r"""Late fusion of NYUDv2's colour and HHA, as in the paper's release.

        keras-fcn train paper_nyudv2_color_hha --out runs/color_hha \
            --set 'stream_weights=["runs/color/best.keras", "runs/hha/best.keras"]'

    Two whole streams, which start from the models of `paper_nyudv2_color` and `paper_nyudv2_hha`
    and train together at a rate of 1e-12. The score expected on the test images is a mean IoU of
    0.328, that of the first paper (table 4). Not trained here; twice the hours of
    `paper_nyudv2_color`.

    References:
        - [Shelhamer et al., 2016](https://arxiv.org/abs/1605.06211), section 5.1
    """

    modalities: tuple[str, ...] = ("image", "hha")
    weights: str | None = "nyudv2_streams"
    learning_rate: float = 1e-12
    mean: tuple[float, ...] | None = None
