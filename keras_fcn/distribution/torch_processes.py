"""What the processes of torch.distributed tell each other."""

import os

import numpy as np
import torch
from keras.src.backend.torch.core import get_device
from torch import distributed


def join() -> None:
    """Makes this process one of those that `torchrun` started; without `torchrun`, does nothing.

    To be called before there are models. From then on `fit` and `evaluate` are common: all
    processes call them alike, each with its share of the data.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or number() > 1:
        return
    on_gpu = str(get_device()).startswith("cuda")
    if on_gpu:
        # Keras's "cuda" is the current device.
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group("nccl" if on_gpu else "gloo")


def number() -> int:
    """How many processes there are."""
    together = distributed.is_available() and distributed.is_initialized()
    return distributed.get_world_size() if together else 1


def rank() -> int:
    """The number of this process, from 0."""
    return distributed.get_rank() if number() > 1 else 0


def first_host() -> str:
    """Name or address of the first process's machine."""
    return os.environ["MASTER_ADDR"]


def sum_of_all(x: torch.Tensor) -> torch.Tensor:
    """See `replicas.batch_sum`."""
    return _SumOfAll.apply(x)


def rows_of_all(x: torch.Tensor) -> torch.Tensor:
    """See `replicas.batch_concatenate`."""
    return _RowsOfAll.apply(x)


def gathered(array: np.ndarray) -> np.ndarray:
    """See `processes`."""
    own = torch.from_numpy(array.copy()).to(get_device())
    parts = [torch.empty_like(own) for _ in range(number())]
    distributed.all_gather(parts, own)
    return torch.stack(parts).cpu().numpy()


def summed_gradients(dtype: str | None, bucket: distributed.GradBucket):
    """Hook of `DistributedDataParallel`: the sum, where its own takes the mean, sent in `dtype`."""
    gradients = bucket.buffer()
    sent = gradients if dtype is None else gradients.to(getattr(torch, dtype))
    future = distributed.all_reduce(sent, async_op=True).get_future()
    return future.then(lambda done: gradients.copy_(done.value()[0]))


class _SumOfAll(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        total = x.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx, gradient):
        return gradient


class _RowsOfAll(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        own = torch.tensor([len(x)], device=x.device)
        counts = [torch.zeros_like(own) for _ in range(number())]
        distributed.all_gather(counts, own)
        counts = [int(count) for count in counts]
        # NCCL gathers equal shapes alone.
        sent = x.new_zeros((max(counts), *x.shape[1:]))
        sent[: len(x)] = x
        received = [torch.empty_like(sent) for _ in counts]
        distributed.all_gather(received, sent)
        first = sum(counts[: distributed.get_rank()])
        ctx.own = slice(first, first + len(x))
        return torch.cat([rows[:count] for rows, count in zip(received, counts, strict=True)])

    @staticmethod
    def backward(ctx, gradient):
        return gradient[ctx.own]
