"""Predictions of a single batch, whose logits need not be put together."""

import numpy as np

_KERAS_BATCH_SIZE = 32


def is_one_batch(x, batch_size, verbose, steps, callbacks) -> bool:
    """Returns whether `predict` has one batch to predict, and nobody to tell about it.

    Keras's `predict` copies the logits of a single batch, too, when it concatenates the batches.

    Args:
        x: As in `keras.Model.predict`, like the others.
        batch_size: Number of images, or `None`.
        verbose: 0 if nothing is to be printed.
        steps: Number of batches, or `None`.
        callbacks: Callbacks, or `None`.
    """
    is_silent = verbose == 0 and steps is None and not callbacks
    return (
        is_silent and isinstance(x, np.ndarray) and 0 < len(x) <= (batch_size or _KERAS_BATCH_SIZE)
    )
