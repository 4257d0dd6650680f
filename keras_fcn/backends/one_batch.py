"""Predictions of a single batch, whose logits need no concatenation."""

from typing import Any

import numpy as np

_KERAS_BATCH_SIZE = 32


def is_one_batch(
    x: Any, batch_size: int | None, verbose: Any, steps: int | None, callbacks: Any
) -> bool:
    """Returns whether `predict` has one batch to predict, without callbacks or a progress bar.

    Keras's `predict` concatenates the logits of all batches, which copies those of a single batch.

    Args:
        x: As in `keras.Model.predict`, like the other arguments.
        batch_size: Number of images, or `None`.
        verbose: 0 if nothing is printed.
        steps: Number of batches, or `None`.
        callbacks: Callbacks, or `None`.
    """
    is_silent = verbose == 0 and steps is None and not callbacks
    return (
        is_silent and isinstance(x, np.ndarray) and 0 < len(x) <= (batch_size or _KERAS_BATCH_SIZE)
    )
