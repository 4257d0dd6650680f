"""Sharding: the examples that one of several processes takes."""

from keras_fcn.arguments import integers
from keras_fcn.spelling import counted

Shard = tuple[int, int] | str | None
"""(rank, world_size): the shard of process `rank`, from 0, of `world_size` processes; `"auto"`: the
shard of this process in `data_parallel`; `None`: all examples."""


def checked_shard(shard: Shard) -> tuple[int, int]:
    """Returns a shard as (rank, world_size).

    Raises:
        ValueError: If it is no `Shard`, or `"auto"` before the processes have joined.
    """
    if shard is None:
        return 0, 1
    if isinstance(shard, str) and shard == "auto":
        # Imports Keras and its backend.
        from keras_fcn.distribution import processes

        processes.check_joined()
        return processes.shard()
    try:
        rank, world_size = integers("shard", shard)
        valid = 0 <= rank < world_size
    except ValueError:
        valid = False
    if not valid:
        raise ValueError(
            "`shard` must be two integers (rank, world_size) with 0 <= rank < world_size, or "
            f"'auto'. Received: {shard=}."
        )
    return rank, world_size


def check_enough(num_examples: int, shard: tuple[int, int]) -> None:
    """Raises a ValueError, in every process, if a shard would be empty."""
    if num_examples < shard[1]:
        raise ValueError(
            "`shard` must have a world_size of at most the number of examples. Received: "
            f"{counted(num_examples, 'example')}, {shard=}."
        )
