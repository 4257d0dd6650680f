"""Lets `fit` take Python data whose images change their size from batch to batch."""

import functools
import inspect
import sys
import types

import keras
import numpy as np
from keras.src.trainers.data_adapters.array_data_adapter import (
    ArrayDataAdapter,
    can_convert_arrays,
)
from keras.src.trainers.data_adapters.generator_data_adapter import GeneratorDataAdapter
from keras.src.trainers.data_adapters.py_dataset_adapter import PyDatasetAdapter
from keras.src.trainers.data_adapters.torch_data_loader_adapter import TorchDataLoaderAdapter

from keras_fcn.distribution.devices import is_tensorflow_without_gpu


def _accepts_any_size(method):
    """Replaces Python data among the arguments of a method of `keras.Model`."""
    signature = inspect.signature(method)

    @functools.wraps(method)
    def with_any_size(self, *args, **kwargs):
        if keras.backend.backend() != "tensorflow":
            return method(self, *args, **kwargs)
        arguments = signature.bind(self, *args, **kwargs).arguments
        extra = arguments.pop("kwargs", {})
        for name in ("x", "validation_data"):
            if name in arguments:
                training = name == "x" and method.__name__ == "fit"
                arguments[name] = _any_size_adapter(
                    arguments[name],
                    data_format=self.data_format,
                    shuffle=arguments.get("shuffle", True) if training else False,
                    class_weight=arguments.get("class_weight") if training else None,
                )
        return method(**arguments, **extra)

    return with_any_size


class AnySizeTrainer:
    """Mixin for a `keras.Model` that takes images of every size, in front of it in the bases.

    On TensorFlow, Keras takes a height or width for constant when the first two batches of a
    `PyDataset`, a generator or PyTorch's `DataLoader` agree in it, and stops at the first batch
    that differs. Here heights and widths are never constant. (A `tf.data.Dataset` says itself what
    may change; JAX and torch do not ask.)

    `jit_compile="auto"` stands for XLA on TensorFlow only where there is a GPU: on CPUs its
    convolutions take several times as long, and every new size is compiled anew.

    On TensorFlow, `predict` of arrays goes without the tuner of tf.data. It looks after 10 ms, then
    after twice as long each time, and Keras's `predict` may wait at its end until it looks again:
    for as long as it has run.
    """

    fit = _accepts_any_size(keras.Model.fit)
    evaluate = _accepts_any_size(keras.Model.evaluate)
    _predict_any_size = _accepts_any_size(keras.Model.predict)

    def predict(self, x, batch_size=None, verbose="auto", steps=None, callbacks=None):
        if keras.backend.backend() == "tensorflow" and can_convert_arrays((x, None, None)):
            x = _UntunedArrays(x, batch_size=batch_size, steps=steps)
        return self._predict_any_size(x, batch_size, verbose, steps, callbacks)

    def _resolve_auto_jit_compile(self):
        if is_tensorflow_without_gpu():
            return False
        return super()._resolve_auto_jit_compile()


class _UntunedArrays(ArrayDataAdapter):
    def get_tf_dataset(self):
        import tensorflow as tf

        options = tf.data.Options()
        options.autotune.enabled = False
        return super().get_tf_dataset().with_options(options)


def _any_size_adapter(x, *, data_format, shuffle, class_weight):
    if isinstance(x, keras.utils.PyDataset):
        adapter = PyDatasetAdapter(x, class_weight=class_weight, shuffle=shuffle)
        batch = adapter._standardize_batch(x[0])
    elif isinstance(x, types.GeneratorType) and class_weight is None:
        adapter = GeneratorDataAdapter(x)
        batch = adapter._first_batches[0]
    elif _is_data_loader(x) and class_weight is None:
        adapter = TorchDataLoaderAdapter(x)
        batch = keras.tree.map_structure(np.asarray, tuple(next(iter(x))))
    else:
        return x
    adapter._output_signature = keras.tree.map_structure(
        functools.partial(_any_size_spec, data_format=data_format), batch
    )
    return adapter


def _is_data_loader(x):
    # Whoever has one has imported PyTorch.
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(x, torch.utils.data.DataLoader)


def _any_size_spec(array, data_format):
    import tensorflow as tf

    array = array if hasattr(array, "shape") else keras.ops.convert_to_numpy(array)
    shape = [None, *array.shape[1:]]
    first = 2 if len(shape) == 4 and data_format == "channels_first" else 1
    if len(shape) >= 3:
        shape[first : first + 2] = (None, None)
    return tf.TensorSpec(shape, keras.backend.standardize_dtype(array.dtype))
