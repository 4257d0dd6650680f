"""The files of published weights: in the package, in Keras's cache, or downloaded and converted."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

from keras_fcn.io.atomic import atomic_write, remove_leftovers
from keras_fcn.io.download import PublishedFile, check, download, keras_home
from keras_fcn.weights.published import PublishedWeights


def packaged_file(published: PublishedWeights) -> Path | None:
    """Returns the path of weights that are part of the package, `None` for others.

    Raises:
        OSError: If the file is missing or damaged.
    """
    if not published.is_packaged:
        return None
    file = published.files[0]
    path = Path(__file__).with_name(file.name)
    try:
        check(path, file)
    except OSError as error:
        raise OSError(
            f"weights={published.name!r} must be part of the package, but {error}. Install "
            "keras-fcn again."
        ) from error
    return path


def cached_file(
    published: PublishedWeights, convert: Callable[[Path, Path], None], variant: str = ""
) -> Path:
    """Returns the path of published weights as a `.weights.h5` file in Keras's cache.

    Downloads and converts them if they are missing. A copy that the user has put into the folder
    is preferred to a download.

    Args:
        published: `PublishedWeights`.
        convert: Function of (source, target) that reads a published file and writes a
            `.weights.h5` file.
        variant: End of the file's name, for a network that takes other parts of the weights.

    Raises:
        OSError: If all copies fail. The message lists them and the remedy.
    """
    folder = keras_home() / "keras_fcn"
    target = folder / f"{published.name}-fcn{published.stride}s{variant}.weights.h5"
    if target.is_file():
        return target
    placed = [(folder / file.name, file) for file in published.files]
    candidates: list[tuple[Path | None, PublishedFile]] = [
        (path, file) for path, file in placed if path.is_file()
    ]
    candidates += [(None, file) for file in published.files]
    failures = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(f"{folder} cannot be written")
    except OSError as error:
        raise OSError(
            f"KERAS_HOME must be a folder in which {folder} can be written for "
            f"weights={published.name!r}, but: {error}. Set KERAS_HOME to another folder, or pass "
            "the path of a file as `weights`."
        ) from error
    remove_leftovers(folder)
    for path, file in candidates:
        try:
            with atomic_write(target) as converted:
                if path is not None:
                    check(path, file)
                else:
                    print(f"Downloading {file.url}", file=sys.stderr, flush=True)
                convert(path or download(file, converted.parent), converted)
            return target
        except (OSError, ValueError, ImportError) as error:
            failures.append(f"{path or file.url} ({error})")
    if target.is_file():  # Another process was faster.
        return target
    raise OSError(
        f"weights={published.name!r} must be downloaded, but all copies failed: "
        f"{'; '.join(failures)}. Put one of {', '.join(file.name for file in published.files)} "
        f"into {folder}, or pass its path as `weights`; weights=None starts from random values."
    )
