"""Dropout for data-parallel replicas of a model."""

import keras

from keras_fcn.backends import backend
from keras_fcn.backends.keras_compat import ReplicaSeed

# A seed is (seed, step), and PyTorch adds the two: the steps of one replica must not run into the
# seeds of the next one.
_STRIDE = 1_000_003


@keras.saving.register_keras_serializable(package="keras_fcn")
class Dropout(keras.layers.Dropout):
    """`keras.layers.Dropout` with a different mask on every replica.

    Keras stores one seed per replica, all with the same value, so every replica would drop the
    same units. The arguments are those of `keras.layers.Dropout`.
    """

    # The graph of a model stores a default that is not None, and a `keras.Function` of this graph
    # would pass it on in training.
    def call(self, inputs, training=None):
        if not training or self.rate == 0 or backend.num_replicas() == 1:
            return super().call(inputs, training=training)
        seed = ReplicaSeed(self.seed_generator, backend.replica_id() * _STRIDE)
        return keras.random.dropout(inputs, self.rate, self.noise_shape, seed)
