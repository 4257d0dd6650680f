"""`fit`, `evaluate` and `predict` on TensorFlow: images of every size, one device or several."""

import functools
import inspect
import itertools
import sys
import types
from typing import Any

import keras
import tensorflow as tf

from keras_fcn.backends import backend, keras_compat
from keras_fcn.backends.replicas import check_losses


def _accepts_any_size(method):
    """Replaces Python data among the arguments of a method of `keras.Model`."""
    signature = inspect.signature(method)

    @functools.wraps(method)
    def with_any_size(self, *args, **kwargs):
        arguments = signature.bind(self, *args, **kwargs).arguments
        extra, errors = arguments.pop("kwargs", {}), []
        for name in ("x", "validation_data"):
            if name not in arguments:
                continue
            training = name == "x" and method.__name__ == "fit"
            given = arguments[name]
            arguments[name] = _of_any_size(
                given,
                errors,
                data_format=self.data_format,
                needs_targets=method.__name__ != "predict",
                shuffle=arguments.get("shuffle", True) if training else False,
                class_weight=arguments.get("class_weight") if training else None,
            )
            if (
                training
                and isinstance(arguments[name], tf.data.Dataset)
                and arguments[name] is not given
            ):
                # Keras would warn that it cannot shuffle a dataset.
                arguments["shuffle"] = False
        try:
            return method(**arguments, **extra)
        except tf.errors.OpError as error:
            # TensorFlow states only the text of what the user's own data raised.
            if errors:
                raise errors[0] from error
            raise

    return with_any_size


class Trainer:
    """Mixin for a `keras.Model` on TensorFlow.

    Keras infers a static height and width when the first two batches of a `PyDataset`, a generator
    or a PyTorch `DataLoader` agree, and raises on the first batch that differs. Here both are
    always dynamic. (A `tf.data.Dataset` declares itself what may change.)

    `jit_compile="auto"` means XLA only on GPUs: on CPUs its convolutions take several times as
    long, and every new size is compiled.

    `predict` of arrays runs without tf.data's autotuning. The tuner looks after 10 ms, then after
    twice as long each time, and Keras's `predict` may wait for its next look.

    Under a strategy, a step is exact over the batch of all replicas, see `check_losses`.
    """

    fit = _accepts_any_size(keras.Model.fit)
    evaluate = _accepts_any_size(keras.Model.evaluate)
    _predict_any_size = _accepts_any_size(keras.Model.predict)

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self._gradient_dtype = backend.gradient_dtype

    def _resolve_auto_jit_compile(self):
        return False if backend.computes_on_cpu() else super()._resolve_auto_jit_compile()

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        # Keras averages the replicas' first batches only to see their shape: that costs a generator
        # its first batch, and fails for shards of different sizes and on several workers.
        if iterator is not None and self._distribute_strategy is not None:
            # Before `reset`, which Keras calls next, reads the number.
            _agree_on_num_batches(iterator, self._distribute_strategy)
            specs = keras_compat.spec_of_first_replica(iterator)
            iterator, data_batch = None, keras.tree.map_structure(_keras_tensor, specs)
        super()._maybe_symbolic_build(iterator, data_batch)

    def call(self, inputs, training=None, mask=None):
        if self._distribute_strategy is None or not tf.is_tensor(inputs):
            return super().call(inputs, training=training, mask=mask)
        # oneDNN returns the wrong channel count for an empty batch. An empty shard is therefore
        # padded with one image of zeros, and its output is dropped.
        examples = tf.shape(inputs)[0]
        missing = tf.cast(examples == 0, "int32")
        inputs = tf.pad(inputs, [[0, missing], *[[0, 0]] * (len(inputs.shape) - 1)])
        outputs = super().call(inputs, training=training, mask=mask)
        return keras.tree.map_structure(lambda output: output[:examples], outputs)

    def make_train_function(self, force=False):
        if self._distribute_strategy is not None:
            check_losses(self)
            if self._gradient_dtype is not None:
                _all_reduce_in(self._gradient_dtype, self.optimizer)
        elif self.optimizer is not None:
            # Keras's sum over one device has a custom gradient. TensorFlow keeps its graph until
            # the process ends, and with it the weights and the optimizer's state.
            keras_compat.replace_gradient_sum(self.optimizer, lambda all_reduce: list)
            if not self.optimizer.built:
                # TensorFlow traces a step twice if variables are created while it traces.
                self.optimizer.build(self.trainable_variables)
        return super().make_train_function(force)

    def _make_function(self, step_function):
        # On several workers Keras averages the logs over an axis that they lack.
        if _has_several_workers(self._distribute_strategy):
            step = step_function

            def step_function(data):
                return keras.tree.map_structure(lambda log: log[None], step(data))

        return super()._make_function(step_function)

    def predict(self, x, batch_size=None, verbose="auto", steps=None, callbacks=None):
        # Under several workers, Keras would return the predictions of all of them to each, in the
        # order of the steps.
        strategy = self._distribute_strategy
        if _has_several_workers(strategy):
            self._distribute_strategy = None
        try:
            x = keras_compat.arrays_without_autotuning(x, batch_size, steps)
            return self._predict_any_size(x, batch_size, verbose, steps, callbacks)
        finally:
            if self._distribute_strategy is not strategy:
                self._distribute_strategy = strategy

    # Keras would give every replica the whole batch.

    def train_on_batch(self, x, y=None, sample_weight=None, class_weight=None, return_dict=False):
        if self._distribute_strategy is None:
            return super().train_on_batch(x, y, sample_weight, class_weight, return_dict)
        self._assert_compile_called("train_on_batch")
        iterator, batches = keras_compat.distributed_batches(
            self._distribute_strategy,
            x=x,
            y=y,
            sample_weight=sample_weight,
            class_weight=class_weight,
            batch_size=_length(x),
        )
        self._maybe_symbolic_build(iterator=iterator)
        self.make_train_function()
        self.reset_metrics()
        logs = self.train_function(iter(batches))
        logs = keras_compat.python_logs(self._get_metrics_result_or_logs(logs))
        return logs if return_dict else self._flatten_metrics_in_order(logs)

    def test_on_batch(self, x, y=None, sample_weight=None, return_dict=False):
        if self._distribute_strategy is None:
            return super().test_on_batch(x, y, sample_weight, return_dict)
        return self.evaluate(
            x, y, _length(x), verbose=0, sample_weight=sample_weight, return_dict=return_dict
        )

    def predict_on_batch(self, x):
        if self._distribute_strategy is None:
            return super().predict_on_batch(x)
        return self.predict(x, _length(x), verbose=0)


def _of_any_size(x, errors, *, data_format, needs_targets, shuffle, class_weight):
    """Returns data whose heights and widths are dynamic; what they raise is added to `errors`."""
    any_size = functools.partial(_spec_of_any_size, data_format=data_format)
    if isinstance(x, keras.utils.PyDataset):
        return keras_compat.py_dataset_of_changing_sizes(
            x, any_size, shuffle=shuffle, class_weight=class_weight
        )
    if class_weight is not None:
        return x
    if isinstance(x, types.GeneratorType):
        first = next(x, None)
        _check_batch("generator", first, needs_targets)
        return _dataset(lambda: itertools.chain([first], x), first, any_size, errors)
    if _is_data_loader(x):
        first = next(iter(x), None)
        _check_batch("DataLoader", first, needs_targets)
        dataset = _dataset(lambda: x, first, any_size, errors)
        # An iterable dataset may yield fewer examples than its length.
        if not isinstance(x.dataset, sys.modules["torch"].utils.data.IterableDataset):
            dataset = dataset.apply(tf.data.experimental.assert_cardinality(len(x)))
        return dataset
    return x


def _check_batch(kind, batch, needs_targets):
    if batch is None:
        raise ValueError(f"A {kind} must yield at least one batch. Received: none.")
    if needs_targets and not isinstance(batch, (tuple, list)):
        raise ValueError(
            f"A {kind} must yield tuples of (images, label maps) or (images, label maps, sample "
            f"weights). Received: a {type(batch).__name__}."
        )


def _dataset(batches, first, any_size, errors):
    """Returns a `tf.data.Dataset` of `batches()`, with dynamic heights and widths."""

    def generate():
        try:
            yield from map(_as_batch, batches())
        except Exception as error:
            errors.append(error)
            raise

    signature = keras.tree.map_structure(any_size, _as_batch(first))
    dataset = tf.data.Dataset.from_generator(generate, output_signature=signature)
    return dataset.prefetch(tf.data.AUTOTUNE)


def _as_batch(batch):
    # A list would be one tensor for TensorFlow.
    return tuple(batch) if isinstance(batch, list) else batch


def _is_data_loader(x):
    # Whoever has one has imported PyTorch.
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(x, torch.utils.data.DataLoader)


def _spec_of_any_size(array, data_format):
    array = array if hasattr(array, "shape") else keras.ops.convert_to_numpy(array)
    shape = [None, *array.shape[1:]]
    first = 2 if len(shape) == 4 and data_format == "channels_first" else 1
    if len(shape) >= 3:
        shape[first : first + 2] = (None, None)
    return tf.TensorSpec(shape, keras.backend.standardize_dtype(array.dtype))


class _AgreedNumBatches:
    """A data adapter with the number of batches of the worker that has most.

    TensorFlow passes empty batches to a worker without more batches until the others have finished.
    """

    def __init__(self, adapter, num_batches):
        self._adapter = adapter
        self.num_batches = num_batches

    def __getattr__(self, name):
        return getattr(self._adapter, name)


def _agree_on_num_batches(iterator, strategy):
    adapter = iterator.data_adapter
    if not _has_several_workers(strategy) or isinstance(adapter, _AgreedNumBatches):
        return
    number = -1 if adapter.num_batches is None else adapter.num_batches
    numbers = strategy.gather(tf.constant([number]), axis=0).numpy()
    number = None if numbers.min() < 0 else int(numbers.max())
    iterator.data_adapter = _AgreedNumBatches(adapter, number)


def _all_reduce_in(dtype, optimizer):
    """Makes the optimizer of a model add up the gradients of the replicas in `dtype`."""

    def rounded(all_reduce):
        def rounded_all_reduce(pairs):
            sent = [(tf.cast(gradient, dtype), variable) for gradient, variable in pairs]
            received = all_reduce(sent)
            return [
                (tf.cast(gradient, variable.dtype), variable) for gradient, variable in received
            ]

        return rounded_all_reduce

    keras_compat.replace_gradient_sum(optimizer, rounded)


def _length(x):
    return len(keras.tree.flatten(x)[0])


def _has_several_workers(strategy):
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return False
    cluster = strategy.cluster_resolver.cluster_spec().as_dict()
    return sum(len(cluster.get(kind, ())) for kind in ("chief", "worker")) > 1


def _keras_tensor(spec):
    return keras.KerasTensor(tuple(spec.shape), spec.dtype.name)
