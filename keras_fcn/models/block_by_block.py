"""Runs a model block by block and frees the activations of each block after it."""

import functools
from typing import Any

import keras

from keras_fcn.backends import backend
from keras_fcn.models.vgg16 import Trunk


class _WithTraining(keras.layers.Layer):
    """Calls a `keras.Function` with `training`, which a function itself does not hand on.

    Args:
        function: The function, of a list of tensors.
    """

    def __init__(self, function: keras.Function):
        super().__init__(autocast=False)
        self._function = function

    def call(self, inputs, training=None):
        return self._function(inputs)


class BlockByBlock:
    """Runs a functional model block by block; activations are freed after each block.

    In eager backends such as PyTorch, a functional model keeps every intermediate output alive
    until the forward pass ends.

    Args:
        image: The model's input, a KerasTensor.
        trunk: The model's `Trunk`, which lists its blocks.
        outputs: The model's outputs, KerasTensors that are computed from the image and the pools.

    References:
        - [Chen et al., 2016](https://arxiv.org/abs/1604.06174)
    """

    def __init__(self, image: keras.KerasTensor, trunk: Trunk, outputs: list[keras.KerasTensor]):
        self.trunk = trunk
        self._image, self._outputs = image, outputs
        # At once: torch.compile cannot trace a first call that makes layers.
        self._parts = self._split()

    def __call__(self, image: Any, training: bool = False, recompute: bool = False) -> list[Any]:
        """Returns the outputs for an image, all as backend tensors.

        Args:
            image: The model's input.
            training: Whether dropout is on.
            recompute: Whether to use gradient checkpointing (rematerialization): the backward pass
                recomputes a block's feature maps from the block's inputs instead of storing them.
        """
        values = {id(self._image): image}
        *blocks, (last, *rest) = self._recomputed_parts if recompute else self._parts
        last = functools.partial(last, training=training)
        for function, inputs, outputs, wanted_later in (*blocks, (last, *rest)):
            results = function([values[id(tensor)] for tensor in inputs])
            values |= {id(tensor): value for tensor, value in zip(outputs, results, strict=True)}
            values = {key: value for key, value in values.items() if key in wanted_later}
        return [values[id(tensor)] for tensor in self._outputs]

    def _split(self):
        """Returns a list of (function, inputs, outputs, ids of tensors that later parts need)."""
        image, preprocessed = [self._image], self.trunk.blocks[0][0]
        ends = [
            (image, preprocessed),
            *self.trunk.blocks,
            ([self._image, *self.trunk.pools.values()], self._outputs),
        ]
        parts, wanted = [], {id(tensor) for tensor in self._outputs}
        for inputs, outputs in reversed(ends):
            function = keras.Function(inputs, outputs)
            # The last part has dropout.
            parts.append((function if parts else _WithTraining(function), inputs, outputs, wanted))
            wanted = wanted | {id(tensor) for tensor in inputs}
        return parts[::-1]

    @functools.cached_property
    def _recomputed_parts(self):
        first, *blocks, last = self._parts
        return [first, *((backend.rematerialized(block[0]), *block[1:]) for block in blocks), last]
