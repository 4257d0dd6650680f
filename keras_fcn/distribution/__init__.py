"""Data and model parallelism: one model on several devices and machines."""

from keras_fcn.distribution.scopes import data_parallel, model_parallel

__all__ = ["data_parallel", "model_parallel"]
