"""Keras's distributions on JAX, for models that keep theirs."""

import collections
import contextlib
import functools
import os
import threading

import jax
import keras
import numpy as np
from jax.experimental import multihost_utils
from keras.src.backend.jax import trainer as jax_trainer

from keras_fcn.distribution.devices import is_one_cpu_of_jax
from keras_fcn.distribution.interrupts import interrupts_wait
from keras_fcn.distribution.one_batch import is_one_batch


def data_parallel(devices):
    """Returns the distribution for `devices`, as `data_parallel` takes them."""
    return _DataParallel(devices=_devices(devices), auto_shard_dataset=False)


def model_parallel(num_shards, devices):
    """Returns the distribution of fc6 and fc7 over groups of `num_shards` of the devices."""
    devices = _devices(devices)
    groups, rest = divmod(len(devices), num_shards)
    if rest or groups % jax.process_count():
        raise ValueError(
            "`num_shards` must divide the number of devices of a process. Received: "
            f"{num_shards=}, {len(devices)} devices of {jax.process_count()} processes."
        )
    mesh = keras.distribution.DeviceMesh((groups, num_shards), ("batch", "model"), devices)
    layouts = keras.distribution.LayoutMap(mesh)
    # By fc6's outputs and fc7's inputs, so that only the sums of fc7 go from device to device.
    layouts[r"(.*/)?fc6/kernel"] = (None, None, None, "model")
    layouts[r"(.*/)?fc6/bias"] = ("model",)
    layouts[r"(.*/)?fc7/kernel"] = (None, None, "model", None)
    return _ModelParallel(layout_map=layouts, batch_dim_name="batch", auto_shard_dataset=False)


def _devices(devices):
    if "KERAS_DISTRIBUTION_NUM_PROCESSES" in os.environ and not jax.distributed.is_initialized():
        keras.distribution.initialize()
    return keras.distribution.list_devices() if devices == "all" else list(devices)


_NAMES_OF_STATE = (
    *("trainable_variables", "non_trainable_variables", "optimizer_variables"),
    "metrics_variables",
)
_NAMES_OF_TEST_STATE = tuple(name for name in _NAMES_OF_STATE if "optimizer" not in name)
_jit_is_replaced = threading.RLock()
# Programs that a model keeps for predictions, each of some MiB.
_SIZES = 16


class _AnyBatchSize:
    """Mixin for a `keras.distribution.Distribution`: batches need not divide by the devices."""

    def get_data_layout(self, data_shape):
        layout = super().get_data_layout(data_shape)
        if data_shape[0] % self._num_shards_here == 0:
            return layout
        if self._is_multi_process:
            raise ValueError(
                "The batch of a process must divide by the shards that its devices take. Received: "
                f"{data_shape[0]} examples for {self._num_shards_here} shards."
            )
        return keras.distribution.TensorLayout([None] * len(data_shape), self.device_mesh)

    @property
    def _num_shards_here(self):
        return self.num_model_replicas // self._num_processes

    @contextlib.contextmanager
    def scope(self):
        outer = jax_trainer.JAXEpochIterator
        jax_trainer.JAXEpochIterator = _EpochIterator
        try:
            with super().scope():
                yield
        finally:
            jax_trainer.JAXEpochIterator = outer


class _DataParallel(_AnyBatchSize, keras.distribution.DataParallel):
    pass


class _ModelParallel(_AnyBatchSize, keras.distribution.ModelParallel):
    pass


class _EpochIterator(jax_trainer.JAXEpochIterator):
    """Lays out every batch by itself, and lets processes have batches of different sizes.

    Keras lays every batch out as the first one, at which a smaller last one fails.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._agree_on_num_batches()

    def reset(self):
        super().reset()
        self._agree_on_num_batches()

    def _agree_on_num_batches(self):
        if jax.process_count() > 1:
            number = -1 if self._num_batches is None else self._num_batches
            numbers = multihost_utils.process_allgather(np.array(number, "int32"))
            self._num_batches = None if numbers.min() < 0 else int(numbers.max())

    def _get_distributed_iterator(self, distribution):
        batches = self.data_adapter.get_jax_iterator()
        if not distribution._is_multi_process:
            return map(jax_trainer._distribute_data, batches)
        return _global_batches(batches, distribution)


def _global_batches(batches, distribution):
    """Yields what the processes' `batches` are together, until the last process has no more."""
    batches, empty = iter(batches), None
    while True:
        batch = next(batches, empty)
        if batch is None:
            raise ValueError("The data of a process must hold at least one batch. Received: none.")
        batch = keras.tree.map_structure(np.asarray, batch)
        empty = keras.tree.map_structure(lambda x: x[:0], batch)
        flat = keras.tree.flatten(batch)
        shapes = np.array([size for x in flat for size in x.shape], "int32")
        shapes = multihost_utils.process_allgather(shapes)
        lengths = shapes[:, 0]
        if not lengths.any():
            return
        shape = shapes[lengths.argmax()]
        parts = [np.split(row, np.cumsum([x.ndim for x in flat])[:-1]) for row in (shape, *shapes)]
        for part, length in zip(parts[1:], lengths, strict=True):
            if length and any((a[1:] != b[1:]).any() for a, b in zip(part, parts[0], strict=True)):
                raise ValueError(
                    "On JAX the images that the processes pass in a step must have the same size. "
                    f"Received: {[tuple(p[0]) for p in parts[1:]]}."
                )
        here = lengths[jax.process_index()]
        if (lengths == here).all() and here % distribution._num_shards_here == 0:
            distribution.rows_here = slice(None)
            yield jax_trainer._distribute_data(batch)
            continue
        start = lengths[: jax.process_index()].sum()
        distribution.rows_here = slice(start, start + here)
        whole = [_gather(x, size[1:], lengths) for x, size in zip(flat, parts[0], strict=True)]
        replicated = [_replicate(x, distribution) for x in whole]
        yield keras.tree.pack_sequence_as(batch, replicated)


def _gather(x, shape, lengths):
    """Returns the processes' arrays, of those lengths, behind one another."""
    padded = np.zeros((max(lengths), *shape), x.dtype)
    padded[: len(x)] = x.reshape(len(x), *shape)
    parts = multihost_utils.process_allgather(padded)
    return np.concatenate([part[:length] for part, length in zip(parts, lengths, strict=True)])


def _replicate(x, distribution):
    layout = keras.distribution.TensorLayout([None] * x.ndim, distribution.device_mesh)
    return jax.make_array_from_process_local_data(layout.backend_layout, x)


def _under_its_distribution(name):
    """A method of `keras.Model` that the model's own distribution is set for while it runs.

    Whatever it raises, the model then has the weights of the last whole step.
    """

    @functools.wraps(getattr(keras.Model, name))
    def method(self, *args, **kwargs):
        with contextlib.nullcontext() if self._distribution is None else self._distribution.scope():
            try:
                return getattr(super(Trainer, self), name)(*args, **kwargs)
            except BaseException:
                self.jax_state_sync()
                self._jax_state = None
                raise

    return method


class Trainer:
    """Mixin for a `keras.Model` on JAX.

    Made outside of a distribution of ours, it is Keras's, but compiles for memory on a single CPU.
    Predictions come to the host batch by batch; several threads may predict at a time.

    While Keras trains or evaluates, the variables are without values: these are in `_jax_state`,
    whose names are those of `_get_jax_state`. A step uses up the memory of the values that it gets.
    """

    _jax_state = None

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        # `predict` of Keras keeps what it is at in attributes of the model.
        self._predicts = threading.RLock()
        distribution = keras.distribution.distribution()
        self._distribution = distribution if isinstance(distribution, _AnyBatchSize) else None

    fit = _under_its_distribution("fit")
    evaluate = _under_its_distribution("evaluate")
    _predict_alone = _under_its_distribution("predict")
    train_on_batch = _under_its_distribution("train_on_batch")
    test_on_batch = _under_its_distribution("test_on_batch")

    def predict(self, x, batch_size=None, verbose="auto", steps=None, callbacks=None):
        if self._distribution is None and is_one_batch(x, batch_size, verbose, steps, callbacks):
            return self.predict_on_batch(x)
        return self._predict(x, batch_size, verbose, steps, callbacks)

    def _predict(self, *args, **kwargs):
        with self._predicts:
            return self._predict_alone(*args, **kwargs)

    def predict_on_batch(self, x):
        # Keras leaves this batch alone on the default device.
        if self._distribution is not None:
            return self._predict(x, batch_size=len(keras.tree.flatten(x)[0]), verbose=0)
        # Without a word to the model, so that no thread gets in the way of another.
        self.make_predict_function()
        state = self._get_jax_state(trainable_variables=True, non_trainable_variables=True)
        outputs, _ = self.predict_function(state, iter([(x,)]))
        return keras.tree.map_structure(np.array, outputs)

    def _get_jax_state(self, purge_model_variables=False, **of):
        # A prediction leaves the values where they are, for other threads that predict.
        if not of.get("metrics_variables"):
            return super()._get_jax_state(**of)
        state = super()._get_jax_state(**of, purge_model_variables=purge_model_variables)
        self._keep(state)
        return state

    def _keep(self, state):
        names = _NAMES_OF_STATE if len(state) == 4 else _NAMES_OF_TEST_STATE
        self._jax_state = dict(zip(names, state, strict=True))

    def jax_state_sync(self):
        if self._jax_state and "metrics_variables" not in self._jax_state:
            # A prediction has changed nothing.
            self._jax_state_synced = True
        else:
            super().jax_state_sync()

    def make_train_function(self, force=False):
        computes_again = getattr(self, "gradient_checkpointing", False)
        with _compiled_for_memory(self._keeping, computes_again):
            super().make_train_function(force)

    def make_test_function(self, force=False):
        with _compiled_for_memory(self._keeping):
            super().make_test_function(force)

    def _keeping(self, compiled_step):
        """A step that gives the model its new state before Ctrl-C can."""

        def step(state, data):
            with interrupts_wait():
                logs, state = compiled_step(state, data)
                self._keep(state)
            return logs, state

        return step

    def make_predict_function(self, force=False):
        with self._predicts:
            if self.predict_function is None or force:
                self._make_predict_function(force)

    def _make_predict_function(self, force):
        with _compiled_for_memory():
            super().make_predict_function(force)
        step = self.predict_function

        def step_to_host(state, iterator):
            # Keras would leave the logits of all batches on the device until the last one is there.
            outputs, _ = step(state, iterator)
            return keras.tree.map_structure(self._on_host, outputs), state

        self.predict_function = step_to_host

    def _on_host(self, outputs):
        if self._distribution is not None and self._distribution._is_multi_process:
            return _rows_here(outputs, self._distribution.rows_here)
        return np.asarray(outputs)


@contextlib.contextmanager
def _compiled_for_memory(around=None, computes_again=False):
    """Lets Keras compile its functions with `_compiler_options` on a single CPU.

    Args:
        around: Function that is put around the compiled step. `None` for a prediction, which
            neither changes the state nor uses it up.
        computes_again: As in `_compiler_options`.
    """
    with _jit_is_replaced:
        jit, options = jax_trainer.jit, {}
        if is_one_cpu_of_jax():
            options["compiler_options"] = _compiler_options(computes_again)

        def jit_for_memory(function, donate_argnums=None, **others):
            if donate_argnums is None:
                return jit(function, **others, **options)
            if around is not None:
                return around(jit(function, donate_argnums=donate_argnums, **others, **options))
            # Returned, the state would be copied.
            outputs = _ProgramOfEachSize(
                lambda: jit(lambda state, data: function(state, data)[0], **options)
            )
            return lambda state, data: (outputs(state, data), state)

        jax_trainer.jit = jit_for_memory
        try:
            yield
        finally:
            jax_trainer.jit = jit


class _ProgramOfEachSize:
    """A compiled function that keeps the programs of the last `_SIZES` shapes of its data.

    JAX itself would keep one program for each shape that it was ever called with, of some MiB each.
    Several threads may call it at a time.

    Args:
        compiled: Returns a new function of (state, data), compiled by `jax.jit`. JAX frees the
            programs of a function with the function, so that each shape has one of its own.
    """

    def __init__(self, compiled):
        self._compiled = compiled
        self._programs = collections.OrderedDict()
        self._programs_change = threading.Lock()

    def __call__(self, state, data):
        shapes = tuple((x.shape, str(x.dtype)) for x in jax.tree.leaves(data))
        with self._programs_change:
            # The first thread that asks makes the function, and JAX lets the others wait for it.
            program = self._programs.pop(shapes, None) or self._compiled()
            self._programs[shapes] = program
            if len(self._programs) > _SIZES:
                self._programs.popitem(last=False)
        return program(state, data)


@functools.cache
def _compiler_options(computes_again):
    """XLA's options for functions that hold less at a time.

    By itself, XLA orders what it does so that much may run at once, for which it copies every
    kernel at the beginning of a training step. Its order for memory would compute early what is to
    be computed again late; there, its own order does, once it keeps the barriers in between, which
    it takes out on CPUs to join what is computed twice.
    """
    options = {"xla_cpu_copy_insertion_use_region_analysis": True}
    if computes_again:
        options["xla_disable_hlo_passes"] = "cse_barrier_expander"
    else:
        options["xla_cpu_scheduler_type"] = "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED"
    try:
        jax.jit(lambda x: x, compiler_options=options).lower(0).compile()
    except jax.errors.JaxRuntimeError:  # A version that does not know it.
        return {}
    return options


def _rows_here(array, rows):
    if array.is_fully_replicated:
        return np.asarray(array)[rows]
    shards = {shard.index[0].start: shard.data for shard in array.addressable_shards}
    return np.concatenate([np.asarray(shards[start]) for start in sorted(shards)])
