"""`fit` and `evaluate` of a model that the processes of `torch.distributed` train together."""

import contextlib
import types
import warnings
from typing import Any

import keras
import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from keras_fcn.backends import backend, keras_compat
from keras_fcn.backends.interrupts import interrupts_wait
from keras_fcn.backends.one_batch import is_one_batch
from keras_fcn.backends.replicas import check_losses


class Trainer:
    """Mixin for a `keras.Model` on PyTorch.

    In a single process training is Keras's. Predictions are copied to the host batch by batch.

    In several, a step is one over the batch of all ranks: its loss is that of the whole batch, and
    `DistributedDataParallel` sums the gradients (all-reduce). Rank 0 broadcasts the variables of
    the model and its optimizer when training starts, and again when layers have been frozen or
    the model has been compiled.

    Metrics are those of this rank's shard while batches pass. They are summed over the ranks when
    Keras reads them at the end of an epoch or evaluation, until they are reset. `evaluate` takes
    the loss of each rank's batches separately, so that some may have more batches than others.

    Keras 3.16 wraps a model itself as soon as there are several processes. It averages their
    gradients, which is not the gradient of the whole batch, so this class keeps it from doing so.
    """

    # Neither is a layer, a variable or a metric, so that Keras and PyTorch do not track them.
    _replica = None
    _metrics_are_summed = False

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self._gradient_dtype = backend.gradient_dtype

    def _initialize_ddp(self):
        """Keras 3.16 would wrap the model here."""

    def get_metrics_result(self):
        # Keras 3.16 would sum once more over the processes.
        return keras_compat.metrics_of_this_process(self)

    def make_train_function(self, force=False):
        if backend.world_size() > 1 and self.jit_compile:
            raise ValueError(
                "`jit_compile` must be False where several processes train a model. "
                f"Received: jit_compile={self.jit_compile}."
            )
        return super().make_train_function(force)

    def make_predict_function(self, force=False):
        made = self.predict_function
        super().make_predict_function(force)
        if self.predict_function is made:
            return
        step = self.predict_function
        # Keras would keep the logits of all batches on the device until the last one is there.
        self.predict_function = lambda data: keras.tree.map_structure(_on_host, step(data))

    def predict(self, x, batch_size=None, verbose="auto", steps=None, callbacks=None):
        if is_one_batch(x, batch_size, verbose, steps, callbacks):
            return self.predict_on_batch(x)
        return super().predict(x, batch_size, verbose, steps, callbacks)

    def predict_on_batch(self, x):
        self.eval()
        self.make_predict_function()
        return self.predict_function([(x,)])

    def train_step(self, data):
        # Keras keeps the last step's gradients until it has computed the logits.
        self.zero_grad()
        with interrupts_wait():
            if backend.world_size() == 1:
                return super().train_step(data)
            return self._common_train_step(*keras.utils.unpack_x_y_sample_weight(data))

    def _common_train_step(self, x, y, sample_weight):
        """A step that all ranks take together, each with its shard of the batch."""
        if self._replica is None or not self._replica.is_of(self):
            self._replica = _Replica(self, self._gradient_dtype)
        with self._replica.step():
            training = {"training": True} if self._call_has_training_arg else {}
            logits = self._replica.forward(x, **training)
            loss = self._compute_loss(
                x=x, y=y, y_pred=logits, sample_weight=sample_weight, training=True
            )
            self._loss_tracker.update_state(loss, sample_weight=len(keras.tree.flatten(x)[0]))
            parameters = self.trainable_weights
            if parameters:
                self.optimizer.scale_loss(loss).backward()
                with torch.no_grad():
                    gradients = [parameter.value.grad for parameter in parameters]
                    self.optimizer.apply(gradients, parameters)
            else:
                warnings.warn("The model has no trainable weights.", stacklevel=2)
            return self.compute_metrics(x, y, logits, sample_weight)

    def reset_metrics(self):
        super().reset_metrics()
        self._metrics_are_summed = False

    def _get_metrics_result_or_logs(self, logs):
        if backend.world_size() > 1:
            if not self._metrics_are_summed:
                _sum_metrics(self)
                self._metrics_are_summed = True
            # Those of a rank whose shard was empty.
            logs = logs or self.get_metrics_result()
        return super()._get_metrics_result_or_logs(logs)

    def _symbolic_build(self, iterator=None, data_batch=None):
        if backend.world_size() > 1 and data_batch is None:
            parts = (self._compile_loss, self._compile_metrics)
            if not all(part is None or part.built for part in parts):
                data_batch = _specs_of_a_batch(iterator)
        super()._symbolic_build(iterator, data_batch)


class _Replica:
    """The model of this rank: its forward pass, whose gradients all ranks sum."""

    def __init__(self, model, gradient_dtype):
        check_losses(model)
        self._optimizer = model.optimizer
        self._parameters = _trainable_parameters(model)
        self.forward = model.__call__
        if self._parameters:
            # Its constructor checks that all ranks have parameters of the same shapes.
            self.forward = DistributedDataParallel(
                _Forward(model, self._parameters), gradient_as_bucket_view=True
            )
            self.forward.register_comm_hook(gradient_dtype, summed_gradients)
        for variable in (*model.variables, *model.optimizer.variables):
            distributed.broadcast(variable.value.detach(), src=0)

    def is_of(self, model):
        """Whether the model still trains the same parameters with the same optimizer."""
        parameters = _trainable_parameters(model)
        return (
            self._optimizer is model.optimizer
            and len(parameters) == len(self._parameters)
            and all(now is then for now, then in zip(parameters, self._parameters, strict=True))
        )

    @contextlib.contextmanager
    def step(self):
        # A rank without more batches receives this, see `_sum_metrics`; nobody waits for it here.
        message = distributed.all_reduce(
            torch.ones((), device=keras_compat.torch_device()), async_op=True
        )
        with backend.common_step():
            yield
        message.wait()


class _Forward(torch.nn.Module):
    """What `DistributedDataParallel` sees of a model: its forward pass and its parameters."""

    def __init__(self, model, parameters):
        super().__init__()
        self._parameters_of_model = torch.nn.ParameterList(parameters)
        self._call = model.__call__

    def forward(self, *args, **kwargs):
        return self._call(*args, **kwargs)


def summed_gradients(
    dtype: str | None, bucket: distributed.GradBucket
) -> torch.futures.Future[torch.Tensor]:
    """Hook of `DistributedDataParallel`: all-reduces the sum, not the mean, in `dtype`."""
    gradients = bucket.buffer()
    sent = gradients if dtype is None else gradients.to(getattr(torch, dtype))
    future = distributed.all_reduce(sent, async_op=True).get_future()
    return future.then(lambda done: gradients.copy_(done.value()[0]))


def _trainable_parameters(model):
    return [variable.value for variable in model.trainable_weights]


def _on_host(tensor):
    if tensor.dtype == torch.bfloat16:  # Which NumPy does not have.
        tensor = tensor.float()
    # In the order that the array is read in; the layers' last one is another.
    return tensor.detach().contiguous().cpu().numpy()


def _sum_metrics(model):
    """Replaces the state of every metric by its sum over the ranks."""
    # A rank without more batches receives here the first message of the others' next step.
    steps = torch.zeros((), device=keras_compat.torch_device())
    distributed.all_reduce(steps)
    if steps:
        raise ValueError(
            "`x` must have as many batches in every process. Received: one whose batches ended "
            f"while {int(steps)} others went on."
        )
    for metric in model.metrics:
        for variable in metric.variables:
            distributed.all_reduce(variable.value.detach())


def _specs_of_a_batch(iterator):
    """Shapes and dtypes of the first batch of the first rank that has one."""
    local = next((keras.tree.map_structure(_spec, batch) for _, _, (batch,) in iterator), None)
    every = [None] * backend.world_size()
    distributed.all_gather_object(every, local)
    found = [batch for batch in every if batch is not None]
    if not found:
        raise ValueError("`x` must hold a batch in one process at least. Received: none.")
    return found[0]


def _spec(array):
    if array is None:
        return None
    dtype = keras.backend.standardize_dtype(array.dtype)
    return types.SimpleNamespace(shape=tuple(array.shape), dtype=dtype)
