"""Bounds what a backend keeps for each image size that it has predicted."""

from keras_fcn.backends import backend


class BoundedCaches:
    """Clears the backend's caches after some number of image sizes.

    JAX keeps entries for every size. Clearing them removes all compiled programs of the process,
    so this is for a process that only predicts, such as a command or a server. One thread may use
    it at a time.

    Args:
        max_sizes: Number of sizes that the caches hold.
    """

    def __init__(self, max_sizes: int = 50):
        self._max_sizes = max_sizes
        self._sizes: set[tuple[int, int]] = set()

    def add(self, size: tuple[int, int]) -> None:
        """Notes that an image of this (height, width) was predicted."""
        self._sizes.add(size)
        if len(self._sizes) > self._max_sizes:
            backend.clear_caches()
            self._sizes.clear()
