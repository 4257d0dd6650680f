"""Sums over a batch whose examples lie on several replicas of a model.

On TensorFlow and PyTorch each replica runs the step on its part of the batch, and the gradients of
the replicas are summed. So a loss is exact if every replica takes its value from sums over the
whole batch, and its gradient from the part that it has itself, however the pixels that count are
spread: loss = batch_sum(losses of my pixels) / batch_sum(number of my pixels). On JAX the step sees
the whole batch, and there is one replica.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import keras
from keras import ops

_in_step_of_processes = False
_gradients = None


def num_replicas() -> int:
    """Returns how many replicas share the step that is being run; 1 outside of a step."""
    if _in_step_of_processes:
        return _torch_processes().number()
    context = _replica_context()
    return 1 if context is None else context.num_replicas_in_sync


def replica_id() -> Any:
    """Returns the number of this replica, from 0, as an integer or a tensor."""
    if _in_step_of_processes:
        return _torch_processes().rank()
    context = _replica_context()
    return 0 if context is None else context.replica_id_in_sync_group


def batch_sum(part: Any) -> Any:
    """Returns the sum of the replicas' tensors `part`, whose gradient is that of this one's."""
    if _in_step_of_processes:
        return _torch_processes().sum_of_all(part)
    context = _replica_context()
    if context is None:
        return part
    return part + ops.stop_gradient(context.all_reduce("SUM", part) - part)


def batch_concatenate(part: Any) -> Any:
    """Returns the replicas' tensors `part` behind one another along the first axis.

    Their lengths may differ. The gradient flows to the part of this replica alone.
    """
    if _in_step_of_processes:
        return _torch_processes().rows_of_all(part)
    context = _replica_context()
    if context is None:
        return part
    import tensorflow as tf

    constant = tf.stop_gradient(part)
    length = tf.shape(part)[0]
    lengths = context.all_gather(length[None], axis=0)
    before = tf.reduce_sum(lengths[: context.replica_id_in_sync_group])
    padding = [[before, tf.reduce_sum(lengths) - before - length]] + [[0, 0]] * (
        len(part.shape) - 1
    )
    return context.all_gather(constant, axis=0) + tf.pad(part - constant, padding)


def summand(loss: Any) -> Any:
    """Returns the share of a replica in the `loss` of the whole batch, the gradient as it is.

    Keras takes what a TensorFlow replica's loss returns for a summand: it multiplies it by the
    number of replicas to log it.
    """
    context = _replica_context()
    if context is None:
        return loss
    return loss - ops.stop_gradient(loss * (1 - 1 / context.num_replicas_in_sync))


def gradients() -> str | None:
    """Returns the dtype that a model made now sends its gradients in; `None` for their own."""
    return _gradients


@contextlib.contextmanager
def gradients_sent_in(dtype: str | None) -> Iterator[None]:
    """Context manager in which models are made that send their gradients in `dtype`."""
    global _gradients
    outer, _gradients = _gradients, dtype
    try:
        yield
    finally:
        _gradients = outer


def check_losses(model: keras.Model) -> None:
    """Refuses losses that each replica would take of its own part of the batch alone.

    Raises:
        ValueError: If a loss of the model is none of this package's, or a layer adds one.
    """
    losses = [] if model._compile_loss is None else model._compile_loss._flat_losses
    strange = [
        loss.loss for loss in losses if not getattr(loss.loss, "is_exact_on_replicas", False)
    ]
    if strange or model.losses:
        raise ValueError(
            "`loss` must be one of keras_fcn.losses, such as SparseCategoricalCrossentropy, and no "
            "layer may have a regularizer, where several devices share a batch: others would be "
            f"scaled by their number. Received: loss={strange or model.losses}."
        )


@contextlib.contextmanager
def step_of_processes() -> Iterator[None]:
    """Context manager of a step that the processes of `torch.distributed` run together."""
    global _in_step_of_processes
    _in_step_of_processes = True
    try:
        yield
    finally:
        _in_step_of_processes = False


def _torch_processes():
    from keras_fcn.distribution import torch_processes

    return torch_processes


def _replica_context():
    """TensorFlow's, if the code runs on one of several replicas."""
    if keras.backend.backend() != "tensorflow":
        return None
    import tensorflow as tf

    context = tf.distribute.get_replica_context()
    return None if context is None or context.num_replicas_in_sync == 1 else context
