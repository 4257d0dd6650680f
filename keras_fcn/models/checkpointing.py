"""Trades time for memory: a block's feature maps are computed again when they are needed."""

import functools

import keras

from keras_fcn.models.vgg16 import Trunk


class Checkpointed:
    """A functional model whose blocks keep nothing but their inputs for the backward pass.

    The backward pass computes the feature maps of one block at a time again, from the inputs.

    Args:
        model: Model of one input and one output.
        trunk: `Trunk` of its blocks.

    References:
        - [Chen et al., 2016](https://arxiv.org/abs/1604.06174)
    """

    def __init__(self, model: keras.Model, trunk: Trunk):
        self._image, self._logits = model.inputs[0], model.outputs[0]
        self._trunk = trunk

    def __call__(self, image):
        """Returns the logits of an image, both tensors of the backend."""
        values = {id(self._image): image}
        for function, inputs, outputs in self._parts:
            results = function([values[id(tensor)] for tensor in inputs])
            values |= {id(tensor): value for tensor, value in zip(outputs, results, strict=True)}
        return values[id(self._logits)]

    @functools.cached_property
    def _parts(self):
        """The functions that follow each other, with their inputs and outputs in the model."""
        image, preprocessed = [self._image], self._trunk.blocks[0][0]
        parts = [(keras.Function(image, preprocessed), image, preprocessed)]
        for inputs, outputs in self._trunk.blocks:
            parts.append((_recomputed(keras.Function(inputs, outputs)), inputs, outputs))
        inputs, outputs = [self._image, *self._trunk.pools.values()], [self._logits]
        return [*parts, (keras.Function(inputs, outputs), inputs, outputs)]


def _recomputed(function):
    """Returns `keras.remat` of a function of a list of tensors."""
    recomputed = keras.remat(function)
    if keras.backend.backend() != "torch":
        return recomputed
    from torch.utils.checkpoint import set_checkpoint_early_stop

    def to_its_end(tensors):
        # PyTorch would stop by an exception as soon as it has what it needs, whose traceback holds
        # all of the block until Python collects its garbage.
        with set_checkpoint_early_stop(False):
            return recomputed(tensors)

    return to_its_end
