"""Atomic writes: whoever opens a file finds the old one or the new one, never a part of it."""

import contextlib
import errno
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

UNFINISHED = ".unfinished-"
"""Start of the names of temporary files and folders."""
_DAY = 24 * 60 * 60
# Of a full disk, an exhausted quota and a file that is too large, Python names no file.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike, *, sync: bool = True) -> Iterator[Path]:
    """Yields a temporary path; what the body writes there replaces `path` in one step.

    The temporary path ends in the name of `path`, since writers choose a format by the suffix. It
    lies in a new hidden folder next to `path`, so that processes can write the same file at the
    same time. The body may keep other temporary files in that folder. If the body raises, `path`
    stays as it was. The hidden folder is removed either way; `remove_leftovers` removes those of
    killed processes.

    Args:
        path: The file or folder to write. Its parent folder must exist. If processes may write the
            same folder at the same time, see `atomic_folder`.
        sync: Whether to flush a file to the disk (fsync) before the replacement, so that a power
            failure leaves the old file or the new one, too.

    Raises:
        OSError: If the folder cannot be written, or the body wrote nothing.
    """
    path = Path(path)
    try:
        with tempfile.TemporaryDirectory(
            prefix=UNFINISHED, dir=path.parent, ignore_cleanup_errors=True
        ) as folder:
            temporary = Path(folder, path.name)
            yield temporary
            if sync and temporary.is_file():
                _sync(temporary)
            os.replace(temporary, path)
    except OSError as error:
        if error.errno in _FULL and error.filename is None:
            error.filename = str(path)
        raise


@contextlib.contextmanager
def atomic_folder(path: str | os.PathLike) -> Iterator[Path]:
    """Yields a temporary path; the folder that the body makes there becomes `path` in one step.

    As `atomic_write`, but a folder cannot be replaced in one step: one that another process wrote
    meanwhile stays.

    Args:
        path: The folder to write, which does not exist yet. Its parent folder must exist.

    Raises:
        OSError: As `atomic_write`, if `path` does not exist afterwards.
    """
    try:
        with atomic_write(path) as temporary:
            yield temporary
    except OSError:
        if not Path(path).is_dir():
            raise


def remove_leftovers(folder: Path, older_than: float = _DAY) -> None:
    """Removes the temporary files that killed processes left in a folder.

    Args:
        folder: The folder, which need not exist.
        older_than: Seconds since the last change. Younger files may belong to a running process.
    """
    for leftover in folder.glob(f"{UNFINISHED}*"):
        with contextlib.suppress(FileNotFoundError):  # Its owner may have removed it meanwhile.
            if time.time() - leftover.stat().st_mtime < older_than:
                continue
            if leftover.is_dir():
                shutil.rmtree(leftover, ignore_errors=True)
            else:
                leftover.unlink()


def _sync(path):
    with path.open("r+b") as file:
        os.fsync(file.fileno())
