"""TensorFlow: parts of wide convolutions on CPUs, and `tf.distribute`'s replicas and workers."""

import collections
import contextlib
import functools
import json
import os
import signal
import threading
import types

import tensorflow as tf
from keras import ops

from keras_fcn.backends import base, keras_compat

# Channels of a part of a convolution, few enough for its kernel to stay in a core's cache, and the
# number of parts from which on they are faster than the whole, sums included.
_PART = 64
_LEAST_PARTS = 4

# Calls with arguments of the same shapes before a function is compiled for them, and the number of
# programs that are kept.
_CALLS_BEFORE_COMPILATION = 8
_MOST_PROGRAMS = 32


class Backend(base.Backend):
    """TensorFlow."""

    name = "tensorflow"
    score_maps = 5
    _is_exporting = False
    formats_without_export = types.MappingProxyType({"torch": "Keras writes it on PyTorch only"})

    def gpu_names(self):
        details = tf.config.experimental.get_device_details
        gpus = tf.config.list_physical_devices("GPU")
        return [details(gpu).get("device_name", gpu.name) for gpu in gpus]

    def computes_on_cpu(self):
        return not tf.config.list_logical_devices("GPU")

    def convolve(self, default, inputs, kernel, data_format, dtype):
        """On CPUs the kernel of 512 channels exceeds the cache: a sum of eight convolutions of 64
        channels is faster.
        """
        parts = inputs.shape[-1] // _PART
        # In half precision the partial sums would be rounded, too.
        is_wide = data_format == "channels_last" and parts >= _LEAST_PARTS and dtype == "float32"
        if self._is_exporting or not (is_wide and self.computes_on_cpu()):
            return default(inputs, kernel)
        # Without a custom gradient, whose graph TensorFlow would keep until the process ends, and
        # with it the model.
        pairs = zip(
            ops.split(inputs, parts, axis=-1), ops.split(kernel, parts, axis=2), strict=True
        )
        return functools.reduce(ops.add, (default(*pair) for pair in pairs))

    def export_arguments(self, format, shape, kwargs):
        if format == "onnx":
            keras_compat.register_erfc_for_onnx()
        return super().export_arguments(format, shape, kwargs)

    @contextlib.contextmanager
    def traced_for_export(self):
        # Eight convolutions and their sum are slower than one in ONNX Runtime. Keras compiles
        # grouped convolutions, as ConvNeXt's, with XLA in a function inside, which tf2onnx cannot
        # convert: functions that run eagerly are traced as part of the one that calls them.
        was_eager = tf.config.functions_run_eagerly()
        self._is_exporting = True
        tf.config.run_functions_eagerly(True)
        try:
            yield
        finally:
            tf.config.run_functions_eagerly(was_eager)
            self._is_exporting = False

    def compiled(self, function):
        """On CPUs, XLA's program takes a fifth of the time of the operations, after a tenth of a
        second of compilation for each shape: shapes that return are compiled.
        """
        calls = collections.Counter()

        @functools.lru_cache(_MOST_PROGRAMS)
        def program(shapes):
            return tf.function(function, jit_compile=True, autograph=False)

        def call(*arguments):
            if not (tf.executing_eagerly() and self.computes_on_cpu()):
                return function(*arguments)
            tensors = [None if arg is None else tf.convert_to_tensor(arg) for arg in arguments]
            shapes = tuple(
                tensor is not None and (tensor.shape, tensor.dtype) for tensor in tensors
            )
            calls[shapes] += 1
            is_frequent = calls[shapes] > _CALLS_BEFORE_COMPILATION
            return (program(shapes) if is_frequent else function)(*tensors)

        return call

    def argmax(self, x, axis):
        # Keras's orders -0.0 before 0.0, and takes longer for it.
        return tf.argmax(x, axis=axis, output_type=tf.int32)

    def histogram(self, bins, num_bins):
        # On GPUs the operation is not deterministic. `tf.math.bincount` has no static shape.
        if not self.computes_on_cpu():
            return super().histogram(bins, num_bins)
        return tf.raw_ops.DenseBincount(input=bins, size=num_bins, weights=tf.constant([], "int32"))

    def trainer(self):
        from keras_fcn.backends.tensorflow_trainer import Trainer

        return Trainer

    # Keras's updates hold up to three tensors of the size of fc6's kernel, 411 MB each, besides the
    # weights, the gradient and the optimizer's state.

    def after_backward_pass(self, gradients):
        return tf.control_dependencies([grad for grad in gradients if grad is not None])

    def momentum_step(self, optimizer, variable, last_step, gradient, *, rate, momentum, decay):
        dtype = gradient.dtype
        one, momentum = tf.constant(1, dtype), tf.constant(momentum, dtype)
        add_and_subtract = functools.partial(
            tf.raw_ops.ResourceApplyMomentum, var=_handle(variable), accum=_handle(last_step)
        )
        if not decay:
            add_and_subtract(lr=one, grad=rate * gradient, momentum=momentum)
            return
        # The gradient is freed before the decay is computed.
        added = add_and_subtract(lr=tf.constant(0, dtype), grad=rate * gradient, momentum=momentum)
        with _after(added):
            decayed = rate * decay * ops.convert_to_tensor(variable)
            add_and_subtract(lr=one, grad=decayed, momentum=one)

    def adam_step(self, default, optimizer, gradient, variable, momentum, velocity, *, rate, decay):
        if optimizer.amsgrad:
            options = {"rate": rate, "decay": decay}
            super().adam_step(default, optimizer, gradient, variable, momentum, velocity, **options)
            return
        dtype = variable.dtype
        step = tf.cast(optimizer.iterations + 1, dtype)
        beta1, beta2 = tf.constant(optimizer.beta_1, dtype), tf.constant(optimizer.beta_2, dtype)
        updated = tf.raw_ops.ResourceApplyAdam(
            var=_handle(variable),
            m=_handle(momentum),
            v=_handle(velocity),
            beta1_power=tf.pow(beta1, step),
            beta2_power=tf.pow(beta2, step),
            lr=rate / (1 - rate * decay),  # The decay below shrinks the update, too.
            beta1=beta1,
            beta2=beta2,
            epsilon=tf.constant(optimizer.epsilon, dtype),
            grad=tf.cast(gradient, dtype),
        )
        if not decay:
            return
        # The gradient is freed before the decay is computed.
        with _after(updated):
            decayed = rate * decay * ops.convert_to_tensor(variable)
            one = tf.constant(1, dtype)
            tf.raw_ops.ResourceApplyGradientDescent(var=_handle(variable), alpha=one, delta=decayed)

    # Replicas

    def num_replicas(self):
        context = self._replica_context()
        return 1 if context is None else context.num_replicas_in_sync

    def replica_id(self):
        context = self._replica_context()
        return 0 if context is None else context.replica_id_in_sync_group

    def batch_sum(self, part):
        context = self._replica_context()
        if context is None:
            return part
        return part + ops.stop_gradient(context.all_reduce("SUM", part) - part)

    def batch_concatenate(self, part):
        context = self._replica_context()
        if context is None:
            return part
        constant = tf.stop_gradient(part)
        length = tf.shape(part)[0]
        lengths = context.all_gather(length[None], axis=0)
        before = tf.reduce_sum(lengths[: context.replica_id_in_sync_group])
        padding = [[before, tf.reduce_sum(lengths) - before - length]] + [[0, 0]] * (
            len(part.shape) - 1
        )
        return context.all_gather(constant, axis=0) + tf.pad(part - constant, padding)

    def summand(self, loss):
        # Keras adds up what the replicas' losses return: to log it, it multiplies one of them by
        # the number of replicas.
        context = self._replica_context()
        if context is None:
            return loss
        return loss - ops.stop_gradient(loss * (1 - 1 / context.num_replicas_in_sync))

    def _replica_context(self):
        context = tf.distribute.get_replica_context()
        return None if context is None or context.num_replicas_in_sync == 1 else context

    # Processes

    def started_processes(self):
        config = os.environ.get("TF_CONFIG") or "{}"
        try:
            cluster = json.loads(config).get("cluster", {})
        except (AttributeError, ValueError) as error:
            raise ValueError(
                'TF_CONFIG must be JSON: {"cluster": {"worker": ["HOST:PORT", ...]}, "task": '
                f'{{"type": "worker", "index": 0}}}}. Received: {config}'
            ) from error
        return sum(len(cluster.get(kind, ())) for kind in ("chief", "worker"))

    def rank(self):
        if self.world_size() == 1:
            return 0
        resolver = _all_workers().cluster_resolver
        num_chiefs = len(resolver.cluster_spec().as_dict().get("chief", ()))
        return resolver.task_id + (num_chiefs if resolver.task_type == "worker" else 0)

    def world_size(self):
        return len(_addresses()) if _all_workers.cache_info().currsize else 1

    def first_host(self):
        return _addresses()[0].rpartition(":")[0].strip("[]")

    def gather(self, array):
        strategy = _all_workers()
        # TensorFlow sends no bytes.
        sent = array.astype("int32") if array.dtype == "uint8" else array

        def gather():
            context = tf.distribute.get_replica_context()
            return context.all_gather(tf.constant(sent)[None], axis=0)

        local = strategy.experimental_local_results(strategy.run(tf.function(gather)))[0].numpy()
        return local[:: _devices_per_worker(strategy)].astype(array.dtype)

    # Devices

    def data_parallel(self, devices):
        return _strategy(devices).scope()


def _strategy(devices):
    if "TF_CONFIG" in os.environ:
        if devices != "all":
            raise ValueError(
                "`devices` must be 'all' where TF_CONFIG names several workers. "
                f"Received: {devices=}."
            )
        return _all_workers()
    if devices == "all":
        # TensorFlow's own default is one CPU, however many there are.
        found = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
        devices = [device.name for device in found]
    else:
        _check_names(devices)
    return _one_worker(tuple(devices))


def _check_names(devices):
    def place(name):
        spec = tf.DeviceSpec.from_string(name)
        return spec.device_type, spec.device_index or 0

    known = [place(device.name) for device in tf.config.list_logical_devices()]
    try:
        places = [place(name) for name in devices]
    except ValueError:  # No name of a device.
        places = [None]
    if not set(places) <= set(known) or len(set(places)) < len(places):
        names = ", ".join(f"{kind}:{number}" for kind, number in known)
        raise ValueError(
            f"`devices` must be 'all', or each once of: {names}. Received: {devices=}."
        )


# Two strategies in a process give the same numbers to their collective operations, which then meet.
@functools.cache
def _one_worker(devices):
    return tf.distribute.MirroredStrategy(devices)


@functools.cache
def _all_workers():
    strategy = _AllWorkers()
    if threading.current_thread() is threading.main_thread():
        # The strategy installs a handler in C++ that swallows SIGTERM, unknown to Python's.
        signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGTERM) or signal.SIG_DFL)
    return strategy


class _AllWorkers(tf.distribute.MultiWorkerMirroredStrategy):
    """Every worker passes the examples of its own data set, a batch of it at every step."""

    def experimental_distribute_dataset(self, dataset, options=None):
        replicas = _devices_per_worker(self)
        batch_size = keras_compat.static_batch_size(dataset) if replicas > 1 else -1
        if batch_size > 0:
            sizes = [(batch_size + i) // replicas for i in reversed(range(replicas))]
            dataset = dataset.rebatch(sizes)
        return self.distribute_datasets_from_function(lambda _: dataset, options)


def _addresses():
    cluster = _all_workers().cluster_resolver.cluster_spec().as_dict()
    return [*cluster.get("chief", ()), *cluster.get("worker", ())]


def _devices_per_worker(strategy):
    return strategy.num_replicas_in_sync // len(_addresses())


def _after(operation):
    """Returns the context of operations that run after this one, `None` outside of a graph."""
    return tf.control_dependencies([] if operation is None else [operation])


def _handle(variable):
    """Returns the resource of a variable of TensorFlow or Keras."""
    return (variable if isinstance(variable, tf.Variable) else variable.value).handle
