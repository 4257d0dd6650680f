"""Dropout on several replicas of a model."""

import keras

from keras_fcn.distribution.replicas import num_replicas, replica_id

# A seed is (seed, step), and PyTorch adds the two: the steps of one replica must not reach the
# seed of the next one.
_STRIDE = 1_000_003


@keras.saving.register_keras_serializable(package="keras_fcn")
class Dropout(keras.layers.Dropout):
    """Keras's layer of the same name, with another mask on every replica.

    Keras keeps a seed on each replica, and all of them are equal. Arguments are Keras's.
    """

    def call(self, inputs, training=False):
        if not training or self.rate == 0 or num_replicas() == 1:
            return super().call(inputs, training=training)
        seed = _SeedOfReplica(self.seed_generator)
        return keras.random.dropout(inputs, self.rate, self.noise_shape, seed)


class _SeedOfReplica(keras.random.SeedGenerator):
    """Draws from another generator, whose state it uses and keeps equal on all replicas."""

    def __init__(self, generator):
        self._generator = generator
        # Without one, Keras would draw from PyTorch's own random numbers.
        self._initial_seed = generator._initial_seed

    def next(self, ordered=True):
        seed = self._generator.next(ordered)
        own = keras.ops.cast(replica_id(), seed.dtype) * _STRIDE
        return seed + keras.ops.stack([own, keras.ops.zeros_like(own)])
