"""Every private name of Keras, TensorFlow, JAX and TFDS that this package uses.

Each entry says why it is needed, since which version it is known to work, which public way was
tried, and which test fails first when the name goes. Nothing else in the package imports a private
module or touches an attribute with a leading underscore of another package's object;
tests/backends/test_seam.py enforces it.
"""

import contextlib
import itertools
import sys
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np

OVERRIDDEN_METHODS = {
    "_resolve_auto_jit_compile": (
        "TensorFlow: 'auto' would mean XLA on CPUs, where its convolutions are several times "
        "slower. Public way: the argument jit_compile=False in every call of `compile`. "
        "Since 3.15. tests/models/test_fcn.py"
    ),
    "_maybe_symbolic_build": (
        "TensorFlow: Keras averages the replicas' first batches to see their shape. "
        "Public way: none; `build` knows no shapes of labels. Since 3.15. "
        "tests/distribution/test_devices.py"
    ),
    "_symbolic_build": (
        "PyTorch: a rank without examples must build the loss and metrics, too. "
        "Public way: none, as above. Since 3.15. tests/distribution/test_torch.py"
    ),
    "_make_function": (
        "TensorFlow: Keras reduces the logs of several workers over an axis they lack. Public way: "
        "override `fit`. Since 3.15. tests/distribution/test_devices.py"
    ),
    "_get_metrics_result_or_logs": (
        "PyTorch: metrics are summed over the ranks where Keras reads them. Public way: "
        "`get_metrics_result` is also called in every step. Since 3.15. "
        "tests/distribution/test_torch.py"
    ),
    "_initialize_ddp": (
        "PyTorch: Keras 3.16 wraps the model in DistributedDataParallel and averages gradients. "
        "Public way: none. Since 3.16. tests/distribution/test_torch.py"
    ),
    "_get_jax_state": (
        "JAX: a prediction must not purge the variables that other threads read, and a step that "
        "raises must not lose them. Public way: `stateless_call` in an own `fit`. Since 3.15. "
        "tests/models/test_threads.py"
    ),
}
"""Private methods of `keras.Model` that the trainers override: why, the public way, since when, and
the test that fails first."""

USED_METHODS = {
    "_get_state_sharding_spec": "JAX: layouts of the state for a compiled step, see _make_function",
    "_jax_state": "JAX: the values of the variables while `fit` runs, see _get_jax_state",
    "_jax_state_synced": "JAX: as above",
    "_compile_loss": "PyTorch: whether the loss is built, see _symbolic_build",
    "_compile_metrics": "PyTorch: as above",
    "_distribute_strategy": "TensorFlow: the strategy that Keras trains the model under",
    "_assert_compile_called": "TensorFlow: Keras's own message in `train_on_batch`",
    "_flatten_metrics_in_order": "TensorFlow: Keras's own list of logs in `train_on_batch`",
    "_num_batches": "JAX: number of batches of an epoch iterator, agreed on by the processes",
    "_is_multi_process": "JAX: whether a distribution spans several processes",
    "_num_processes": "JAX: how many",
    "_compute_loss": "PyTorch: `compute_loss` of a user, with or without the argument `training`",
    "_loss_tracker": "PyTorch: the mean of the loss, in an own `train_step`",
    "_call_has_training_arg": "PyTorch: as above",
}
"""Private attributes of `keras.Model` and its iterators that the trainers read or set on `self`."""


# Keras


def flat_losses(model: keras.Model) -> list:
    """Returns Keras's wrappers of the losses of a compiled model.

    Public way tried: `model.loss` is the argument of `compile`, a nested structure or a string.
    Keras 3.15. tests/distribution/test_replicas.py
    """
    return [] if model._compile_loss is None else model._compile_loss._flat_losses


class ReplicaSeed(keras.random.SeedGenerator):
    """Seed generator with the state of another one, which stays equal on all replicas.

    `_initial_seed` must not be `None`, else Keras on PyTorch draws from the process's own random
    numbers. Public way tried: `super().__init__` makes a variable, which a traced step cannot.
    Keras 3.15. tests/distribution/test_replicas.py

    Args:
        generator: The layer's `keras.random.SeedGenerator`.
        offset: Number or tensor that is added to the seed.
    """

    def __init__(self, generator: keras.random.SeedGenerator, offset: Any):
        self._generator, self._offset = generator, offset
        self._initial_seed = generator._initial_seed

    def next(self, ordered=True):
        seed = self._generator.next(ordered)
        offset = keras.ops.cast(self._offset, seed.dtype)
        return seed + keras.ops.stack([offset, keras.ops.zeros_like(offset)])


class DecaysInUpdateStep:
    """Mixin for a `keras.Optimizer` whose `update_step` decays the weights, not Keras before it.

    Public way tried: none reads which variables `exclude_from_weight_decay` has named.
    Keras 3.15. tests/training/test_optimizer.py
    """

    weight_decay: float | None
    _use_weight_decay: Callable[[keras.Variable], bool]

    def _apply_weight_decay(self, variables):
        """Does nothing: `update_step` decays."""

    def decay_of(self, variable: keras.Variable) -> float:
        """Returns the weight decay of a variable, 0 without."""
        if self.weight_decay is None or not self._use_weight_decay(variable):
            return 0.0
        return self.weight_decay


@contextlib.contextmanager
def serialization_without_tensorflow() -> Iterator[None]:
    """Keeps `get_config` from importing TensorFlow, which takes seconds on JAX and PyTorch.

    Keras looks for values of TensorFlow's types in every configuration. There are none before
    TensorFlow is imported. Public way tried: none; `get_config` of a functional model is the public
    way to read its graph. Keras 3.15. tests/test_package.py
    """
    from keras.src.utils import module_utils

    tensorflow = module_utils.tensorflow
    if "tensorflow" in sys.modules:
        yield
        return
    known, tensorflow._available = tensorflow._available, False
    try:
        yield
    finally:
        tensorflow._available = known


def python_logs(logs: Any) -> Any:
    """Returns logs as Python numbers, as Keras does at the end of a step.

    Public way tried: none; `train_on_batch` does it. Keras 3.15. tests/distribution/test_devices.py
    """
    from keras.src.utils.python_utils import pythonify_logs

    return pythonify_logs(logs)


# Keras on TensorFlow


def py_dataset_of_changing_sizes(
    dataset: keras.utils.PyDataset, any_size: Callable[[Any], Any], **options: Any
) -> Any:
    """Returns Keras's adapter of a `PyDataset`, whose tensors are declared as `any_size` says.

    Keras infers static sizes from the first two batches. Public way tried:
    `tf.data.Dataset.from_generator(output_signature=...)` loses `workers` and
    `use_multiprocessing`. Keras 3.15. tests/models/test_fit.py

    Args:
        dataset: The data.
        any_size: Function of an array that returns its `tf.TensorSpec`.
        **options: `shuffle` and `class_weight`, as in `keras.Model.fit`.
    """
    from keras.src.trainers.data_adapters.py_dataset_adapter import PyDatasetAdapter

    adapter = PyDatasetAdapter(dataset, **options)
    batch = adapter._standardize_batch(dataset[0])
    adapter._output_signature = keras.tree.map_structure(any_size, batch)
    return adapter


def arrays_without_autotuning(x: Any, batch_size: int | None, steps: int | None) -> Any:
    """Returns Keras's adapter of arrays without tf.data's autotuning; `x` itself if it is no array.

    `predict` waits at its end for the tuner's next look. Public way tried: a `tf.data.Dataset`
    made of the arrays copies them into the graph. Keras 3.15. tests/models/test_fit.py
    """
    from keras.src.trainers.data_adapters import array_data_adapter

    if not array_data_adapter.can_convert_arrays((x, None, None)):
        return x

    class Untuned(array_data_adapter.ArrayDataAdapter):
        def get_tf_dataset(self):
            import tensorflow as tf

            options = tf.data.Options()
            options.autotune.enabled = False
            return super().get_tf_dataset().with_options(options)

    return Untuned(x, batch_size=batch_size, steps=steps)


def distributed_batches(strategy: Any, **data: Any) -> tuple[Any, Any]:
    """Returns Keras's iterator of data under a strategy, and its distributed dataset.

    `train_on_batch` gives every replica the whole batch. Public way tried:
    `strategy.experimental_distribute_dataset` works, but not with `_maybe_symbolic_build`.
    Keras 3.15. tests/distribution/test_devices.py

    Args:
        strategy: A `tf.distribute.Strategy`.
        **data: `x`, `y`, `sample_weight`, `class_weight` and `batch_size`, as in `fit`.
    """
    from keras.src.backend.tensorflow.trainer import TFEpochIterator

    iterator = TFEpochIterator(**data, distribute_strategy=strategy)
    return iterator, iterator._distributed_dataset


def spec_of_first_replica(iterator: Any) -> Any:
    """Returns the structure of `tf.TensorSpec` of one replica's batch of Keras's iterator.

    Public way tried: `element_spec` of a distributed dataset is a `PerReplicaSpec`, which has no
    public parts. TensorFlow 2.20. tests/distribution/test_devices.py
    """
    spec = iterator._distributed_dataset.element_spec
    return keras.tree.map_structure(lambda spec: getattr(spec, "_value_specs", (spec,))[0], spec)


def static_batch_size(dataset: Any) -> int:
    """Returns the batch size of a `tf.data.Dataset`; -1 if it is not constant.

    Public way tried: `element_spec` has no batch size unless remainders are dropped.
    TensorFlow 2.20. tests/distribution/test_devices.py
    """
    from tensorflow.python.data.experimental.ops import distribute

    return int(distribute.compute_batch_size(dataset))


def replace_gradient_sum(optimizer: Any, replace: Callable[[Callable], Callable]) -> None:
    """Replaces the optimizer's all-reduce of gradients.

    Args:
        optimizer: A `keras.optimizers.Optimizer`; a `LossScaleOptimizer` stands for its inner one.
        replace: Function of Keras's own all-reduce, itself a function of pairs of gradient and
            variable, that returns another one.

    Public way tried: `apply` with gradients reduced before reduces them once more. Keras 3.15.
    tests/distribution/test_devices.py
    """
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    own = type(optimizer)._all_reduce_sum_gradients
    optimizer._all_reduce_sum_gradients = replace(lambda pairs: own(optimizer, pairs))


def register_erfc_for_onnx() -> None:
    """Makes tf2onnx write TensorFlow's Erfc, of Keras's exact GELU, as 1 - Erf.

    Version 1.17 writes it as an operation that ONNX does not have, and ONNX Runtime rejects the
    file. Does nothing without tf2onnx. Public way tried: `custom_op_handlers` of its functions,
    which `keras.Model.export` does not pass. Since TensorFlow 2.21 and tf2onnx 1.17.
    tests/models/test_export.py
    """
    try:
        from tf2onnx.handler import tf_op
        from tf2onnx.utils import map_onnx_to_numpy_type
    except ImportError:
        return

    @tf_op("Erfc")
    class Erfc:
        @classmethod
        def version_9(cls, graph, node, **kwargs):
            dtype = graph.get_dtype(node.output[0])
            shape = graph.get_shape(node.output[0])
            one = graph.make_const(f"{node.name}_one", np.array(1, map_onnx_to_numpy_type(dtype)))
            erf = graph.make_node("Erf", node.input, shapes=[shape], dtypes=[dtype])
            graph.remove_node(node.name)
            graph.make_node(
                *("Sub", [one.output[0], erf.output[0]]),
                outputs=node.output,
                name=node.name,
                shapes=[shape],
                dtypes=[dtype],
            )


# Keras on JAX


@contextlib.contextmanager
def jax_epoch_iterator(iterator_class: type) -> Iterator[None]:
    """Lets `fit`, `evaluate` and `predict` iterate with another class.

    Public way tried: none; the methods name the class. Keras 3.15.
    tests/distribution/test_devices.py
    """
    from keras.src.backend.jax import trainer

    outer, trainer.JAXEpochIterator = trainer.JAXEpochIterator, iterator_class
    try:
        yield
    finally:
        trainer.JAXEpochIterator = outer


def jax_epoch_iterator_class() -> type:
    """Returns Keras's iterator of an epoch on JAX, to inherit from.

    Public way tried: none, see `jax_epoch_iterator`. Keras 3.15.
    tests/distribution/test_devices.py
    """
    from keras.src.backend.jax import trainer

    return trainer.JAXEpochIterator


class JaxExecution(list):
    """The batches of one execution, not stacked, in Keras's iterator of an epoch.

    Public way tried: none; Keras 3.16 has such a class of its own. A plain list may be a batch of
    PyTorch's `DataLoader`. Keras 3.15. tests/models/test_fit.py
    """


def jax_executions(batches: Iterator, number: int) -> Iterator:
    """Returns what Keras's iterator of an epoch yields, each for `number` batches, not stacked.

    Keras 3.16 asks the iterator once per execution, and earlier versions once per batch.
    Public way tried: none; see `jax_batches`. Keras 3.15. tests/distribution/test_devices.py
    """
    if number == 1 or not _is_keras_316_on_jax():
        return batches
    return iter(lambda: JaxExecution(itertools.islice(batches, number)), [])


def jax_batches(iterator: Iterator, number: int) -> list:
    """Returns the next batches, at most `number`, of Keras's iterator of an epoch.

    Keras 3.16 stacks the batches of an execution along a new first axis if their shapes are equal.
    Public way tried: none; the methods of the trainer create the iterator. Keras 3.15.
    tests/models/test_fit.py

    Args:
        iterator: Yields batches, or what `jax_executions` describes.
        number: `steps_per_execution` of the model.

    Raises:
        StopIteration: If there are no more batches.
    """
    data = next(iterator)
    if isinstance(data, list) and type(data) is not list:
        return data
    if number == 1 or not _is_keras_316_on_jax():
        return [data, *itertools.islice(iterator, number - 1)]

    def batch(step):
        return keras.tree.map_structure(lambda x: None if x is None else x[step], data)

    return [batch(step) for step in range(number)]


def _is_keras_316_on_jax() -> bool:
    """Returns whether Keras stacks batches and calls `state_sync`.

    Public way tried: `keras.version()` is the same for its nightly builds of before and after.
    Keras 3.15. tests/models/test_failed_steps.py
    """
    return hasattr(keras.Model, "state_sync")


def jax_state_sync_name() -> str:
    """Returns the name of Keras's method that gives the variables the values of the last step.

    Keras 3.16 renames it, and its own methods call the new name.
    Public way tried: both names are public; one exists in each version. Keras 3.15.
    tests/models/test_failed_steps.py
    """
    return "state_sync" if _is_keras_316_on_jax() else "jax_state_sync"


def jax_distribute(batch: Any) -> Any:
    """Returns a batch laid out among the devices of the current distribution.

    Public way tried: `keras.distribution.distribute_tensor` takes no batch of one process among
    several. Keras 3.15. tests/distribution/test_devices.py
    """
    from keras.src.backend.jax import trainer

    return trainer._distribute_data(batch)


def drop_traces_of_jax() -> None:
    """Drops the traces of JAX's own functions, such as `jax.numpy.add`, for every shape.

    JAX keeps them for ever, also where the function that called them is gone. What is compiled
    stays, and so do the traces of other functions.

    Public way tried: `jax.clear_caches` drops all programs of the process; `jax.disable_jit` while
    tracing breaks loops; most functions of `jax.numpy` have no `clear_cache`. JAX 0.10; versions
    without these names keep the traces. tests/models/test_many_sizes.py
    """
    from jax._src import pjit
    from jax._src.interpreters import partial_eval

    for owner, name in ((partial_eval, "trace_to_jaxpr"), (pjit, "_infer_params_cached")):
        cache: Any = getattr(owner, name, None)
        if not (hasattr(cache, "cache_keys") and hasattr(cache, "evict_weakref")):
            continue
        # The first part of a key is a weak reference to the function.
        functions = {key[0]() for key in cache.cache_keys()} - {None}
        for function in functions:
            if getattr(function, "__module__", "").startswith("jax."):
                cache.evict_weakref(function)
    # Checks of the arguments of the traces, which take microseconds.
    for name in ("_process_in_axis_resources", "_check_and_canonicalize_out_shardings"):
        clear = getattr(getattr(pjit, name, None), "cache_clear", None)
        if clear is not None:
            clear()


def jax_coordinator_address() -> str:
    """Returns host and port of the first process.

    Public way tried: KERAS_DISTRIBUTION_JOB_ADDRESSES is empty where `jax.distributed` finds the
    address by itself, as under Slurm. JAX 0.6. tests/distribution/test_lost.py
    """
    from jax._src import distributed

    return distributed.global_state.coordinator_address


# Keras on PyTorch


def torch_device() -> str:
    """Returns the device that Keras puts tensors on, such as "cpu" or "cuda".

    Public way tried: none; `keras.device` sets it and does not return it. Keras 3.15.
    tests/distribution/test_torch.py
    """
    try:
        from keras.src.backend.torch.core import get_device
    except ImportError:  # Keras 3.16.
        from keras.src.backend.torch.ops.core import get_device

    return str(get_device())


def metrics_of_this_process(model: keras.Model) -> dict:
    """Returns `get_metrics_result` of the base class of every backend's trainer.

    Keras 3.16's method on PyTorch sums once more over the processes. Public way tried: `super()`
    returns that method. Keras 3.15. tests/distribution/test_torch.py
    """
    from keras.src.trainers import trainer

    # Keras 3.16 renames the class.
    base = getattr(trainer, "BaseTrainer", None) or trainer.Trainer
    return base.get_metrics_result(model)


# TensorFlow Datasets


def manual_folder(dl_manager: Any) -> Any:
    """Returns the folder of files that the user fetched, also where it does not exist.

    Public way tried: `manual_dir` raises where the folder is missing or empty. TFDS 4.9.9.
    tests/data/builders
    """
    return dl_manager._manual_dir
