"""TensorFlow's strategies, for Keras's trainer."""

import functools
import os

import keras
import numpy as np
import tensorflow as tf
from keras.src.backend.tensorflow.trainer import TFEpochIterator
from keras.src.utils.python_utils import pythonify_logs

from keras_fcn.distribution import replicas


def strategy(devices):
    """Returns the strategy for `devices`, as `data_parallel` takes them, or for all workers."""
    if "TF_CONFIG" in os.environ:
        if devices != "all":
            raise ValueError(
                "`devices` must be 'all' where TF_CONFIG names several workers. "
                f"Received: {devices=}."
            )
        return _several_workers()
    if devices == "all":
        # TensorFlow's own default is one CPU, however many there are.
        found = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
        devices = [device.name for device in found]
    return _one_worker(tuple(devices))


# Two strategies of a process number their collective operations alike, and these then meet.
@functools.cache
def _one_worker(devices):
    return tf.distribute.MirroredStrategy(devices)


@functools.cache
def _several_workers():
    return _SeveralWorkers()


def num_workers() -> int:
    """How many processes TF_CONFIG names, once `strategy` has joined them."""
    return _several_workers().extended._num_workers if _several_workers.cache_info().currsize else 1


def worker() -> int:
    """The number of this process, from 0."""
    return _several_workers().extended._id_in_cluster if num_workers() > 1 else 0


def first_address() -> str:
    """Host and port of the first process."""
    cluster = _several_workers().cluster_resolver.cluster_spec().as_dict()
    return (cluster.get("chief") or cluster["worker"])[0]


def gathered(array: np.ndarray) -> np.ndarray:
    """See `processes`."""
    strategy = _several_workers()
    # TensorFlow sends no bytes.
    sent = array.astype("int32") if array.dtype == "uint8" else array

    def gather():
        context = tf.distribute.get_replica_context()
        return context.all_gather(tf.constant(sent)[None], axis=0)

    own = strategy.experimental_local_results(strategy.run(tf.function(gather)))[0].numpy()
    return own[:: strategy.extended._num_devices_per_worker].astype(array.dtype)


class _SeveralWorkers(tf.distribute.MultiWorkerMirroredStrategy):
    """Every worker gives the examples of its own data set, a batch of it at every step."""

    def experimental_distribute_dataset(self, dataset, options=None):
        replicas = self.extended._num_devices_per_worker
        batch_size = _batch_size(dataset) if replicas > 1 else -1
        if batch_size > 0:
            sizes = [(batch_size + i) // replicas for i in reversed(range(replicas))]
            dataset = dataset.rebatch(sizes)
        return self.distribute_datasets_from_function(lambda _: dataset, options)


def _batch_size(dataset):
    from tensorflow.python.data.experimental.ops import distribute

    return int(distribute.compute_batch_size(dataset))


class _AsManyBatches:
    """A data adapter that counts as many batches as the worker with most has.

    TensorFlow gives a worker that has no more batches empty ones until the others have none either.
    """

    def __init__(self, adapter, num_batches):
        self._adapter = adapter
        self.num_batches = num_batches

    def __getattr__(self, name):
        return getattr(self._adapter, name)


def _agree_on_num_batches(iterator, strategy):
    adapter = iterator.data_adapter
    if not _on_several_workers(strategy) or isinstance(adapter, _AsManyBatches):
        return
    number = -1 if adapter.num_batches is None else adapter.num_batches
    numbers = strategy.gather(tf.constant([number]), axis=0).numpy()
    number = None if numbers.min() < 0 else int(numbers.max())
    iterator.data_adapter = _AsManyBatches(adapter, number)


class Trainer:
    """Mixin for a `keras.Model` on TensorFlow; without a strategy it does what Keras does."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._gradients = replicas.gradients()

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        # Keras takes the mean of the replicas' first batches only to see its shape: that costs a
        # generator its first batch, and fails for shares of different sizes and on several workers.
        if iterator is not None and self._distribute_strategy is not None:
            # Before `reset`, which Keras calls next, takes the number over.
            _agree_on_num_batches(iterator, self._distribute_strategy)
            spec = iterator._distributed_dataset.element_spec
            iterator, data_batch = None, keras.tree.map_structure(_spec_of_one_replica, spec)
        super()._maybe_symbolic_build(iterator, data_batch)

    def call(self, inputs, training=None, mask=None):
        if self._distribute_strategy is None or not tf.is_tensor(inputs):
            return super().call(inputs, training=training, mask=mask)
        # A replica may get no example, of which oneDNN's convolutions give as many channels as they
        # take: it computes one of zeros that counts nowhere.
        examples = tf.shape(inputs)[0]
        missing = tf.cast(examples == 0, "int32")
        inputs = tf.pad(inputs, [[0, missing], *[[0, 0]] * (len(inputs.shape) - 1)])
        return super().call(inputs, training=training, mask=mask)[:examples]

    def make_train_function(self, force=False):
        if self._distribute_strategy is not None:
            replicas.check_losses(self)
            if self._gradients is not None:
                _send_gradients_in(self._gradients, self.optimizer)
        elif self.optimizer is not None:
            _add_up_nothing(self.optimizer)
            if not self.optimizer.built:
                # TensorFlow traces a step twice if variables are made while it traces it.
                self.optimizer.build(self.trainable_variables)
        return super().make_train_function(force)

    def _make_function(self, step_function):
        # On several workers Keras takes the mean of the logs over an axis that they lack.
        if _on_several_workers(self._distribute_strategy):
            step = step_function

            def step_function(data):
                return keras.tree.map_structure(lambda log: log[None], step(data))

        return super()._make_function(step_function)

    def predict(self, *args, **kwargs):
        # Keras would give every worker the predictions of all, in the order of the steps.
        strategy = self._distribute_strategy
        if not _on_several_workers(strategy):
            return super().predict(*args, **kwargs)
        self._distribute_strategy = None
        try:
            return super().predict(*args, **kwargs)
        finally:
            self._distribute_strategy = strategy

    # Keras would give every replica the whole batch.

    def train_on_batch(self, x, y=None, sample_weight=None, class_weight=None, return_dict=False):
        if self._distribute_strategy is None:
            return super().train_on_batch(x, y, sample_weight, class_weight, return_dict)
        self._assert_compile_called("train_on_batch")
        batch = TFEpochIterator(
            x=x,
            y=y,
            sample_weight=sample_weight,
            class_weight=class_weight,
            batch_size=_length(x),
            distribute_strategy=self._distribute_strategy,
        )
        self._maybe_symbolic_build(iterator=batch)
        self.make_train_function()
        self.reset_metrics()
        logs = self.train_function(iter(batch._distributed_dataset))
        logs = pythonify_logs(self._get_metrics_result_or_logs(logs))
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


def _add_up_nothing(optimizer):
    """Lets an optimizer take the gradients of a single device as they are.

    Keras would add them up all the same, by a function with a gradient of its own. TensorFlow keeps
    the graph of that, and with it the weights and the optimizer's state, as long as the process
    lives.
    """
    _within(optimizer)._all_reduce_sum_gradients = list


def _send_gradients_in(dtype, optimizer):
    """Lets the optimizer of a model add up the gradients of the replicas in `dtype`."""
    optimizer = _within(optimizer)
    sums = type(optimizer)._all_reduce_sum_gradients

    def rounded_sums(grads_and_vars):
        sent = [(tf.cast(gradient, dtype), variable) for gradient, variable in grads_and_vars]
        received = sums(optimizer, sent)
        return [(tf.cast(gradient, variable.dtype), variable) for gradient, variable in received]

    optimizer._all_reduce_sum_gradients = rounded_sums


def _within(optimizer):
    """Returns the optimizer that a `LossScaleOptimizer` holds, or any other itself."""
    return getattr(optimizer, "inner_optimizer", optimizer)


def _length(x):
    return len(keras.tree.flatten(x)[0])


def _on_several_workers(strategy):
    return strategy is not None and strategy.extended._in_multi_worker_mode()


def _spec_of_one_replica(spec):
    spec = getattr(spec, "_value_specs", (spec,))[0]
    return keras.KerasTensor(tuple(spec.shape), spec.dtype.name)
