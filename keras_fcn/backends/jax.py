"""JAX: kernels for XLA, and Keras's distributions with batches of every size."""

import contextlib
import math
import os
import types

import jax
import jax.numpy as jnp
import keras
import numpy as np
from jax.experimental import multihost_utils
from keras import ops

from keras_fcn.backends import base, jax_kernels, keras_compat
from keras_fcn.spelling import counted

# Channels of an image, at most.
_FEW_CHANNELS = 4


class Backend(base.Backend):
    """JAX."""

    name = "jax"
    # By default JAX has no 64 bits.
    integer_dtype = "int32"
    float_dtype = "float32"
    # It computes in float32 where the CPU has no bfloat16.
    bfloat16_needs_avx512 = False
    block1_maps = 2
    score_maps = 2
    formats_without_export = types.MappingProxyType(
        {
            "openvino": "Keras needs a TensorFlow graph without XLA, which JAX no longer makes",
            "onnx": "jax2onnx cannot slice or pad an axis of unknown size",
            "litert": "Keras writes it on TensorFlow and PyTorch only",
            "torch": "Keras writes it on PyTorch only",
        }
    )
    formats_of_one_input = types.MappingProxyType(
        {"tf_saved_model": "Keras gives each input a height and width of its own"}
    )

    def gpu_names(self):
        return [gpu.device_kind for gpu in jax.devices() if gpu.platform != "cpu"]

    def computes_on_cpu(self):
        return jax.default_backend() == "cpu"

    def computes_on_one_cpu(self) -> bool:
        """Returns whether JAX computes on a single CPU."""
        return self.computes_on_cpu() and jax.device_count() == 1

    def clear_caches(self):
        jax.clear_caches()

    def convolve(self, default, inputs, kernel, data_format, dtype):
        """On several CPUs the kernel's gradient is XLA's, which all-reduces it once; on GPUs, too,
        which are fast but for the convolution of the image itself.
        """
        is_of_image = inputs.shape[-1] <= _FEW_CHANNELS
        is_slow = self.computes_on_one_cpu() or (is_of_image and jax.default_backend() == "gpu")
        if data_format != "channels_last" or not is_slow:
            return default(inputs, kernel)
        return jax_kernels.convolution(inputs, ops.convert_to_tensor(kernel))

    def initializer(self, initializer):
        """XLA would compile a generator of random numbers for every shape, 0.1 s each, and a
        broadcast for every tensor of zeros, 0.01 s each.
        """
        if type(initializer) is keras.initializers.Zeros:
            return _Zeros()
        seed = getattr(initializer, "seed", None)
        is_glorot = type(initializer) is keras.initializers.GlorotUniform and isinstance(seed, int)
        return _GlorotUniform(seed) if is_glorot else initializer

    def max_pool(self, default, inputs, data_format):
        if data_format != "channels_last":
            return default(inputs)
        return jax_kernels.max_pool(inputs)

    def upsample(self, default, inputs, kernel, data_format):
        if data_format != "channels_last" or not self.computes_on_cpu():
            return default(inputs)
        return jax_kernels.upsample(inputs, ops.convert_to_tensor(kernel))

    def compiled(self, function):
        return jax.jit(function)

    def rematerialized(self, function):
        def rematerialized(tensors):
            # A new function in each call: JAX keeps the trace of one, and in it the values that
            # the variables had.
            return keras.remat(lambda tensors: function(tensors))(tensors)

        return rematerialized

    def argmax(self, x, axis):
        # Keras's orders -0.0 before 0.0 on CPUs, and takes five times as long for it.
        return jnp.argmax(x, axis=axis)

    def cross_entropy_logits(self, class_ids, logits):
        # Keras multiplies log p by the one-hot ids, and 0 times -inf is NaN.
        is_true = class_ids[..., None] == jnp.arange(logits.shape[-1])
        smallest = jnp.finfo(logits.dtype).min
        return jnp.where(jnp.isneginf(logits) & ~is_true, smallest, logits)

    def weighted_histogram(self, bins, weights, num_bins):
        # A sum in float32 is wrong by 1 % after a million equal weights: many partial sums of few
        # are closer.
        parts = max(1, min(bins.shape[0] // 1024, 2**22 // num_bins))
        bins = bins * parts + ops.arange(bins.shape[0], dtype=bins.dtype) % parts
        sums = ops.segment_sum(weights, bins, num_segments=num_bins * parts)
        return ops.sum(ops.reshape(sums, (num_bins, parts)), axis=1)

    def trainer(self):
        from keras_fcn.backends.jax_trainer import Trainer

        return Trainer

    def export_arguments(self, format, shape, kwargs):
        if format == "tf_saved_model":
            # Nobody trains the file, and TensorFlow cannot save the gradients of unknown sizes.
            options = {"with_gradient": False, **(kwargs.get("jax2tf_kwargs") or {})}
            kwargs = {**kwargs, "jax2tf_kwargs": options}
        return shape, kwargs

    # Processes

    def started_processes(self):
        return int(os.environ.get("KERAS_DISTRIBUTION_NUM_PROCESSES", "1"))

    def rank(self):
        return jax.process_index()

    def world_size(self):
        return jax.process_count()

    def first_host(self):
        return keras_compat.jax_coordinator_address().rpartition(":")[0].strip("[]")

    def gather(self, array):
        # JAX has no int64 by default: bytes have.
        shape, dtype = array.shape, array.dtype
        parts = multihost_utils.process_allgather(np.frombuffer(array.tobytes(), "uint8"))
        return np.asarray(parts).view(dtype).reshape(-1, *shape)

    # Devices

    def data_parallel(self, devices):
        return _DataParallel(devices=_devices(devices), auto_shard_dataset=False).scope()

    def model_parallel(self, num_shards, devices):
        devices = _devices(devices)
        groups, rest = divmod(len(devices), num_shards)
        if rest or groups % jax.process_count():
            raise ValueError(
                "`num_shards` must divide the number of devices of a process. Received: "
                f"{num_shards=}, {counted(len(devices), 'device')} of "
                f"{counted(jax.process_count(), 'process')}."
            )
        mesh = keras.distribution.DeviceMesh((groups, num_shards), ("batch", "model"), devices)
        layouts = keras.distribution.LayoutMap(mesh)
        # By fc6's outputs and fc7's inputs, so that only the sums of fc7 go from device to device.
        layouts[r"(.*/)?fc6/kernel"] = (None, None, None, "model")
        layouts[r"(.*/)?fc6/bias"] = ("model",)
        layouts[r"(.*/)?fc7/kernel"] = (None, None, "model", None)
        return _ModelParallel(
            layout_map=layouts, batch_dim_name="batch", auto_shard_dataset=False
        ).scope()

    def check_gradient_dtype(self, gradients):
        super().check_gradient_dtype(gradients)
        if gradients:
            raise ValueError(
                "`gradients` must be None on JAX, whose compiler adds them up within the step, in "
                f"the dtype of the weights. Received: {gradients=}."
            )


class _GlorotUniform:
    """`keras.initializers.GlorotUniform` of kernels, with NumPy's random numbers.

    Keras compiles a method of it where a large kernel is created on several devices.
    """

    def __init__(self, seed):
        self._seed = seed

    def __call__(self, shape, dtype):
        height, width, channels, units = shape
        limit = math.sqrt(6 / (height * width * (channels + units)))
        values = np.random.default_rng(self._seed).random(shape, "float32")
        values *= 2 * limit
        values -= limit
        return _on_device(values, dtype)


class _Zeros:
    """`keras.initializers.Zeros`, by NumPy."""

    def __call__(self, shape, dtype):
        return _on_device(np.zeros(shape, "float32"), dtype)


def _on_device(values, dtype):
    # Keras would call `jnp.array`, which compiles a copy for every shape.
    return jax.device_put(values.astype(dtype, copy=False))


def _devices(devices):
    if "KERAS_DISTRIBUTION_NUM_PROCESSES" in os.environ and not jax.distributed.is_initialized():
        # Else JAX may abort this process with a C++ log before the watch reports a lost process.
        with contextlib.suppress(AttributeError):  # An older version without it.
            jax.config.update("jax_enable_recoverability", True)
        keras.distribution.initialize()
    known = keras.distribution.list_devices()
    if devices == "all":
        return known
    places = [place for name in devices for place in _found(name)]
    if not all(_found(name) for name in devices) or len(set(places)) < len(devices):
        raise ValueError(
            f"`devices` must be 'all', or each once of: {', '.join(known)}. Received: {devices=}."
        )
    return list(devices)


def _found(name):
    """Returns the device of a name such as "gpu:0" or "gpu" in a list, an empty one if absent."""
    platform, _, number = name.partition(":")
    try:
        found = jax.devices(platform)
    except RuntimeError:  # There is no such platform.
        return []
    return [(d.platform, d.id) for d in found if str(d.id) == (number or str(found[0].id))]


class AnyBatchSize:
    """Mixin for a `keras.distribution.Distribution`: batches need not divide by the devices."""

    rows_here = slice(None)
    """This process's examples in the batch of all processes."""

    def get_data_layout(self, data_shape):
        layout = super().get_data_layout(data_shape)
        if data_shape[0] % self.num_shards_here == 0:
            return layout
        if self.has_several_processes:
            raise ValueError(
                "The batch of a process must divide by the shards that its devices take. Received: "
                f"{counted(data_shape[0], 'example')} for {self.num_shards_here} shards."
            )
        return keras.distribution.TensorLayout([None] * len(data_shape), self.device_mesh)

    @property
    def num_shards_here(self) -> int:
        """Number of shards of a batch on the devices of this process."""
        return self.num_model_replicas // self._num_processes  # type: ignore[attr-defined]

    @property
    def has_several_processes(self) -> bool:
        """Whether the devices belong to several processes."""
        return self._is_multi_process  # type: ignore[attr-defined]

    @contextlib.contextmanager
    def scope(self):
        from keras_fcn.backends.jax_batches import EpochIterator

        with keras_compat.jax_epoch_iterator(EpochIterator), super().scope():
            yield


class _DataParallel(AnyBatchSize, keras.distribution.DataParallel):
    pass


class _ModelParallel(AnyBatchSize, keras.distribution.ModelParallel):
    pass
