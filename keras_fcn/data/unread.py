"""Datasets that can be shuffled and sharded before their examples are read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf


def read_later(elements: tf.data.Dataset, read: Callable[[Any], Any]) -> tf.data.Dataset:
    """Returns the dataset of `read(element)`; `parts` returns both arguments again.

    Args:
        elements: Dataset that is cheap to make and to hold, such as indices of files.
        read: Expensive function of an element, such as decoding images.
    """
    dataset = elements.map(read, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    dataset.keras_fcn_parts = elements, read
    return dataset


def parts(dataset: tf.data.Dataset) -> tuple[tf.data.Dataset, Callable[[Any], Any]]:
    """Returns (elements, read) of `read_later`; for other datasets, itself and the identity."""
    return getattr(dataset, "keras_fcn_parts", (dataset, lambda element: element))
