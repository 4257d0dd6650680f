"""What a run takes from Python beside its recipe, and therefore needs again to resume."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import keras

from keras_fcn.training.augmentation import Augmenter


@dataclasses.dataclass(frozen=True)
class UserCode:
    """Callbacks and transforms of a run.

    Args:
        callbacks: Instances of `keras.callbacks.Callback`.
        transforms: Augmentation that follows that of the recipe.

    Raises:
        ValueError: If a callback is something else.
    """

    callbacks: Sequence[keras.callbacks.Callback] = ()
    transforms: Sequence[Augmenter] = ()

    def __post_init__(self):
        for callback in self.callbacks:
            if not isinstance(callback, keras.callbacks.Callback):
                raise ValueError(
                    "`callbacks` must hold instances of keras.callbacks.Callback. Received: "
                    f"{callback!r}."
                )

    @property
    def swaps_averages(self) -> bool:
        """Whether `SwapEMAWeights`, which needs the optimizer's averages, is a callback."""
        return any(isinstance(each, keras.callbacks.SwapEMAWeights) for each in self.callbacks)

    def names(self) -> dict[str, list[str]]:
        """Returns the names of classes and functions by argument, without empty lists."""
        names = {
            "callbacks": [_name(callback) for callback in self.callbacks],
            "transforms": [_name(transform) for transform in self.transforms],
        }
        return {argument: each for argument, each in names.items() if each}

    def check_names(self, run: Any, names: dict[str, list[str]]) -> None:
        """Raises a ValueError if a run was begun with others.

        Args:
            run: Path of the run.
            names: What its `config.toml` says.
        """
        for argument in sorted(names.keys() | self.names().keys()):
            expected, received = names.get(argument, []), self.names().get(argument, [])
            if expected != received:
                raise ValueError(
                    f"{run} was begun in Python with {argument}: "
                    f"{', '.join(expected) or 'none'}. Received: {', '.join(received) or 'none'}. "
                    f"Resume it with `keras_fcn.training.resume(run, {argument}=[...])`."
                )


def _name(value):
    return getattr(value, "__name__", type(value).__name__)
