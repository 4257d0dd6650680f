"""Symbolic links that lead nowhere, as to a disk that is not mounted."""

import os
from pathlib import Path


def check_links(path: str | os.PathLike) -> None:
    """Raises a FileNotFoundError if a path, or a folder above it, is a link that leads nowhere."""
    for place in (Path(path), *Path(path).parents):
        if place.is_symlink() and not place.exists():
            raise FileNotFoundError(
                f"{place} must be a link to what exists. Received: a link to {os.readlink(place)}."
            )
