"""Where a model is made that is then trained on several devices."""

import contextlib
import numbers
from collections.abc import Iterator, Sequence

from keras_fcn.backends import backend


@contextlib.contextmanager
def data_parallel(
    devices: str | Sequence[str] = "all", gradients: str | None = None
) -> Iterator[None]:
    """Lets the models made and compiled in its block share each batch among several devices.

    What is trained is what one device would train on the whole batch, with this package's losses,
    to the accuracy of float32; its metrics count every example once. `fit`, `evaluate` and
    `predict` may be called outside of the block. A batch may have any size.

    Several processes, each with its devices: on TensorFlow they read `TF_CONFIG`; on JAX the
    variables `KERAS_DISTRIBUTION_JOB_ADDRESSES`, `..._NUM_PROCESSES` and `..._PROCESS_ID`; on
    PyTorch, where each process has one device, what `torchrun` sets. Each passes its own share of
    the data, in as many batches as the others, and predicts for its own.

    Args:
        devices: `"all"` for all GPUs, or else all CPUs; or names as the backend gives them.
        gradients: `"bfloat16"` sends the gradients from device to device at half the size, and
            rounds them and their sum to three digits; `None` sends them as they are. On TensorFlow
            and PyTorch; weights and the optimizer's state keep their dtype.

    Raises:
        ValueError: If an argument is none of these.

    Examples:
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
    """Like `data_parallel`, with the kernels of fc6 and fc7 split among the devices; JAX only.

    These two hold nine tenths of an FCN's weights. Every `num_shards` devices hold them together,
    with their part of the optimizer's state, and share their part of the batch.

    Args:
        num_shards: Devices that a kernel is split among; divides `fc_units` and the devices.
        devices: As for `data_parallel`.

    Raises:
        ValueError: If an argument is not as described, or the backend is another one.
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
