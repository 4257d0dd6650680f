"""Threads that simulate the processes of one training, or the replicas of one model."""

import contextlib
import threading

import numpy as np

from keras_fcn.backends import backend
from keras_fcn.distribution import processes


class Threads:
    """Runs a function in several threads at once.

    Args:
        world_size: Number of threads.
    """

    def __init__(self, world_size=2):
        self.world_size = world_size
        self._own = threading.local()
        self._told = [None] * world_size
        self._barrier = threading.Barrier(world_size, timeout=60)

    def run(self, function):
        """Returns what `function(rank)` returns in each thread, or the exception it raises."""
        found = [None] * self.world_size

        def run_one(rank):
            self._own.rank = rank
            try:
                found[rank] = function(rank)
            except BaseException as error:
                found[rank] = error
                if not isinstance(error, ValueError):
                    self._barrier.abort()  # No thread waits for a failed one.

        threads = [threading.Thread(target=run_one, args=(n,)) for n in range(self.world_size)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return found

    @property
    def rank(self):
        return getattr(self._own, "rank", 0)

    def exchange(self, value):
        """Returns the values of all threads, ordered by rank."""
        self._told[self.rank] = value
        self._barrier.wait()
        every = list(self._told)
        self._barrier.wait()
        return every


def as_processes(monkeypatch, world_size=2):
    """Threads that `keras_fcn.distribution.processes` treats as the processes of a training."""
    threads = Threads(world_size)

    def gathered(array):
        every = threads.exchange(array)
        assert len({(part.shape, part.dtype) for part in every}) == 1
        return np.stack(every)

    monkeypatch.setattr(processes, "world_size", lambda: world_size)
    monkeypatch.setattr(processes, "rank", lambda: threads.rank)
    monkeypatch.setattr(backend, "gather", gathered)
    monkeypatch.setattr(processes, "watched", lambda final_message: contextlib.nullcontext())
    return threads


class _ReplicaContext:
    """TensorFlow's replica context, simulated in a thread."""

    def __init__(self, threads):
        self._threads = threads
        self.num_replicas_in_sync = threads.world_size

    @property
    def replica_id_in_sync_group(self):
        return self._threads.rank

    def all_reduce(self, operation, value):
        total = sum(self._threads.exchange(value))
        return {"SUM": total, "MEAN": total / self.num_replicas_in_sync}[operation]

    def all_gather(self, value, axis):
        import tensorflow as tf

        return tf.concat(self._threads.exchange(value), axis)


def as_replicas(monkeypatch, world_size=2):
    """Threads that the TensorFlow backend treats as replicas of a model."""
    threads = Threads(world_size)
    context = _ReplicaContext(threads)
    monkeypatch.setattr(backend, "_replica_context", lambda: context)
    return threads
