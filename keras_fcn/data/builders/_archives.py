"""The archives of data sets: found among the user's files, or downloaded from where they are left.

TFDS's own downloads know one address per file, ask a dead host ten times without a time limit,
and check SHA-256 where the authors published MD5; unpacking is TFDS's.
"""

import dataclasses
import hashlib
import http.client
import os
import shutil
import tarfile
import warnings
import zipfile
from collections.abc import Sequence
from pathlib import Path

import tensorflow_datasets as tfds

from keras_fcn.io.atomic import atomic_write, remove_leftovers
from keras_fcn.weights import download

_EXTRACT_METHODS = {
    ".tar": tfds.download.ExtractMethod.TAR,
    ".tar.gz": tfds.download.ExtractMethod.TAR_GZ,
    ".tgz": tfds.download.ExtractMethod.TAR_GZ,
    ".zip": tfds.download.ExtractMethod.ZIP,
}
# Folders around the data within an archive, "TrainVal/VOCdevkit/VOC2011" being the deepest.
_DEEPEST = 3


@dataclasses.dataclass(frozen=True)
class Archive:
    """An archive, what is in it and where it is on the internet.

    Args:
        name: Name of the file, ending in .tar, .tar.gz, .tgz or .zip.
        folder: Path of the data in the archive, such as "VOCdevkit/VOC2012".
        contents: Paths in `folder` by which the data are recognized.
        urls: Addresses of the archive, the official one first.
        md5: Checksum of the archive, `None` where nobody published one.
    """

    name: str
    folder: str
    contents: tuple[str, ...]
    urls: tuple[str, ...]
    md5: str | None = None

    @property
    def suffix(self) -> str:
        """The end of `name` that says how to unpack it."""
        return next(suffix for suffix in _EXTRACT_METHODS if self.name.endswith(suffix))


def manual_instructions(*archives: Archive) -> str:
    """Returns what TFDS shows as a builder's `MANUAL_DOWNLOAD_INSTRUCTIONS`."""
    lines = (f"{archive.name}, or {archive.folder}/ from it" for archive in archives)
    return "Nothing is downloaded that lies in manual_dir:\n" + "\n".join(lines)


def find_or_download(
    archives: Sequence[Archive], data_set: str, dl_manager: tfds.download.DownloadManager
) -> list[Path]:
    """Finds the data of archives in `manual_dir`, or downloads what is not there.

    In `manual_dir` an archive may lie as it is or unpacked. A download goes on to the next address
    when one fails, or sends something else than the archive.

    Args:
        archives: What is needed.
        data_set: Name of the data set, which keeps apart archives of one name.
        dl_manager: TFDS's, of which `manual_dir`, `download_dir` and `extract` are used.

    Returns:
        For every archive the folder that holds its `contents`.

    Raises:
        FileNotFoundError: If some archives can neither be found nor downloaded; says of each why
            and where to put it.
        ValueError: If an archive does not hold its `contents`.
    """
    manual_dir = _manual_dir(dl_manager)
    folders, failures = [], []
    for archive in archives:
        folder = _in_manual_dir(archive, manual_dir)
        if folder is None:
            path = manual_dir / archive.name
            if path.is_file():
                _warn_of_other_checksum(path, archive)
            else:
                path, reasons = _downloaded(archive, data_set, dl_manager)
            if path is None:
                failures.append(_how_to_help(archive, manual_dir, reasons))
                continue
            folder = _unpacked(archive, path, dl_manager)
        folders.append(folder)
    if failures:
        raise FileNotFoundError(f"{data_set} cannot be built. " + "\n".join(failures))
    return folders


def _manual_dir(dl_manager):
    try:
        return _local(dl_manager.manual_dir)
    except AssertionError:
        # TFDS raises for a folder that is missing or empty, but its path belongs in our message.
        return _local(dl_manager._manual_dir or dl_manager.download_dir / "manual")


def _local(path):
    return Path(os.fspath(path))


def _in_manual_dir(archive, manual_dir):
    parts = Path(archive.folder).parts
    stem = archive.name.removesuffix(archive.suffix)
    inner = [Path(*parts[start:]) for start in range(len(parts) + 1)]
    for folder in [*inner, *(Path(stem, path) for path in inner)]:
        if _holds(manual_dir / folder, archive.contents):
            return manual_dir / folder
    return None


def _holds(folder, contents):
    return all((folder / content).exists() for content in contents)


def _downloaded(archive, data_set, dl_manager):
    """(path of the archive or None, {address: why it failed})."""
    target = _local(dl_manager.download_dir) / f"{data_set}.{archive.name}"
    reasons = {}
    if target.is_file():
        return target, reasons
    target.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(target.parent)
    for url in archive.urls:
        try:
            with atomic_write(target) as temporary:
                _download_to(temporary, archive, url)
            return target, reasons
        except OSError as error:
            reasons[url] = str(error)
    return None, reasons


def _download_to(path, archive, url):
    file = download.PublishedFile(archive.name, url, md5=archive.md5)
    try:
        downloaded = download.download(file, path.parent)
        _check_format(downloaded, archive)
        downloaded.rename(path)
    except (OSError, http.client.HTTPException) as error:
        # The user cannot look into the temporary folder: it is removed by then.
        raise OSError(str(error).replace(f"{path.parent}{os.sep}", "") or repr(error)) from error


def _check_format(path, archive):
    is_archive = zipfile.is_zipfile if archive.suffix == ".zip" else tarfile.is_tarfile
    if not is_archive(path):
        raise OSError(f"{path} is no {archive.suffix} archive")


def _warn_of_other_checksum(path, archive):
    if archive.md5 is None:
        return
    with path.open("rb") as stream:
        md5 = hashlib.file_digest(stream, "md5").hexdigest()
    if md5 != archive.md5:
        warnings.warn(
            f"{path} has the MD5 checksum {md5}, not the published {archive.md5}. It may be a "
            "part of the archive or another one.",
            stacklevel=4,
        )


def _unpacked(archive, path, dl_manager):
    root = _extracted(archive, path, dl_manager)
    if root.stat().st_ctime < path.stat().st_ctime:
        # TFDS takes what it unpacked from another archive that was here under this name.
        shutil.rmtree(root)
        root = _extracted(archive, path, dl_manager)
    folders = [root]
    for _ in range(_DEEPEST + 1):
        for folder in folders:
            if _holds(folder, archive.contents):
                return folder
        folders = [inner for folder in folders for inner in sorted(folder.iterdir())]
        folders = [folder for folder in folders if folder.is_dir()]
    raise ValueError(
        f"{path} must hold {archive.folder}/ with {', '.join(archive.contents)}. What it does hold "
        f"is in {root}. Put another archive in its place."
    )


def _extracted(archive, path, dl_manager):
    method = _EXTRACT_METHODS[archive.suffix]
    return _local(dl_manager.extract(tfds.download.Resource(path=path, extract_method=method)))


def _how_to_help(archive, manual_dir, reasons):
    failed = "".join(f"\n  {url}: {reason}" for url, reason in reasons.items())
    return (
        f"{archive.name} could not be downloaded:{failed}\n"
        f"Get it elsewhere and put it at {manual_dir / archive.name}, or unpack it there: its "
        f"{archive.folder} with {', '.join(archive.contents)} must come to lie at "
        f"{manual_dir / archive.folder}. `manual_dir` names another folder than {manual_dir}."
    )
