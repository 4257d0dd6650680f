"""Which losses are exact when several replicas share a batch.

On TensorFlow and PyTorch each replica runs the step on its shard of the batch, and the gradients of
the replicas are summed (all-reduce). A loss is exact if every replica takes its value from sums
over the whole batch and its gradient from its own shard, however the pixels that count are spread:
loss = batch_sum(losses of my pixels) / batch_sum(number of my pixels). On JAX the step sees the
whole batch, and there is one replica.
"""

import keras

from keras_fcn.backends import keras_compat


def check_losses(model: keras.Model) -> None:
    """Refuses losses that each replica would compute from its own shard only.

    Raises:
        ValueError: If a loss of the model is none of this package's, or a layer adds one.
    """
    others = [
        wrapper.loss
        for wrapper in keras_compat.flat_losses(model)
        if not getattr(wrapper.loss, "is_exact_on_replicas", False)
    ]
    if others or model.losses:
        raise ValueError(
            "`loss` must be one of keras_fcn.losses, such as SparseCategoricalCrossentropy, and no "
            "layer may have a regularizer, where several devices share a batch: others would be "
            f"scaled by their number. Received: loss={others or model.losses}."
        )
