"""The weighted sum of several losses."""

from collections.abc import Sequence

import keras
from keras import ops

from keras_fcn.arguments import as_tuple, finite_numbers
from keras_fcn.losses.base import PreciseLoss


@keras.saving.register_keras_serializable(package="keras_fcn")
class WeightedSum(PreciseLoss):
    """The weighted sum of several losses, such as cross-entropy + 0.5 Dice.

    Each loss applies its own reduction, ignored pixels and sample weights.

    Args:
        losses: Instances of `keras.losses.Loss` that each return a scalar.
        weights: A factor of at least 0 for each loss.
        name: Name of the loss; that of the class if `None`.
        dtype: As in Keras, for the sum; each loss has its own.

    Raises:
        ValueError: If there is no loss, one of them is no `keras.losses.Loss`, a weight is less
            than 0, or the number of weights is not that of the losses.

    Examples:
        >>> import numpy as np
        >>> from keras_fcn.losses import Dice, SparseCategoricalCrossentropy
        >>> cross_entropy = SparseCategoricalCrossentropy(from_logits=True, ignore_class=255)
        >>> loss = WeightedSum([cross_entropy, Dice(ignore_class=255)], weights=[1, 0.5])
        >>> round(float(loss(np.array([[[0, 255]]]), np.zeros((1, 1, 2, 4)))), 4)  # log(4) + 0.3
        1.6863
    """

    def __init__(
        self,
        losses: Sequence[keras.losses.Loss],
        weights: Sequence[float],
        name: str | None = None,
        dtype: str | keras.DTypePolicy | None = None,
    ):
        super().__init__(name=name, reduction=None, dtype=dtype)
        self.losses = list(as_tuple("losses", losses))
        self.weights = finite_numbers("weights", weights, least=0)
        if not self.losses or not all(isinstance(loss, keras.losses.Loss) for loss in self.losses):
            raise ValueError(
                "`losses` must be one or more instances of keras.losses.Loss. "
                f"Received: losses={self.losses}."
            )
        if len(self.weights) != len(self.losses):
            raise ValueError(
                f"`weights` must hold one weight for each of the {len(self.losses)} losses. "
                f"Received: weights={self.weights}."
            )

    # Not `call`, which does not receive sample weights: Keras multiplies them by its sum.
    def __call__(self, y_true, y_pred, sample_weight=None):
        return sum(
            weight * ops.cast(loss(y_true, y_pred, sample_weight), self.dtype)
            for loss, weight in zip(self.losses, self.weights, strict=True)
        )

    @property
    def is_exact_on_replicas(self) -> bool:
        """As in `SparseCategoricalCrossentropy`."""
        return all(getattr(loss, "is_exact_on_replicas", False) for loss in self.losses)

    def get_config(self):
        losses = [keras.losses.serialize(loss) for loss in self.losses]
        return {"name": self.name, "losses": losses, "weights": self.weights}

    @classmethod
    def from_config(cls, config):
        losses = [keras.losses.deserialize(loss) for loss in config["losses"]]
        return cls(**{**config, "losses": losses})
