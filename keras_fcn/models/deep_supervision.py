"""Deep supervision: trains an FCN jointly with the coarser heads that it contains."""

import contextlib
import os

import keras

from keras_fcn.alignment import fcn_crop_offsets
from keras_fcn.backends import backend
from keras_fcn.models.config import paddings
from keras_fcn.models.decoder import Decoder
from keras_fcn.models.exports import export_arguments, traced_for_onnx
from keras_fcn.models.fcn import FCN
from keras_fcn.models.layout import at_original_size, output_layers
from keras_fcn.spec import output_stride


def with_coarser_heads(model: FCN) -> keras.Model:
    """Returns a model for training whose outputs are the logits of an FCN and of its coarser heads.

    An FCN-8s contains the scores of an FCN-16s and of an FCN-32s. A loss on each of them is deep
    supervision: one run trains all output strides jointly, instead of one stage for each. The model
    shares all layers and variables with `model`; the heads add only bilinear kernels that are not
    trainable. Train this model, then use and save `model`.

    Args:
        model: `FCN16s` or `FCN8s` without `classifier_activation`.

    Returns:
        Model with the input of `model` and a list of logits as output: those of `model`, then, for
        an FCN-8s, those of FCN-16s, and last those of FCN-32s. As with every Keras model with
        several outputs, `fit` takes one label map per output.

    Raises:
        ValueError: If `model` has no coarser head, or does not return logits.

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
    if model.block_by_block is None:
        raise ValueError(
            f"`model` must be an FCN on VGG-16. Received: model={model!r} with a `backbone`."
        )
    activation = model.classifier_activation
    if activation is not None:
        raise ValueError(
            "`model` must return logits (classifier_activation=None). Received: a model with "
            f"classifier_activation={activation!r}."
        )
    return _WithCoarserHeads(model)


class _WithCoarserHeads(backend.trainer(), keras.Model):  # type: ignore[misc]
    def __init__(self, fcn):
        coarser = [_head(fcn, fcn.skips[:count]) for count in reversed(range(len(fcn.skips)))]
        super().__init__(
            inputs=fcn.inputs[0],
            outputs=[fcn.outputs[0], *coarser],
            name=f"{fcn.name}_with_coarser_heads",
        )
        self.dtype_policy = fcn.dtype_policy
        self.data_format = fcn.data_format

    def export(
        self, filepath, format="tf_saved_model", verbose=None, input_signature=None, **kwargs
    ):
        """As `keras_fcn.models.base.BaseFCN.export`."""
        input_signature, kwargs = export_arguments(self, format, input_signature, kwargs)
        with traced_for_onnx(self) if format == "onnx" else contextlib.nullcontext():
            super().export(os.fspath(filepath), format, verbose, input_signature, **kwargs)

    def get_config(self):
        raise NotImplementedError(
            f"{self.name!r} cannot be saved as a model. Save the FCN that it was built from, which "
            "shares its weights, or call `save_weights` to resume training later."
        )


def _head(fcn, skips):
    """Returns the logits of the coarser FCN with `skips` that `fcn` contains."""
    config = fcn.get_config()
    stride = output_stride(skips)
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
    factor = config["input_upsampling"]
    logits = at_original_size(logits, factor, layout, f"logits{stride}_of_image")
    return output_layers(logits, None, layout, fcn.data_format, str(stride))
