"""Scopes in which a model is built for training on several devices."""

import contextlib
import numbers
from collections.abc import Iterator, Sequence

from keras_fcn.backends import backend


@contextlib.contextmanager
def data_parallel(
    devices: str | Sequence[str] = "all", gradients: str | None = None
) -> Iterator[None]:
    """Data parallelism: models built and compiled in the block shard each batch over the devices.

    With this package's losses, training is equal to training on one device with the whole batch,
    up to float32 rounding, and the metrics count every example once. `fit`, `evaluate` and
    `predict` may be called outside the block. A batch may have any size.

    Several processes may each use their own devices. TensorFlow reads them from `TF_CONFIG`, JAX
    from the variables `KERAS_DISTRIBUTION_JOB_ADDRESSES`, `..._NUM_PROCESSES` and
    `..._PROCESS_ID`, PyTorch, with one device per process, from the variables that `torchrun` sets.
    Each process passes its own shard of the data, with as many batches as the others, and predicts
    for that shard.

    Args:
        devices: `"all"` for all GPUs, or all CPUs if there is no GPU; or device names of the
            backend.
        gradients: `"bfloat16"` halves the size of the gradients in the all-reduce and rounds them
            and their sum to three digits; `None` sends them unrounded. For TensorFlow and PyTorch.
            Weights and the optimizer's state keep their dtype.

    Raises:
        ValueError: If an argument is invalid.

    Examples:
        >>> import keras
        >>> from keras_fcn import losses
        >>> with data_parallel():
        ...     model = FCN8s(num_classes=21, fc_units=16)
        ...     loss = losses.SparseCategoricalCrossentropy(from_logits=True)
        ...     model.compile(keras.optimizers.SGD(1e-3), loss)
    """
    _check(devices)
    backend.check_gradient_dtype(gradients)
    with backend.data_parallel(devices), _gradients_in(gradients):
        yield


@contextlib.contextmanager
def model_parallel(num_shards: int, devices: str | Sequence[str] = "all") -> Iterator[None]:
    """Like `data_parallel`, with the kernels of fc6 and fc7 sharded over the devices; JAX only.

    The two kernels contain nine tenths of an FCN's weights. Each group of `num_shards` devices
    holds one copy of them, sharded together with the optimizer's state, and processes one shard of
    the batch.

    Args:
        num_shards: Number of devices that a kernel is sharded over. It must divide `fc_units` and
            the number of devices.
        devices: As for `data_parallel`.

    Raises:
        ValueError: If an argument is invalid, or the backend is not JAX.
    """
    _check(devices)
    if not isinstance(num_shards, numbers.Integral) or num_shards < 1:
        raise ValueError(f"`num_shards` must be a positive integer. Received: {num_shards=}.")
    with backend.model_parallel(num_shards, devices):
        yield


@contextlib.contextmanager
def _gradients_in(dtype):
    outer, backend.gradient_dtype = backend.gradient_dtype, dtype
    try:
        yield
    finally:
        backend.gradient_dtype = outer


def _check(devices):
    if (isinstance(devices, str) and devices != "all") or not devices:
        raise ValueError(f"`devices` must be 'all' or names of devices. Received: {devices=}.")
