"""FCN-AlexNet on PASCAL VOC."""

import dataclasses

from keras_fcn.training.recipes.paper_voc_fcn32s import PaperVocFCN32s


@dataclasses.dataclass(frozen=True, kw_only=True)
class PaperVocAlexNet(PaperVocFCN32s):
    r"""FCN-AlexNet on PASCAL VOC with SBD's training labels, as in the paper's release.

        keras-fcn train paper_voc_alexnet --weights bvlc_reference_caffenet.caffemodel \
            --out runs/alexnet

    It starts from the classifier CaffeNet of Caffe's model zoo. Unlike FCN-32s on VGG-16, 100,000
    updates of 20 accumulated images each, the mean loss, and biases that decay and learn at the
    rate of the kernels, except those of the scores. The score expected on seg11valid is a mean IoU
    of 0.480, that of the released model. Not trained here, and the
    hours were not measured.

    References:
        - [Shelhamer et al., 2016](https://arxiv.org/abs/1605.06211), section 4
    """

    model: str = "fcn_alexnet"
    weights: str | None = "caffenet"
    normalization: str = "valid_pixels"
    learning_rate: float = 1e-4
    momentum: float = 0.9
    accumulate: int = 20
    steps: int | None = 2_000_000
