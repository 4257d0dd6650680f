"""What Keras's trainer does not do by itself when a model is trained on several devices."""

import keras

if keras.backend.backend() == "tensorflow":
    from keras_fcn.distribution.tensorflow_trainer import Trainer as DistributedTrainer
elif keras.backend.backend() == "jax":
    from keras_fcn.distribution.jax_trainer import Trainer as DistributedTrainer
else:
    from keras_fcn.distribution.torch_trainer import Trainer as DistributedTrainer

__all__ = ["DistributedTrainer"]
"""Mixin for a `keras.Model`, in front of it in the bases; on one device it changes nothing."""
