"""PyTorch: eager execution channels first, and the processes of `torch.distributed`."""

import atexit
import contextlib
import math
import os
import time
import types
from collections.abc import Iterator

import keras
import torch
from keras import ops
from torch import distributed
from torch.nn import functional
from torch.optim.adamw import adamw

from keras_fcn.backends import base, keras_compat

# oneDNN keeps the last 1024 primitives that it has compiled, each for one image size: 470 MiB after
# 400 sizes of FCN-8s. It reads this before its first convolution. A training step of a slim FCN-8s
# takes 1.5 times as long with 48 or fewer, and no longer with 64.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")
# PyTorch keeps the last 1024 convolutions that it has prepared for oneDNN, each for one image size.
# With 64, steps and predictions take no longer. At least 1: PyTorch crashes with 0.
os.environ.setdefault("LRU_CACHE_CAPACITY", "64")

# Height and width of the image that PyTorch traces: no map of it has a single pixel, because
# torch.export takes a size of 1 for constant.
_TRACED_SIZE = 70


class Backend(base.Backend):
    """PyTorch."""

    name = "torch"
    data_format = "channels_first"
    compiles_each_size = False
    is_eager = True
    formats_of_one_size = types.MappingProxyType(
        {
            "litert": "Keras would make a file for images of one pixel",
            "tf_saved_model": "Keras traces an image of 2x2 pixels, whose sizes become constant",
        }
    )
    formats_of_one_input = types.MappingProxyType(
        {
            **formats_of_one_size,
            "torch": "Keras traces images of one pixel, whose sizes become constant",
        }
    )
    formats_of_one_output = types.MappingProxyType(
        {"openvino": "PyTorch's trace takes no dictionary of outputs"}
    )

    def __init__(self):
        self._in_common_step = False

    def gpu_names(self):
        return [torch.cuda.get_device_name(gpu) for gpu in range(torch.cuda.device_count())]

    def computes_on_cpu(self):
        return keras_compat.torch_device() == "cpu"

    def convolution_layer(self, default, layer, inputs):
        """Keras adds the bias and applies ReLU afterwards, each into a new tensor: for images of
        2048x2048 pixels, these have a gigabyte.
        """
        has_bias_and_relu = (
            layer.data_format == "channels_first"
            and layer.use_bias
            and layer.activation is keras.activations.relu
        )
        if not has_bias_and_relu:
            return default(inputs)
        inputs = ops.convert_to_tensor(inputs)
        if inputs.dtype == torch.bfloat16 and self.computes_on_cpu():
            # With AMX, oneDNN's convolutions take a third of the time so, or less.
            inputs = inputs.contiguous(memory_format=torch.channels_last)
        kernel = ops.convert_to_tensor(layer.kernel).permute(3, 2, 0, 1)
        bias, padding = ops.convert_to_tensor(layer.bias), layer.kernel_size[0] // 2
        outputs = functional.conv2d(inputs, kernel, bias, padding=padding)
        return functional.relu_(outputs)

    def max_pool(self, default, inputs, data_format):
        """Keras decides in Python from the size at hand whether to pad the last row and column,
        and an export would keep that decision for every size. `ceil_mode` decides nothing.
        """
        if data_format != "channels_first":
            return default(inputs)
        return functional.max_pool2d(inputs, 2, ceil_mode=True)

    def argmax(self, x, axis):
        # On CPUs `torch.argmax` takes up to eight times as long.
        return torch.max(x, dim=axis).indices

    def take(self, x, indices, axis):
        # Keras's `take` becomes an operation that ONNX and OpenVINO do not know.
        return torch.index_select(x, axis, indices)

    def rematerialized(self, function):
        from torch.utils.checkpoint import set_checkpoint_early_stop

        rematerialized = keras.remat(function)

        def to_its_end(tensors):
            # PyTorch would stop by an exception as soon as it has what it needs. The traceback
            # keeps the whole block alive until Python's next garbage collection.
            with set_checkpoint_early_stop(False):
                return rematerialized(tensors)

        return to_its_end

    def histogram(self, bins, num_bins):
        # Keras's segment_sum adds in float32 there, where counting stops at 2^24.
        return ops.bincount(bins, minlength=num_bins)

    def weighted_histogram(self, bins, weights, num_bins):
        return ops.bincount(bins, weights=weights, minlength=num_bins)

    def trainer(self):
        from keras_fcn.backends.torch_trainer import Trainer

        return Trainer

    def export_arguments(self, format, shape, kwargs):
        if format != "torch" or "dynamic_shapes" in kwargs or None not in shape:
            return shape, kwargs
        from torch.export import Dim

        unknown = [axis for axis, size in enumerate(shape) if size is None]
        kwargs = {**kwargs, "dynamic_shapes": dict.fromkeys(unknown, Dim.DYNAMIC)}
        return (2, *(_TRACED_SIZE if size is None else size for size in shape[1:])), kwargs

    @contextlib.contextmanager
    def traced_for_export(self):
        # In a trace the number of channels is a tensor, which ONNX does not take for this shape.
        default = functional.layer_norm
        functional.layer_norm = lambda x, shape, *args: default(x, [*map(int, shape)], *args)
        try:
            yield
        finally:
            functional.layer_norm = default

    # On GPUs the step would wait for numbers of the device. On CPUs Keras's updates read and write
    # memory several times as often.

    def momentum_step(self, optimizer, variable, last_step, gradient, *, rate, momentum, decay):
        if not self.computes_on_cpu():
            options = {"rate": rate, "momentum": momentum, "decay": decay}
            super().momentum_step(optimizer, variable, last_step, gradient, **options)
            return
        weights, step, rate = variable.value, last_step.value, float(rate)
        with torch.no_grad():
            step.mul_(momentum).add_(gradient, alpha=rate)
            if decay:
                step.add_(weights, alpha=rate * decay)
            weights.sub_(step)

    def adam_step(self, default, optimizer, gradient, variable, momentum, velocity, *, rate, decay):
        if optimizer.amsgrad or not self.computes_on_cpu():
            options = {"rate": rate, "decay": decay}
            super().adam_step(default, optimizer, gradient, variable, momentum, velocity, **options)
            return
        steps = int(optimizer.iterations)
        # PyTorch adds epsilon to the corrected root of the velocity, Keras to the root itself.
        epsilon = optimizer.epsilon / math.sqrt(1 - optimizer.beta_2 ** (steps + 1))
        with torch.no_grad():
            adamw(
                [variable.value],
                [gradient.to(variable.value.dtype)],
                [momentum.value],
                [velocity.value],
                [],
                [torch.tensor(float(steps))],
                fused=True,
                amsgrad=False,
                beta1=optimizer.beta_1,
                beta2=optimizer.beta_2,
                lr=float(rate),
                weight_decay=decay,
                eps=epsilon,
                maximize=False,
            )

    # Replicas: the processes, during a step that they run together

    @contextlib.contextmanager
    def common_step(self) -> Iterator[None]:
        """Context manager of a step that all processes run together, each on its shard."""
        self._in_common_step = True
        try:
            yield
        finally:
            self._in_common_step = False

    def num_replicas(self):
        return self.world_size() if self._in_common_step else 1

    def replica_id(self):
        return self.rank() if self._in_common_step else 0

    def batch_sum(self, part):
        return _AllReduceSum.apply(part) if self._in_common_step else part

    def batch_concatenate(self, part):
        return _AllGather.apply(part) if self._in_common_step else part

    # Processes

    def started_processes(self):
        return int(os.environ.get("WORLD_SIZE", "1"))

    def rank(self):
        return distributed.get_rank() if self.world_size() > 1 else 0

    def world_size(self):
        joined = distributed.is_available() and distributed.is_initialized()
        return distributed.get_world_size() if joined else 1

    def first_host(self):
        return os.environ["MASTER_ADDR"]

    def gather(self, array):
        local = torch.from_numpy(array.copy()).to(keras_compat.torch_device())
        parts = [torch.empty_like(local) for _ in range(self.world_size())]
        distributed.all_gather(parts, local)
        return torch.stack(parts).cpu().numpy()

    # Devices

    def data_parallel(self, devices):
        if devices != "all":
            raise ValueError(
                "`devices` must be 'all' on PyTorch, where each process that torchrun starts has "
                f"one device. Received: {devices=}."
            )
        if self.started_processes() > 1 and self.world_size() == 1:
            self._join()
        return contextlib.nullcontext()

    def _join(self):
        on_gpu = keras_compat.torch_device().startswith("cuda")
        if on_gpu:
            # Keras's "cuda" is the current device.
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        distributed.init_process_group("nccl" if on_gpu else "gloo")
        if not on_gpu:
            atexit.register(_leave_gloo)


def _leave_gloo():
    """Lets Gloo's threads free the tensors of the last collective operation while Python runs: they
    need its lock for that, and abort the process if the interpreter ends first.
    """
    if distributed.is_initialized():
        distributed.destroy_process_group()
    # The threads end with the last reference to the group, which a trained model keeps. To free the
    # tensors, they need the lock for a moment.
    time.sleep(0.1)


class _AllReduceSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        total = x.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx, gradient):
        return gradient


class _AllGather(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        length = torch.tensor([len(x)], device=x.device)
        lengths = [torch.zeros_like(length) for _ in range(distributed.get_world_size())]
        distributed.all_gather(lengths, length)
        lengths = [int(length) for length in lengths]
        # NCCL gathers equal shapes only.
        sent = x.new_zeros((max(lengths), *x.shape[1:]))
        sent[: len(x)] = x
        received = [torch.empty_like(sent) for _ in lengths]
        distributed.all_gather(received, sent)
        first = sum(lengths[: distributed.get_rank()])
        ctx.local = slice(first, first + len(x))
        return torch.cat([rows[:length] for rows, length in zip(received, lengths, strict=True)])

    @staticmethod
    def backward(ctx, gradient):
        return gradient[ctx.local]
