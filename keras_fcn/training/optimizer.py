"""The optimizers of the recipes."""

import functools
import re
from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from keras_fcn.backends import backend, keras_compat

PAPER_MULTIPLIERS = {r"(^|/)bias$": (2.0, 0.0)}
"""Biases have twice the learning rate and no weight decay."""

ALEXNET_MULTIPLIERS = {r"(^|/)score_fr/bias$": (2.0, 0.0)}
"""In the release's FCN-AlexNet, only the bias of the scores has them."""


class _UpdatesAfterBackwardPass:
    """Mixin for a `keras.optimizers.Optimizer`."""

    def apply(self, grads, trainable_variables=None):
        if trainable_variables is not None:
            # TensorFlow cannot create variables in the context below.
            with keras.name_scope(self.name, caller=self):
                self.build(trainable_variables)
        with backend.after_backward_pass(grads):
            super().apply(grads, trainable_variables)


@keras.saving.register_keras_serializable(package="keras_fcn")
class CoupledSGD(_UpdatesAfterBackwardPass, keras.optimizers.Optimizer):
    """SGD with momentum and coupled weight decay (L2 regularization), as in Caffe.

    The update is v = momentum * v + rate * (gradient + decay * w), then w = w - v, where rate and
    decay are those of the optimizer times the multipliers of the variable. Keras's SGD decouples
    weight decay from momentum, which at a momentum of 0.99 is a hundred times weaker. All other
    arguments are those of `keras.optimizers.Optimizer`.

    Args:
        learning_rate: Rate, or a `keras.optimizers.schedules.LearningRateSchedule`.
        momentum: Momentum, from 0 to less than 1.
        decay: Weight decay; 5e-4 in the paper.
        multipliers: Dictionary from a regular expression to (factor of the rate, factor of the
            decay). The first expression that matches within the path of a variable, such as
            `fc6/bias`, applies; without a match the factors are (1, 1).

    Raises:
        ValueError: If `momentum`, `decay` or `multipliers` is not as described.

    References:
        - [Long et al., 2015](https://arxiv.org/abs/1411.4038), section 4.3
    """

    def __init__(
        self,
        learning_rate: float | keras.optimizers.schedules.LearningRateSchedule,
        momentum: float = 0.99,
        decay: float = 5e-4,
        multipliers: Mapping[str, tuple[float, float]] = PAPER_MULTIPLIERS,
        name: str = "coupled_sgd",
        **kwargs: Any,
    ):
        super().__init__(learning_rate=learning_rate, name=name, **kwargs)
        if not 0 <= momentum < 1:
            raise ValueError(
                f"`momentum` must be at least 0 and less than 1. Received: {momentum=}."
            )
        if not decay >= 0:
            raise ValueError(f"`decay` must be at least 0. Received: {decay=}.")
        factors_of: dict[str, tuple[float, ...]] = {
            pattern: tuple(factors) for pattern, factors in multipliers.items()
        }
        for pattern, factors in factors_of.items():
            if len(factors) != 2 or not all(factor >= 0 for factor in factors):
                raise ValueError(
                    "`multipliers` must hold pairs of numbers of at least 0. "
                    f"Received: {pattern!r}: {factors}."
                )
        self.momentum = float(momentum)
        self.decay = float(decay)
        self.multipliers = factors_of

    def build(self, variables):
        if self.built:
            return
        super().build(variables)
        self._momentums = self.add_optimizer_variables(variables, "momentum")
        self._variable_factors = [self._factors(variable.path) for variable in variables]

    def update_step(self, gradient, variable, learning_rate):
        index = self._get_variable_index(variable)
        rate_factor, decay_factor = self._variable_factors[index]
        backend.momentum_step(
            self,
            variable,
            self._momentums[index],
            ops.cast(gradient, variable.dtype),
            rate=ops.cast(learning_rate, variable.dtype) * rate_factor,
            momentum=self.momentum,
            decay=self.decay * decay_factor,
        )

    def get_config(self):
        return {
            **super().get_config(),
            "momentum": self.momentum,
            "decay": self.decay,
            "multipliers": self.multipliers,
        }

    def _factors(self, path):
        for pattern, factors in self.multipliers.items():
            if re.search(pattern, path):
                return factors
        return 1.0, 1.0


@keras.saving.register_keras_serializable(package="keras_fcn")
class AdamW(_UpdatesAfterBackwardPass, keras_compat.DecaysInUpdateStep, keras.optimizers.AdamW):
    """`keras.optimizers.AdamW`, which updates in place on TensorFlow and on PyTorch's CPUs: in less
    memory on the one, in less time on the other.
    """

    def update_step(self, gradient, variable, learning_rate):
        index = self._get_variable_index(variable)
        backend.adam_step(
            functools.partial(super().update_step, gradient, variable, learning_rate),
            self,
            gradient,
            variable,
            self._momentums[index],
            self._velocities[index],
            rate=ops.cast(learning_rate, variable.dtype),
            decay=self.decay_of(variable),
        )
