"""Threads that take themselves for the processes of one training, or for replicas of one model."""

import contextlib
import threading

import numpy as np

from keras_fcn.backends import backend
from keras_fcn.distribution import processes


class Threads:
    """Runs a function in several threads at once.

    Args:
        count: How many there are.
    """

    def __init__(self, count=2):
        self.count = count
        self._own = threading.local()
        self._told = [None] * count
        self._barrier = threading.Barrier(count, timeout=60)

    def run(self, function):
        """Returns what `function(number)` returns in each thread, or the exception it raises."""
        found = [None] * self.count

        def run_one(number):
            self._own.index = number
            try:
                found[number] = function(number)
            except BaseException as error:
                found[number] = error
                if not isinstance(error, ValueError):
                    self._barrier.abort()  # Nobody waits for this one.

        threads = [threading.Thread(target=run_one, args=(n,)) for n in range(self.count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return found

    @property
    def index(self):
        return getattr(self._own, "index", 0)

    def exchange(self, value):
        """Returns the values of all threads, in their order."""
        self._told[self.index] = value
        self._barrier.wait()
        every = list(self._told)
        self._barrier.wait()
        return every


def as_processes(monkeypatch, count=2):
    """Threads that `processes` takes for the processes of a training."""
    threads = Threads(count)

    def gathered(array):
        every = threads.exchange(array)
        assert len({(part.shape, part.dtype) for part in every}) == 1
        return np.stack(every)

    monkeypatch.setattr(processes, "world_size", lambda: count)
    monkeypatch.setattr(processes, "rank", lambda: threads.index)
    monkeypatch.setattr(backend, "gather", gathered)
    monkeypatch.setattr(processes, "watched", lambda final_message: contextlib.nullcontext())
    return threads


class _ReplicaContext:
    """What TensorFlow gives a replica, in a thread."""

    def __init__(self, threads):
        self._threads = threads
        self.num_replicas_in_sync = threads.count

    @property
    def replica_id_in_sync_group(self):
        return self._threads.index

    def all_reduce(self, operation, value):
        total = sum(self._threads.exchange(value))
        return {"SUM": total, "MEAN": total / self.num_replicas_in_sync}[operation]

    def all_gather(self, value, axis):
        import tensorflow as tf

        return tf.concat(self._threads.exchange(value), axis)


def as_replicas(monkeypatch, count=2):
    """Threads that `replicas` takes for TensorFlow's replicas of a model."""
    threads = Threads(count)
    context = _ReplicaContext(threads)
    monkeypatch.setattr(backend, "_replica_context", lambda: context)
    return threads
