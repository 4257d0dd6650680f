"""`fit` and `evaluate` of a model that several processes of torch.distributed train together."""

import contextlib
import os
import types

import keras
import torch
from keras.src.backend.torch.core import get_device
from keras.src.trainers import trainer as keras_trainer
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from keras_fcn.distribution import replicas, torch_processes
from keras_fcn.distribution.interrupts import interrupts_wait
from keras_fcn.distribution.one_batch import is_one_batch

# oneDNN keeps the last 1024 primitives that it has compiled, each for one image size: 470 MiB after
# 400 sizes of FCN-8s. It reads this before its first convolution. A training step of a slim FCN-8s
# takes half as long again with 48 or fewer, and no longer with 64.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")


class Trainer:
    """Mixin for a `keras.Model` on PyTorch, in front of it in the bases.

    A step is one over the batches of all processes. Its loss has the value of the common batch,
    gradients are summed by `DistributedDataParallel`.
    The variables of the model and its optimizer are those of the first process when training
    starts, and again when layers have been frozen or the model has been compiled.

    Metrics are those of the own share while batches pass, and are summed over the processes when
    Keras reads them at the end of an epoch or evaluation, until they are reset. `evaluate` takes
    the loss of each process's batches by itself, so that some may have more of them than others.

    In a single process training is Keras's. Predictions come to the host batch by batch.

    Keras 3.16 wraps a model itself as soon as there are several processes. It takes the mean of
    their gradients, which is not that of the common batch, so this class keeps it from doing so.
    """

    # Neither is a layer, a variable or a metric, so that Keras and PyTorch do not track them.
    _replica = None
    _metrics_are_summed = False

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._gradients = replicas.gradients()

    def __call__(self, *args, **kwargs):
        if self._replica is not None and self._replica.is_next_call:
            self._replica.is_next_call = False
            return self._replica.forward(*args, **kwargs)
        return super().__call__(*args, **kwargs)

    def _initialize_ddp(self):
        """Keras 3.16 would wrap the model here."""

    def get_metrics_result(self):
        # Keras 3.16 would sum once more over the processes.
        return keras_trainer.Trainer.get_metrics_result(self)

    def make_train_function(self, force=False):
        if torch_processes.number() > 1 and self.jit_compile:
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
        # Keras would leave the logits of all batches on the device until the last one is there.
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
        if not torch_processes.number() > 1:
            with interrupts_wait():
                return super().train_step(data)
        if self._replica is None or not self._replica.is_of(self):
            self._replica = _Replica(self)
        with self._replica.step(), interrupts_wait():
            return super().train_step(data)

    def reset_metrics(self):
        super().reset_metrics()
        self._metrics_are_summed = False

    def _get_metrics_result_or_logs(self, logs):
        if torch_processes.number() > 1:
            if not self._metrics_are_summed:
                _sum_metrics(self)
                self._metrics_are_summed = True
            # Those of a process whose share was empty.
            logs = logs or self.get_metrics_result()
        return super()._get_metrics_result_or_logs(logs)

    def _symbolic_build(self, iterator=None, data_batch=None):
        if torch_processes.number() > 1 and data_batch is None:
            parts = (self._compile_loss, self._compile_metrics)
            if not all(part is None or part.built for part in parts):
                data_batch = _specs_of_a_batch(iterator)
        super()._symbolic_build(iterator, data_batch)


class _Replica:
    """The model of this process among those of the others."""

    def __init__(self, model):
        replicas.check_losses(model)
        self.is_next_call = False
        self._optimizer = model.optimizer
        self._parameters = _trainable_parameters(model)
        self.forward = model.__call__
        if self._parameters:
            # Its constructor checks that all processes have parameters of the same shapes.
            self.forward = DistributedDataParallel(
                _Forward(model, self._parameters), gradient_as_bucket_view=True
            )
            self.forward.register_comm_hook(model._gradients, torch_processes.summed_gradients)
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
        # What one reads whose batches have ended, see `_sum_metrics`; nobody waits for it here.
        told = distributed.all_reduce(torch.ones((), device=get_device()), async_op=True)
        self.is_next_call = True
        try:
            with replicas.step_of_processes():
                yield
            told.wait()
        finally:
            self.is_next_call = False


class _Forward(torch.nn.Module):
    """What `DistributedDataParallel` sees of a model: what it computes and what it learns."""

    def __init__(self, model, parameters):
        super().__init__()
        self._parameters_of_model = torch.nn.ParameterList(parameters)
        self._call = model.__call__

    def forward(self, *args, **kwargs):
        return self._call(*args, **kwargs)


def _trainable_parameters(model):
    return [variable.value for variable in model.trainable_weights]


def _on_host(tensor):
    # In the order that the array is read in; the layers' last is another one.
    return tensor.detach().contiguous().cpu().numpy()


def _sum_metrics(model):
    """Replaces the state of every metric by its sum over the processes."""
    # A process that has no more batches meets here the first message of the others' next step.
    steps = torch.zeros((), device=get_device())
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
    """Shapes and dtypes of the first batch of the first process that has one."""
    own = next((keras.tree.map_structure(_spec, batch) for _, _, (batch,) in iterator), None)
    every = [None] * torch_processes.number()
    distributed.all_gather_object(every, own)
    found = [batch for batch in every if batch is not None]
    if not found:
        raise ValueError("`x` must hold a batch in one process at least. Received: none.")
    return found[0]


def _spec(array):
    if array is None:
        return None
    dtype = keras.backend.standardize_dtype(array.dtype)
    return types.SimpleNamespace(shape=tuple(array.shape), dtype=dtype)
