"""Files of the Hugging Face Hub, by address: `hf://OWNER/REPO/FILE@REVISION#sha256=HEX`."""

import dataclasses
import hashlib
import re
import urllib.parse
import warnings
from pathlib import Path
from typing import Any, TypeGuard

from keras_fcn.io.extras import check_installed

PREFIX = "hf://"
"""What every address begins with."""
FORM = f"{PREFIX}OWNER/REPO/FILE@REVISION"
"""The form of an address."""
_ADDRESS = re.compile(
    r"""hf://(?:models/)?
    (?P<repo>\w[\w.-]*/\w[\w.-]*)
    (?:@(?P<early>refs/(?:pr|convert)/[\w.-]+|[^/@#]+))?  # owner/repo@revision/file, the Hub's form
    /(?P<name>[^#\\]+?)
    (?:@(?P<revision>[^@#\\]+))?
    (?:\#sha256=(?P<sha256>[0-9a-f]{64}))?""",
    re.ASCII | re.IGNORECASE | re.VERBOSE,
)
_KINDS = ("buckets", "datasets", "kernels", "models", "spaces")
_UNAUTHORIZED, _FORBIDDEN = 401, 403


@dataclasses.dataclass(frozen=True)
class HubFile:
    """A file in a model repository of the Hugging Face Hub.

    Args:
        repo: `"owner/repo"`.
        name: Path of the file in the repository.
        revision: Branch, tag or commit; `None` for the newest commit of the branch `main`.
        sha256: SHA-256 checksum of the file in hexadecimal digits, `None` for no check.
    """

    repo: str
    name: str
    revision: str | None = None
    sha256: str | None = None

    @classmethod
    def of(cls, address: str) -> "HubFile":
        """Returns the file of an address.

        The Hub's own form, `hf://owner/repo@revision/file`, is an address, too.

        Raises:
            ValueError: If it is no address of a file.

        Examples:
            >>> HubFile.of("hf://owner/repo/best.keras@v1")
            HubFile(repo='owner/repo', name='best.keras', revision='v1', sha256=None)
        """
        found = _ADDRESS.fullmatch(address)
        parts = found["name"].split("/") if found else []
        if (
            found is None
            or found["repo"].split("/")[0] in _KINDS
            or any(part in ("", ".", "..") for part in parts)
            or parts[-1].endswith("@")
            or (found["early"] and found["revision"])
        ):
            raise ValueError(
                f"`weights` of the Hugging Face Hub must be {FORM}, a file of a model repository, "
                f"and may end in #sha256= and 64 hexadecimal digits. Received: {address}."
            )
        revision = found["early"] or found["revision"]
        return cls(
            found["repo"],
            found["name"],
            urllib.parse.unquote(revision) if revision else None,
            found["sha256"].lower() if found["sha256"] else None,
        )

    def __str__(self):
        revision = "" if self.revision is None else f"@{self.revision}"
        checksum = "" if self.sha256 is None else f"#sha256={self.sha256}"
        return f"{PREFIX}{self.repo}/{self.name}{revision}{checksum}"


def is_address(source: object) -> TypeGuard[str]:
    """Whether a source of weights is an address of the Hub.

    Examples:
        >>> is_address("hf://owner/repo/best.keras@v1"), is_address("best.keras")
        (True, False)
    """
    return isinstance(source, str) and source.startswith(PREFIX)


def check_hub() -> None:
    """Checks that the package of the extra `hub` is installed.

    Raises:
        ImportError: If it is not.
    """
    check_installed("hub", ("huggingface_hub",), "for the Hugging Face Hub")


def download(address: str) -> Path:
    """Returns the path of a file of the Hub in the cache of `huggingface_hub`.

    The file is downloaded if it is not in the cache. The variables of `huggingface_hub` apply:
    `HF_HOME` and `HF_HUB_CACHE` for the cache, `HF_HUB_OFFLINE`, `HF_ENDPOINT`, and `HF_TOKEN` for
    private and gated repositories. Without a revision, a warning names the commit of the file.

    Args:
        address: As for `HubFile.of`.

    Raises:
        FileNotFoundError: If there is no such repository, revision or file.
        ImportError: If `huggingface_hub` is not installed.
        OSError: If the file is neither in the cache nor can be downloaded, or its checksum differs.
        PermissionError: If the repository is gated, or refuses the token.
        ValueError: If it is no address of a file.
    """
    return _fetched(HubFile.of(address))


def pinned(address: str) -> str:
    """Returns the address of a file with its commit as the revision, after downloading it.

    Args:
        address: As for `HubFile.of`.

    Raises:
        ImportError, OSError, ValueError: As `download`.
    """
    file = HubFile.of(address)
    return str(dataclasses.replace(file, revision=_commit_of(_fetched(file), file)))


def _fetched(file):
    check_hub()
    import huggingface_hub

    try:
        path = Path(
            huggingface_hub.hf_hub_download(
                file.repo, file.name, revision=file.revision, library_name="keras_fcn"
            )
        )
    except Exception as error:  # Those of its HTTP client have no base class in common with others.
        raise _in_one_sentence(file, error) from error
    if file.sha256 is not None:
        with path.open("rb") as stream:
            received = hashlib.file_digest(stream, "sha256").hexdigest()
        if received != file.sha256:
            raise OSError(
                f"{file} must have the SHA-256 checksum in its address. Received: {received}, of "
                f"{path}. Correct the address, or remove the file to download it again."
            )
    if file.revision is None:
        fixed = dataclasses.replace(file, revision=_commit_of(path, file))
        warnings.warn(
            f"{file} has no revision: it is the file of commit {fixed.revision}, and another one "
            f"after the next commit. Name the revision to repeat results: {fixed}.",
            stacklevel=3,
        )
    return path


def _commit_of(path, file):
    """The cache has a folder `snapshots/COMMIT` with the files of a commit."""
    return path.parents[file.name.count("/")].name


def _in_one_sentence(file: HubFile, error: Exception) -> Exception:
    """Returns the error of a download with its cause and the remedy."""
    from huggingface_hub import constants, errors

    cause: Any = error.__cause__
    response = getattr(error, "response", None) or getattr(cause, "response", None)
    status = getattr(response, "status_code", None)
    head = f"`weights` must be a file of the Hugging Face Hub. Received: {file}"
    if isinstance(error, errors.GatedRepoError) or status == _FORBIDDEN:
        return PermissionError(
            f"{file} must be a file that your token may read: {file.repo} is gated, or refuses the "
            f"token. Ask for access at {constants.ENDPOINT}/{file.repo}, and set HF_TOKEN."
        )
    if isinstance(error, errors.RepositoryNotFoundError) or status == _UNAUTHORIZED:
        return FileNotFoundError(
            f"{head}: there is no repository {file.repo}, or it is private and HF_TOKEN is not set."
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return FileNotFoundError(f"{head}: {file.repo} has no revision {file.revision}.")
    if isinstance(error, errors.LocalEntryNotFoundError):
        reason = "cannot be reached"
        if constants.HF_HUB_OFFLINE:
            reason = "HF_HUB_OFFLINE forbids"
        elif status is not None:
            reason = f"answered with status {status}"
        return OSError(
            f"{file} must be downloaded from {constants.ENDPOINT}, which {reason}, and is not in "
            f"the cache, {constants.HF_HUB_CACHE}. Connect to the network, or pass the path of a "
            "file."
        )
    if isinstance(error, errors.EntryNotFoundError):
        return FileNotFoundError(
            f"{head}: {file.repo} has no such file at revision {file.revision or 'main'}."
        )
    return OSError(f"{file} cannot be downloaded: {' '.join(str(error).split())}")
