"""Downloads files and checks their size and checksum."""

import contextlib
import dataclasses
import hashlib
import http.client
import os
import shutil
import urllib.parse
import urllib.request
from pathlib import Path

from keras_fcn.io.atomic import UNFINISHED

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
            leaves a part of the file there. What an interrupted one has received is kept next to
            that folder, until `io.atomic.remove_leftovers`; the next call asks for the rest if the
            server says that the file has not changed.

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
    """Downloads a file, or the rest of an interrupted download (RFC 9110, section 14)."""
    start, etag = _take_part(url, path)
    request = urllib.request.Request(url)
    if start:
        request.add_header("Range", f"bytes={start}-")
        # A file that has changed is sent whole.
        request.add_header("If-Range", etag)
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT) as response:
            if response.status != http.HTTPStatus.PARTIAL_CONTENT:
                start = 0
                path.unlink(missing_ok=True)
            elif not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
                path.unlink()
                raise OSError(f"{url} sent other bytes than those from {start}")
            etag = response.headers.get("ETag", "")
            with path.open("ab") as stream:
                shutil.copyfileobj(response, stream, 1 << 20)
            announced = response.headers.get("Content-Length")
        received = path.stat().st_size - start
        if announced is not None and received != int(announced):
            raise OSError(f"{url} announced {announced} bytes, but sent {received}")
    except BaseException as error:
        if start and getattr(error, "code", 0) == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            path.unlink()
            return _from_server(url, path)
        _keep_part(url, etag, path)
        if isinstance(error, http.client.HTTPException):
            raise OSError(f"{url} did not answer like a web server: {error!r}") from error
        raise


def _take_part(url, path):
    """Moves what an interrupted download of a URL has left to `path`; returns its size and ETag.

    Whoever moves it has it for itself. Without one, the size is 0.
    """
    for part in path.parent.parent.glob(f"{_part_prefix(url)}*"):
        with contextlib.suppress(OSError):  # Another process was faster.
            part.replace(path)
            etag = part.name.removeprefix(_part_prefix(url))
            return path.stat().st_size, urllib.parse.unquote(etag)
    return 0, ""


def _keep_part(url, etag, path):
    """Keeps the start of a download next to its temporary folder, for a day.

    Only a strong ETag says that two answers have the same bytes.
    """
    if etag.startswith('"') and path.is_file():
        name = _part_prefix(url) + urllib.parse.quote(etag, safe="")
        with contextlib.suppress(OSError):  # Such as a name that is too long.
            path.replace(path.parent.with_name(name))


def _part_prefix(url):
    return f"{UNFINISHED}{hashlib.sha256(url.encode()).hexdigest()[:16]}-"


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
