"""Trains the coarser heads that an FCN contains together with its own."""

import keras
from keras import layers

from keras_fcn.backends import backend
from keras_fcn.models.alignment import fcn_crop_offsets
from keras_fcn.models.decoder import Decoder
from keras_fcn.models.fcn import FCN, change_layout, paddings


def with_coarser_heads(model: FCN) -> keras.Model:
    """Returns a model for training whose outputs are the logits of an FCN and of its coarser heads.

    An FCN-8s contains the scores of an FCN-16s and of an FCN-32s. A loss on each of them is deep
    supervision: one run teaches all strides, instead of a stage for each. All layers and variables
    are those of `model`; the heads add only bilinear kernels that do not learn. Train this model,
    then use and save `model`.

    Args:
        model: `FCN16s` or `FCN8s` without `classifier_activation`.

    Returns:
        Model that takes the same image and gives a list of logits as `model` does: its own, then,
        if it is an FCN-8s, those of FCN-16s, and last those of FCN-32s. As with every Keras model
        of several outputs, `fit` takes a label map for each of them.

    Raises:
        ValueError: If `model` has no coarser head, or gives other values than logits.

    Examples:
        >>> heads = with_coarser_heads(FCN8s(num_classes=21, fc_units=16))
        >>> [tuple(logits.shape) for logits in heads(np.zeros((1, 8, 9, 3)))]
        [(1, 8, 9, 21), (1, 8, 9, 21), (1, 8, 9, 21)]

    References:
        - [Lee et al., 2014](https://arxiv.org/abs/1409.5185)
    """
    if not isinstance(model, FCN) or not model.skips:
        raise ValueError(
            f"`model` must be an FCN-16s or FCN-8s. Received: model={model!r}. "
            "An FCN-32s is the coarsest and has no coarser head."
        )
    activation = model.get_config()["classifier_activation"]
    if activation is not None:
        raise ValueError(
            f"`model` must give logits. Received: a model of classifier_activation={activation!r}."
        )
    return _WithCoarserHeads(model)


class _WithCoarserHeads(backend.trainer(), keras.Model):
    def __init__(self, fcn):
        coarser = [_head(fcn, fcn.skips[:count]) for count in reversed(range(len(fcn.skips)))]
        super().__init__(
            inputs=fcn.inputs[0],
            outputs=[fcn.outputs[0], *coarser],
            name=f"{fcn.name}_with_coarser_heads",
        )
        self.dtype_policy = fcn.dtype_policy
        self.data_format = fcn.data_format

    def get_config(self):
        raise NotImplementedError(
            f"{self.name!r} cannot be saved as a model. Save the FCN that it was made from, which "
            "has the same weights, or `save_weights` to go on with the training."
        )


def _head(fcn, skips):
    """Returns the logits of the FCN of `skips` that `fcn` contains."""
    config = fcn.get_config()
    stride = 32 >> len(skips)
    input_padding, fc6_padding = paddings(config["padding"], config["fc6_kernel_size"])
    *_, crop_offset = fcn_crop_offsets(
        skips,
        input_padding=input_padding,
        fc6_kernel_size=config["fc6_kernel_size"],
        fc6_padding=fc6_padding,
    )
    scores = fcn.get_layer(f"fuse_{skips[-1]}" if skips else "score_fr").output
    _, image = fcn.get_layer("crop_logits").input
    layout = fcn.get_layer("score_fr").data_format
    decoder = Decoder(
        fcn.num_classes, trainable_upsampling=False, data_format=layout, dtype=fcn.dtype_policy
    )
    logits = decoder.at_image_size(scores, image, stride, crop_offset)
    logits = layers.Activation("linear", dtype="float32", name=f"head{stride}")(logits)
    return change_layout(logits, layout, fcn.data_format, f"logits_layout{stride}")
