"""Archives of data sets: found among the user's files, or downloaded from one of several URLs.

TFDS's own downloads support one URL per file, retry a dead host ten times without a timeout, and
check SHA-256 although the authors published MD5. TFDS only unpacks the archives here.
"""

import dataclasses
import http.client
import os
import re
import shutil
import tarfile
import warnings
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import tensorflow_datasets as tfds
from tensorflow_datasets.core.download.extractor import ExtractError

from keras_fcn.io import download
from keras_fcn.io.atomic import atomic_folder, atomic_write, remove_leftovers

_EXTRACT_METHODS = {
    ".tar": tfds.download.ExtractMethod.TAR,
    ".tar.gz": tfds.download.ExtractMethod.TAR_GZ,
    ".tgz": tfds.download.ExtractMethod.TAR_GZ,
    ".zip": tfds.download.ExtractMethod.ZIP,
}
# File in the contents of an archive that states which archive they are of.
_SOURCE = ".keras_fcn_archive"
# Depth of the data in an archive; the deepest is "TrainVal/VOCdevkit/VOC2011".
_DEEPEST = 3


@dataclasses.dataclass(frozen=True)
class Archive:
    """An archive, its contents and its URLs.

    Args:
        name: Name of the file, ending in .tar, .tar.gz, .tgz or .zip.
        folder: Path of the data in the archive, such as "VOCdevkit/VOC2012".
        contents: Paths in `folder` that identify the data.
        urls: URLs of the archive, the official one first.
        md5: Checksum of the archive, `None` if none was published.
    """

    name: str
    folder: str
    contents: tuple[str, ...]
    urls: tuple[str, ...]
    md5: str | None = None

    @property
    def suffix(self) -> str:
        """The suffix of `name`, which determines how to unpack the archive."""
        return next(suffix for suffix in _EXTRACT_METHODS if self.name.endswith(suffix))


def manual_instructions(*archives: Archive) -> str:
    """Returns the `MANUAL_DOWNLOAD_INSTRUCTIONS` of a builder."""
    lines = (f"{archive.name}, or {archive.folder}/ from it" for archive in archives)
    return "These are not downloaded if they are in manual_dir:\n" + "\n".join(lines)


def find_or_download(
    archives: Sequence[Archive], data_set: str, dl_manager: tfds.download.DownloadManager
) -> list[Path]:
    """Finds the data of archives in `manual_dir`, or downloads what is missing.

    `manual_dir` may hold an archive packed or unpacked. If a URL fails or does not send the
    archive, the next one is tried.

    Args:
        archives: The archives.
        data_set: Name of the data set, to distinguish archives of the same name.
        dl_manager: TFDS's, of which `manual_dir` and `download_dir` are used.

    Returns:
        For every archive the folder that holds its `contents`.

    Raises:
        FileNotFoundError: If archives can neither be found nor downloaded. The message gives the
            reason for each and where to put it.
        ValueError: If an archive cannot be unpacked or does not hold its `contents`.
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
                failures.append(_failure_with_remedy(archive, manual_dir, reasons))
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
        from keras_fcn.backends.keras_compat import manual_folder

        # TFDS raises for a folder that is missing or empty, but its path belongs in our message.
        return _local(manual_folder(dl_manager) or dl_manager.download_dir / "manual")


def _local(path):
    return Path(os.fspath(path))


def _in_manual_dir(archive, manual_dir):
    *_, last = parts = Path(archive.folder).parts
    stem = archive.name.removesuffix(archive.suffix)
    inner = [Path(*parts[start:]) for start in range(len(parts) + 1)]
    for folder in [*inner, *(Path(stem, path) for path in inner)]:
        found = manual_dir / folder
        if _holds(found, archive.contents) and not _is_other_year(found.resolve().name, last):
            return found
    return None


def _is_other_year(name, wanted):
    """Whether a folder such as VOC2012, of the same layout, is in place of such as VOC2011."""
    return name != wanted and all(re.fullmatch(r"VOC\d{4}", each) for each in (name, wanted))


def _holds(folder, contents):
    return all((folder / content).exists() for content in contents)


def _downloaded(archive, data_set, dl_manager):
    """Returns the path of the archive or None, and a dictionary from URL to its error."""
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
    if not _is_archive(path, archive):
        raise OSError(f"{path} is no {archive.suffix} archive")


def _is_archive(path, archive):
    try:
        return (zipfile.is_zipfile if archive.suffix == ".zip" else tarfile.is_tarfile)(path)
    except (EOFError, zlib.error):  # tarfile raises them for a file that ends in its first block.
        return False


def _warn_of_other_checksum(path, archive):
    if archive.md5 is None:
        return
    md5 = download.md5_of(path)
    if md5 != archive.md5:
        warnings.warn(
            f"{path} has the MD5 checksum {md5}, not the published {archive.md5}. It may be "
            "incomplete or another archive.",
            stacklevel=2,  # The command line prints warnings of this package, and TFDS calls it.
        )


def _unpacked(archive, path, dl_manager):
    root = _extracted(archive, path, dl_manager)
    if not _is_of(root, path):
        # These are the contents of another archive of the same name.
        shutil.rmtree(root)
        root = _extracted(archive, path, dl_manager)
    folders = [root]
    wanted = Path(archive.folder).name
    for _ in range(_DEEPEST + 1):
        for folder in folders:
            if _holds(folder, archive.contents) and not _is_other_year(folder.name, wanted):
                return folder
        folders = [inner for folder in folders for inner in sorted(folder.iterdir())]
        folders = [folder for folder in folders if folder.is_dir()]
    raise ValueError(
        f"{path} must hold {archive.folder}/ with {', '.join(archive.contents)}. Received: the "
        f"contents of {root}. Replace it with the right archive."
    )


def _is_of(root, path):
    """Whether a folder holds the contents of this archive, as it is now."""
    source = root / _SOURCE
    is_same = source.is_file() and source.read_text(encoding="utf-8") == _identity(path)
    return is_same and root.stat().st_ctime >= path.stat().st_ctime


def _identity(path):
    status = path.stat()
    return ascii((str(path.resolve()), status.st_size, status.st_mtime_ns))


def _extracted(archive, path, dl_manager):
    method = _EXTRACT_METHODS[archive.suffix]
    target = _local(dl_manager.download_dir) / "extracted" / f"{method.name}.{path.name}"
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(target.parent)
    try:
        # A manager of its own: into one folder, TFDS removes what another process has unpacked
        # and may be reading.
        with atomic_folder(target) as temporary:
            own = tfds.download.DownloadManager(download_dir=temporary.parent)
            resource = tfds.download.Resource(path=path, extract_method=method)
            identity = _identity(path)
            _local(own.extract(resource)).rename(temporary)
            (temporary / _SOURCE).write_text(identity, encoding="utf-8")
        return target
    except ExtractError as error:
        reason = error.__cause__ or error
        if not _is_archive(path, archive):
            # The message of tarfile has a line for each compression that it tried.
            reason = f"it is no {archive.suffix} archive"
        raise ValueError(
            f"{path} cannot be unpacked: {reason}. If it is damaged, replace it "
            "with a complete copy."
        ) from error


def _failure_with_remedy(archive, manual_dir, reasons):
    failed = "".join(f"\n  {url}: {reason}" for url, reason in reasons.items())
    return (
        f"{archive.name} could not be downloaded:{failed}\n"
        f"Download it elsewhere and save it as {manual_dir / archive.name}, or unpack it so that "
        f"{archive.folder} with {', '.join(archive.contents)} is at "
        f"{manual_dir / archive.folder}. Pass `manual_dir` to use another folder than {manual_dir}."
    )
