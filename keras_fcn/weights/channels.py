"""Pretrained first convolutions for images of any number of channels."""

import warnings

import numpy as np


def kernel_for_channels(kernel: np.ndarray, channels: int) -> np.ndarray:
    """Returns the kernel of a first convolution for another number of input channels.

    For one channel it is the sum over the channels, which does to a grey image what the kernel does
    to a colour image of equal channels. Otherwise its channels are repeated in their order and
    divided by the number of repetitions, so that activations keep their magnitude.

    Args:
        kernel: (height, width, input channels, filters).
        channels: Number of input channels of the new kernel.

    Examples:
        >>> kernel_for_channels(np.ones((1, 1, 3, 1)), 1).ravel().tolist()
        [3.0]
        >>> kernel_for_channels(np.ones((1, 1, 3, 1)), 6).ravel().tolist()
        [0.5, 0.5, 0.5, 0.5, 0.5, 0.5]
    """
    if channels == 1:
        return kernel.sum(axis=2, keepdims=True)
    known = kernel.shape[2]
    return kernel[:, :, np.arange(channels) % known] * (known / channels)


def warn_of_channels(name: str, channels: int, known: int) -> None:
    """Warns that the kernel of a layer was changed by `kernel_for_channels`."""
    how = "summed" if channels == 1 else "repeated and rescaled"
    warnings.warn(
        f"The pretrained kernel of {name} for {known} channels was {how} for {channels}. Its first "
        "activations are no longer those of the pretrained network: train it on such images.",
        stacklevel=2,
    )
