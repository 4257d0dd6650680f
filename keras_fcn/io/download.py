"""Downloads files and checks their size and checksum."""

import dataclasses
import hashlib
import http.client
import os
import shutil
import urllib.parse
import urllib.request
from pathlib import Path

_GOOGLE_DRIVE = "drive.google.com"
_TIMEOUT = 30.0
_PAGES = (b"<!doctype html", b"<html")


@dataclasses.dataclass(frozen=True)
class PublishedFile:
    """A published file: on the internet, or part of the package.

    Args:
        name: Name of the file; the suffix determines the format.
        url: URL; empty for a file of the package. `https://drive.google.com/...` needs gdown.
        md5: Checksum of the file, `None` if none was published.
        size: Size of the file in bytes, `None` if none was published.
    """

    name: str
    url: str
    md5: str | None = None
    size: int | None = None


def keras_home() -> Path:
    """Returns the folder of Keras's cache: `$KERAS_HOME`, or `.keras` in the home folder."""
    return Path(os.environ.get("KERAS_HOME", "~/.keras")).expanduser()


def download(file: PublishedFile, folder: Path) -> Path:
    """Downloads a file into a folder and checks it.

    Args:
        file: `PublishedFile`.
        folder: A temporary folder, such as that of `io.atomic.atomic_write`: a killed download
            leaves a part of the file there.

    Returns:
        The path of the file.

    Raises:
        ImportError: If the URL needs gdown and it is not installed.
        OSError: If the download fails, the server sends a web page instead, or the size or checksum
            is wrong.
    """
    path = folder / file.name
    if urllib.parse.urlsplit(file.url).hostname == _GOOGLE_DRIVE:
        _from_google_drive(file.url, path)
    else:
        _from_server(file.url, path)
    _check_no_page(path, file.url)
    check(path, file)
    return path


def check(path: Path, file: PublishedFile) -> None:
    """Compares a file's size and checksum with the published ones, if there are any.

    Raises:
        OSError: If they differ.
    """
    size = path.stat().st_size
    if file.size is not None and size != file.size:
        raise OSError(f"{path} must have {file.size} bytes, but has {size}")
    if file.md5 is not None:
        md5 = md5_of(path)
        if md5 != file.md5:
            raise OSError(f"{path} must have the MD5 checksum {file.md5}, but has {md5}")


def md5_of(path: str | os.PathLike) -> str:
    """Returns the MD5 checksum of a file."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "md5").hexdigest()


def _from_server(url, path):
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT) as response, path.open("wb") as stream:
            shutil.copyfileobj(response, stream, 1 << 20)
            announced = response.headers.get("Content-Length")
    except http.client.HTTPException as error:
        raise OSError(f"{url} did not answer like a web server: {error!r}") from error
    received = path.stat().st_size
    if announced is not None and received != int(announced):
        raise OSError(f"{url} announced {announced} bytes, but sent {received}")


def _check_no_page(path, url):
    """Servers that have moved and networks with a login page answer with HTML and status 200."""
    with path.open("rb") as stream:
        start = stream.read(256).lstrip().lower()
    if start.startswith(_PAGES):
        raise OSError(f"{url} sent a web page instead of the file, as a login page of a network")


def _from_google_drive(url, path):
    try:
        import gdown
        import requests
    except ImportError as error:
        raise ImportError("gdown must be installed: pip install 'keras-fcn[download]'") from error
    try:
        gdown.download(url=url, output=str(path), quiet=True, use_cookies=False, timeout=_TIMEOUT)
    except requests.exceptions.ConnectionError as error:
        raise OSError("no connection to Google Drive") from error
    except Exception as error:  # The errors of gdown and requests have no common base class.
        raise OSError(" ".join(str(error).split())) from error
