"""`fit`, `evaluate` and `predict` on JAX: in threads, in less memory, on several devices."""

import collections
import contextlib
import functools
import threading
from typing import Any

import jax
import keras
import numpy as np

from keras_fcn.backends import backend, keras_compat
from keras_fcn.backends.host_memory import return_freed_memory
from keras_fcn.backends.interrupts import interrupts_wait
from keras_fcn.backends.jax import AnyBatchSize
from keras_fcn.backends.jax_kernels import memory_options
from keras_fcn.backends.one_batch import is_one_batch

_NAMES_OF_STATE = (
    *("trainable_variables", "non_trainable_variables", "optimizer_variables"),
    "metrics_variables",
)
_NAMES_OF_TEST_STATE = tuple(name for name in _NAMES_OF_STATE if "optimizer" not in name)
# Programs that a model keeps for predictions, each of some MiB.
_SIZES = 16
# Settings of JAX, also as context managers, with which a function is traced or compiled.
_SETTINGS_OF_PROGRAM = (
    *("jax_default_device", "jax_default_matmul_precision", "jax_enable_x64"),
    *("jax_default_prng_impl", "jax_numpy_dtype_promotion", "jax_numpy_rank_promotion"),
)
# Settings with which JAX runs a function one operation at a time, or again that way.
_SETTINGS_TO_DEBUG = ("jax_disable_jit", "jax_debug_nans", "jax_debug_infs")


def _under_its_distribution(name):
    """A method of `keras.Model` that runs under the model's own distribution.

    Whatever it raises, the model then has the weights of the last whole step.
    """

    @functools.wraps(getattr(keras.Model, name))
    def method(self, *args, **kwargs):
        with self._scope():
            try:
                return getattr(super(Trainer, self), name)(*args, **kwargs)
            except BaseException:
                self.state_sync()
                self._jax_state = None
                raise

    return method


class Trainer:
    """Mixin for a `keras.Model` on JAX.

    Steps are compiled for memory on a single CPU. Predictions are copied to the host batch by
    batch, and several threads may predict at a time.

    While Keras trains or evaluates, the variables have no values: these are in `_jax_state`, whose
    names are those of `_get_jax_state`. A step donates the memory of the values that it gets.
    """

    _jax_state = None

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        # Keras's `predict` stores its progress in attributes of the model.
        self._predict_lock = threading.RLock()
        distribution = keras.distribution.distribution()
        self._distribution = distribution if isinstance(distribution, AnyBatchSize) else None

    fit = _under_its_distribution("fit")
    evaluate = _under_its_distribution("evaluate")
    _predict_with_keras = _under_its_distribution("predict")
    train_on_batch = _under_its_distribution("train_on_batch")
    test_on_batch = _under_its_distribution("test_on_batch")

    def predict(self, x, batch_size=None, verbose="auto", steps=None, callbacks=None):
        if self._distribution is None and is_one_batch(x, batch_size, verbose, steps, callbacks):
            return self.predict_on_batch(x)
        return self._predict(x, batch_size, verbose, steps, callbacks)

    def _predict(self, *args, **kwargs):
        with self._predict_lock:
            return self._predict_with_keras(*args, **kwargs)

    def predict_on_batch(self, x):
        # Keras puts this batch on the default device only.
        if self._distribution is not None:
            return self._predict(x, batch_size=len(keras.tree.flatten(x)[0]), verbose=0)
        # Changes no attribute of the model, so that threads do not disturb each other.
        self.make_predict_function()
        state = self._get_jax_state(trainable_variables=True, non_trainable_variables=True)
        outputs, _ = self.predict_function(state, iter([keras_compat.JaxExecution([(x,)])]))
        return outputs

    def _get_jax_state(self, purge_model_variables=False, **requested):
        # A prediction leaves the values in the variables, for other threads that predict.
        if not requested.get("metrics_variables"):
            return super()._get_jax_state(**requested)
        state = super()._get_jax_state(**requested, purge_model_variables=purge_model_variables)
        self._keep(state)
        return state

    def _keep(self, state):
        names = _NAMES_OF_STATE if len(state) == 4 else _NAMES_OF_TEST_STATE
        self._jax_state = dict(zip(names, state, strict=True))

    def state_sync(self) -> None:
        if self._jax_state and "metrics_variables" not in self._jax_state:
            # A prediction has changed nothing.
            self._jax_state_synced = True
        else:
            getattr(super(), keras_compat.jax_state_sync_name())()

    # The name of Keras 3.15.
    jax_state_sync = state_sync

    def make_train_function(self, force=False):
        if self.train_function is None or force:
            rematerializes = getattr(self, "gradient_checkpointing", False)
            step = self._compiled_step("train_step", range(4), rematerializes)
            self.train_function = self._execution(step)

    def make_test_function(self, force=False):
        if self.test_function is None or force:
            step = self._compiled_step("test_step", (0, 1, 3))
            self.test_function = self._execution(step)

    def _compiled_step(self, name, parts_of_state, rematerializes=False):
        """Returns a step that stores its new state in the model before Ctrl-C can interrupt it.

        Args:
            name: The method that is the step.
            parts_of_state: Those of `_NAMES_OF_STATE` that the step takes and returns.
            rematerializes: As in `memory_options`.
        """
        step = step_of_model = getattr(self, name)
        if self._is_compiled:
            step = jax.jit(
                lambda state, data: step_of_model(state, data),
                donate_argnums=0,
                out_shardings=self._shardings(parts_of_state),
                **_jit_options(rematerializes),
            )

        def uninterrupted(state, data):
            with interrupts_wait():
                logs, state = step(state, data)
                self._keep(state)
            return logs, state

        return uninterrupted

    def make_predict_function(self, force=False):
        with self._predict_lock:
            if self.predict_function is None or force:
                self.predict_function = self._made_predict_function()

    def _made_predict_function(self):
        def predict(state, data):
            return self.predict_step(state, data)[0]

        if self._is_compiled:
            options = _jit_options(rematerializes=False)
            # Without the state, which would be copied if it were returned.
            logits = _ProgramOfEachSize(
                lambda: jax.jit(lambda state, data: predict(state, data), **options)
            )
        else:
            logits = predict

        def to_host(state, iterator):
            # Keras would keep the logits of all batches on the device until the last one is there.
            batches = keras_compat.jax_batches(iterator, self.steps_per_execution)
            outputs = [
                keras.tree.map_structure(self._on_host, logits(state, data)) for data in batches
            ]
            if len(outputs) == 1:
                return outputs[0], state
            return keras.tree.map_structure(lambda *parts: np.concatenate(parts), *outputs), state

        return to_host

    def _execution(self, step):
        """Returns what Keras calls with its iterator: `steps_per_execution` steps."""

        def execute(state, iterator):
            for data in keras_compat.jax_batches(iterator, self.steps_per_execution):
                logs, state = step(state, data)
            return logs, state

        return execute

    @property
    def _is_compiled(self):
        return self.jit_compile and not self.run_eagerly

    def _scope(self):
        return (
            contextlib.nullcontext() if self._distribution is None else self._distribution.scope()
        )

    def _shardings(self, parts_of_state):
        if keras.distribution.distribution() is None:
            return None
        shardings = self._get_state_sharding_spec()
        return None, tuple(shardings[part] for part in parts_of_state)

    def _on_host(self, outputs):
        if self._distribution is not None and self._distribution.has_several_processes:
            return _rows_here(outputs, self._distribution.rows_here)
        # A copy, and writable: the outputs of many batches must not stay in pinned memory.
        return np.array(_in_host_memory(outputs))


def _jit_options(rematerializes):
    if not backend.computes_on_one_cpu():
        return {}
    return {"compiler_options": memory_options(rematerializes)}


class _ProgramOfEachSize:
    """A compiled function that keeps the programs of the last `_SIZES` shapes of its arguments.

    `jax.jit` would keep one program of some MiB for each shape that it was ever called with, and
    with it the trace and the lowered module, which take as much memory. Several threads may call
    it at a time.

    Args:
        compiled: Returns a new function of (state, data), compiled by `jax.jit`.
    """

    def __init__(self, compiled):
        self._compiled = compiled
        self._programs = collections.OrderedDict()
        self._programs_change = threading.Lock()

    def __call__(self, state, data):
        if any(getattr(jax.config, name) for name in _SETTINGS_TO_DEBUG):
            return self._compiled()(state, data)
        signature = _signature(state, data)
        with self._programs_change:
            program = self._programs.pop(signature, None) or _Program(self._compiled)
            self._programs[signature] = program
            if len(self._programs) > _SIZES:
                self._programs.popitem(last=False)
        return program(state, data)


class _Program:
    """A function that is compiled ahead of time for the shapes of its first call.

    Args:
        compiled: As in `_ProgramOfEachSize`.
    """

    def __init__(self, compiled):
        self._compiled = compiled
        self._executable = None
        self._compilation = threading.Lock()

    def __call__(self, state, data):
        # The first thread compiles, and the others wait for it.
        with self._compilation:
            is_first = self._executable is None
            if is_first:
                self._executable = self._compiled().lower(state, data).compile()
                keras_compat.drop_traces_of_jax()
        outputs = self._executable(state, data)
        if is_first:
            jax.block_until_ready(outputs)
            return_freed_memory()
        return outputs


def _signature(*arguments):
    """Returns what a program is compiled for; JAX would compile it again where that changes."""
    leaves, structure = jax.tree.flatten(arguments)
    types = tuple((x.shape, x.dtype, getattr(x, "sharding", None)) for x in leaves)
    return structure, types, tuple(getattr(jax.config, name) for name in _SETTINGS_OF_PROGRAM)


def _in_host_memory(array):
    """Returns the array in memory from which NumPy copies it quickly.

    On an H200, JAX copies 21 MB of logits to ordinary memory in 18 ms, and through page-locked
    ("pinned") memory in 3 ms.
    """
    if backend.computes_on_cpu() or not isinstance(array, jax.Array):
        return array
    for device in array.sharding.device_set:
        if "pinned_host" not in {memory.kind for memory in device.addressable_memories()}:
            return array
    return jax.device_put(array, array.sharding.with_memory_kind("pinned_host"))


def _rows_here(array, rows):
    if array.is_fully_replicated:
        return np.asarray(array)[rows]
    shards = {shard.index[0].start: shard.data for shard in array.addressable_shards}
    return np.concatenate([np.asarray(shards[start]) for start in sorted(shards)])
