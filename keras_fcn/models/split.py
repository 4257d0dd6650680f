"""Splits an FCN where feature maps are small: into trunk, classifier and decoder."""

import dataclasses
import weakref

import keras

from keras_fcn.backends import backend
from keras_fcn.models.base import BaseFCN
from keras_fcn.models.block_by_block import BlockByBlock

# The first layer of the classifier: of VGG-16 and `head="fc"`, and of `head="conv"`.
_CLASSIFIERS = ("fc6", "head_conv")


@dataclasses.dataclass(frozen=True)
class SplitFCN:
    """An FCN in parts that share its weights.

    Args:
        trunk: From the image to the feature maps at which the network is split: the input of the
            classifier, if there is one, and the scores of the skip connections.
        classifier: From the trunk's first output to the scores of the coarsest stride; `None` if
            the trunk computes them.
        decoder: From the image, of which only the size is used, and the scores, in the order of the
            trunk's outputs, to the output of the network.
    """

    trunk: keras.Model
    classifier: keras.Model | None
    decoder: keras.Model


_found: weakref.WeakKeyDictionary[keras.Model, SplitFCN | None] = weakref.WeakKeyDictionary()


def split(model: keras.Model) -> SplitFCN | None:
    """Returns the parts of an FCN, the same each time; `None` for another model.

    Args:
        model: A functional model of one image.
    """
    if model not in _found:
        _found[model] = _split(model)
    return _found[model]


def _split(model):
    if not isinstance(model, BaseFCN) or len(model.outputs) != 1:
        return None
    names = [layer.name for layer in model.layers]
    score_names = sorted(name for name in names if name.startswith("score_"))
    if "score_fr" not in score_names:
        return None
    scores = [model.get_layer(name).output for name in score_names]
    first = next((name for name in _CLASSIFIERS if name in names), None)
    image, outputs, classifier = model.inputs[0], scores, None
    if first is not None:
        features, score = model.get_layer(first).input, model.get_layer("score_fr").output
        classifier = _Part(features, score, name="classifier")
        outputs = [features, *scores[1:]]
    blocks = getattr(model, "block_by_block", None)
    trunk = _Part(image, outputs, name="trunk", blocks=blocks)
    return SplitFCN(trunk, classifier, _Part([image, *scores], model.outputs[0], name="decoder"))


class _Part(backend.trainer(), keras.Model):  # type: ignore[misc]
    """Some layers of a network, which are predicted as the network is."""

    def __init__(self, inputs, outputs, name, blocks=None):
        super().__init__(inputs=inputs, outputs=outputs, name=name)
        self._block_by_block = blocks and BlockByBlock(inputs, blocks.trunk, outputs)

    def call(self, inputs, training=None, mask=None):
        if self._block_by_block is None or not backend.is_eager:
            return super().call(inputs, training=training, mask=mask)
        return self._block_by_block(keras.ops.cast(inputs, "float32"))
