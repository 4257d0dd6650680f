"""The part of the examples that one of several processes takes."""

import numbers

Shard = tuple[int, int] | str | None
"""(index, count): number `index`, from 0, of `count` processes; `"auto"`: as those of the training
that this one is in; `None`: all."""


def checked_shard(shard: Shard) -> tuple[int, int]:
    """Returns a shard as (index, count).

    Raises:
        ValueError: If it is not as `Shard` says, or `"auto"` where processes have not joined yet.
    """
    if shard is None:
        return 0, 1
    if isinstance(shard, str) and shard == "auto":
        # Imports Keras and its backend.
        from keras_fcn.distribution import processes

        processes.check_joined()
        return processes.shard()
    try:
        index, count = shard
        are_integers = all(isinstance(number, numbers.Integral) for number in shard)
        valid = are_integers and 0 <= index < count
    except (TypeError, ValueError):
        valid = False
    if not valid:
        raise ValueError(
            "`shard` must be two integers (index, count) with index from 0 to count - 1, or "
            f"'auto'. Received: {shard=}."
        )
    return index, count


def check_enough(num_examples: int, shard: tuple[int, int]) -> None:
    """Raises a ValueError, in every process, if one of them gets no example."""
    if num_examples < shard[1]:
        raise ValueError(
            "`shard` must leave an example for each process. Received: "
            f"{num_examples} examples, {shard=}."
        )
