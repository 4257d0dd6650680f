"""What a backend may do differently. The defaults are plain Keras on one device."""

import contextlib
import importlib
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops


class Backend:
    """One of Keras's backends, as the rest of this package sees it.

    A subclass overrides only what its backend does faster, in less memory, or cannot do at all.
    """

    name = ""
    """As in `keras.config.backend()`; also the name of the backend's own package."""

    data_format = "channels_last"
    """Layout in which its convolutions are fast, whatever the layout of images and logits."""

    integer_dtype = "int64"
    """Widest integers that variables and compiled functions take on every device.

    Not int32 on TensorFlow, which keeps int32 variables on the CPU, where a step compiled by XLA
    for a GPU cannot reach them.
    """

    float_dtype = "float64"
    """Widest floating-point numbers."""

    compiles_each_size = True
    """Whether the first step with a new image size is traced or compiled, and takes longer."""

    is_eager = False
    """Whether a functional model keeps every intermediate output until its forward pass ends."""

    bfloat16_needs_avx512 = True
    """Whether bfloat16 is many times slower than float32 on CPUs without AVX-512."""

    # Slope of the peak of resident memory from 800x800 to 1200x1200 pixels, FCN-8s with VGG-16's
    # filters, bytes per pixel with padding "same" and "paper": TensorFlow 866 and 907, PyTorch 878
    # and 906, JAX 662 and 653. From 500x500 to 900x900 with filters of 4 and 151 classes: 3087,
    # 1956 and 1278. (TensorFlow 2.21.0, PyTorch 2.13.0, JAX 0.10.2, Keras 3.15.1, float32.)
    block1_maps = 3
    """Feature maps of block 1 that exist at the same time in a prediction."""

    score_maps = 3
    """Score maps at the image's size that exist at the same time in a prediction."""

    formats_without_export: Mapping[str, str] = types.MappingProxyType({})
    """Formats of `keras.Model.export` that the backend cannot write -> the reason."""

    formats_of_one_size: Mapping[str, str] = types.MappingProxyType({})
    """Formats that it can only write for images of one size -> the reason."""

    formats_of_one_input: Mapping[str, str] = types.MappingProxyType({})
    """Formats that it can only write of a model of one input -> the reason."""

    formats_of_one_output: Mapping[str, str] = types.MappingProxyType({})
    """Formats that it can only write of a model of one output -> the reason."""

    gradient_dtype: str | None = None
    """dtype in which models that are made now all-reduce gradients; `None` for the variables'."""

    # Versions and devices

    def version(self) -> str:
        """Returns the version of the backend's package."""
        return importlib.import_module(self.name).__version__ if self.name else ""

    def gpu_names(self) -> list[str]:
        """Returns the names of the GPUs that the backend sees."""
        return []

    def computes_on_cpu(self) -> bool:
        """Returns whether the backend computes on CPUs only."""
        return True

    # Layers

    def convolve(
        self, default: Callable, inputs: Any, kernel: Any, data_format: str, dtype: str
    ) -> Any:
        """Returns the convolution of stride 1 and padding "same" with an odd square kernel.

        Args:
            default: Keras's function of (inputs, kernel).
            inputs: Tensor of 4 axes.
            kernel: (size, size, channels, filters).
            data_format: Layout of `inputs`.
            dtype: dtype in which the layer computes.
        """
        return default(inputs, kernel)

    def convolution_layer(self, default: Callable, layer: keras.layers.Conv2D, inputs: Any) -> Any:
        """Returns the output of a convolution layer of stride 1 and padding "same", with bias and
        activation.

        Args:
            default: Keras's function of `inputs`, which calls `convolve`.
            layer: The layer, of one group, whose kernel is square, of odd size and not dilated.
            inputs: Tensor of 4 axes.
        """
        return default(inputs)

    def max_pool(self, default: Callable, inputs: Any, data_format: str) -> Any:
        """Returns the maxima of 2x2 windows with stride 2 and padding "same".

        Args:
            default: Keras's function of `inputs`.
            inputs: Tensor of 4 axes.
            data_format: Its layout.
        """
        return default(inputs)

    def upsample(self, default: Callable, inputs: Any, kernel: Any, data_format: str) -> Any:
        """Returns the transposed convolution without padding, its kernel twice as wide as its
        stride.

        Args:
            default: Keras's function of `inputs`.
            inputs: Tensor of 4 axes.
            kernel: (2 * stride, 2 * stride, filters, channels).
            data_format: Layout of `inputs`.
        """
        return default(inputs)

    def initializer(self, initializer: Callable) -> Callable:
        """Returns an initializer of the same distribution that the backend computes fast."""
        return initializer

    def take(self, x: Any, indices: Any, axis: int) -> Any:
        """Returns `keras.ops.take`, as an operation that can be exported."""
        return ops.take(x, indices, axis=axis)

    def clear_caches(self) -> None:
        """Drops what was compiled for image sizes, if the backend would keep it for ever."""

    def rematerialized(self, function: Callable) -> Callable:
        """Returns `keras.remat` of a function of a list of tensors (gradient checkpointing)."""
        return keras.remat(function)

    # Metrics

    def compiled(self, function: Callable) -> Callable:
        """Returns a pure function of tensors, compiled if a call outside of a step is faster so."""
        return function

    def argmax(self, x: Any, axis: int) -> Any:
        """Returns the index of the largest value along an axis, the first if there are several."""
        return ops.argmax(x, axis=axis)

    def cross_entropy_logits(self, class_ids: Any, logits: Any) -> Any:
        """Returns logits (..., num_classes) on which Keras's cross-entropy is exact also if those
        of classes other than the true ones are -inf.
        """
        return logits

    def histogram(self, bins: Any, num_bins: int) -> Any:
        """Returns how often each of the integers 0 to `num_bins` - 1 occurs."""
        return ops.segment_sum(ops.ones_like(bins, dtype="int32"), bins, num_segments=num_bins)

    def weighted_histogram(self, bins: Any, weights: Any, num_bins: int) -> Any:
        """Returns the sum of the weights of each of the integers 0 to `num_bins` - 1."""
        return ops.segment_sum(weights, bins, num_segments=num_bins)

    # Training

    def trainer(self) -> type:
        """Returns the mixin for `keras.Model`, which precedes it in a model's bases."""
        return type("Trainer", (), {})

    def after_backward_pass(self, gradients: list) -> contextlib.AbstractContextManager:
        """Returns the context of an update that starts when the last gradient is computed: until
        then, the memory that the update needs is in use for feature maps.
        """
        return contextlib.nullcontext()

    def momentum_step(
        self,
        optimizer: keras.Optimizer,
        variable: Any,
        last_step: Any,
        gradient: Any,
        *,
        rate: Any,
        momentum: float,
        decay: float,
    ) -> None:
        """Assigns step = momentum * last_step + rate * (gradient + decay * variable) to
        `last_step`, and variable - step to `variable`.
        """
        if decay:
            gradient = gradient + decay * ops.convert_to_tensor(variable)
        step = momentum * last_step + rate * gradient
        optimizer.assign(last_step, step)
        optimizer.assign_sub(variable, step)

    def adam_step(
        self,
        default: Callable,
        optimizer: keras.optimizers.Adam,
        gradient: Any,
        variable: Any,
        momentum: Any,
        velocity: Any,
        *,
        rate: Any,
        decay: float,
    ) -> None:
        """Subtracts rate * decay * variable from a variable and updates it, its momentum and its
        velocity as `default`, which is Keras's Adam.
        """
        if decay:
            optimizer.assign_sub(variable, ops.convert_to_tensor(variable) * (rate * decay))
        default()

    # Export

    def export_arguments(
        self, format: str, shape: Sequence[int | None], kwargs: dict[str, Any]
    ) -> tuple[Sequence[int | None], dict[str, Any]]:
        """Returns the shape to trace and the keyword arguments for `keras.Model.export`."""
        return shape, kwargs

    def traced_for_export(self) -> contextlib.AbstractContextManager:
        """Returns the context in which layers are traced for another runtime, with no kernel of
        this backend's own.
        """
        return contextlib.nullcontext()

    # Replicas: parts of a step that each see their own examples of the batch

    def num_replicas(self) -> int:
        """Returns how many replicas share the step that is being run; 1 outside of a step."""
        return 1

    def replica_id(self) -> Any:
        """Returns the rank of this replica, from 0, as an integer or a tensor."""
        return 0

    def batch_sum(self, part: Any) -> Any:
        """Returns the all-reduce sum of the replicas' tensors; the gradient flows to the local
        tensor only.
        """
        return part

    def batch_concatenate(self, part: Any) -> Any:
        """Returns the replicas' tensors (all-gather), concatenated along the first axis.

        Their lengths may differ. The gradient flows to the local tensor only.
        """
        return part

    def summand(self, loss: Any) -> Any:
        """Returns the value of `loss`, that of the whole batch, which Keras expects from a replica.

        Its gradient stays the same.
        """
        return loss

    # Processes that train one model together

    def started_processes(self) -> int:
        """Returns how many processes the environment announces, whether joined or not."""
        return 1

    def rank(self) -> int:
        """Returns the rank of this process, from 0."""
        return 0

    def world_size(self) -> int:
        """Returns how many processes train together; 1 before they have joined."""
        return 1

    def first_host(self) -> str:
        """Returns the name or address of the machine of rank 0."""
        return "localhost"

    def gather(self, array: np.ndarray) -> np.ndarray:
        """Returns the arrays of all ranks (all-gather), of equal shapes, along a new first axis."""
        return array[None]

    # Several devices

    def data_parallel(self, devices: str | Sequence[str]) -> contextlib.AbstractContextManager:
        """Returns the context in which models are made that split each batch among `devices`."""
        raise ValueError("Keras's backend must be TensorFlow, JAX or PyTorch to train a model.")

    def model_parallel(
        self, num_shards: int, devices: str | Sequence[str]
    ) -> contextlib.AbstractContextManager:
        """Returns the context in which models are made whose fc6 and fc7 are sharded.

        Raises:
            ValueError: If the backend cannot shard weights.
        """
        raise ValueError(f"Keras's backend must be JAX. Received: {self.name!r}.")

    def check_gradient_dtype(self, gradients: str | None) -> None:
        """Raises a ValueError if gradients cannot be all-reduced in this dtype."""
        if gradients not in (None, "bfloat16"):
            raise ValueError(f"`gradients` must be None or 'bfloat16'. Received: {gradients=}.")
