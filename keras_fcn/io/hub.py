"""Files of the Hugging Face Hub, by address: `hf://OWNER/REPO/FILE@REVISION#sha256=HEX`."""

import dataclasses
import hashlib
import re
import urllib.parse
import warnings
from collections.abc import Mapping
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
_REPOSITORY = re.compile(r"\w[\w.-]*/\w[\w.-]*", re.ASCII)
_KINDS = ("buckets", "datasets", "kernels", "models", "spaces")
_SHORT_COMMIT = re.compile("[0-9a-f]{4,39}")
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
        ValueError: If it is no address of a file, or HF_ENDPOINT or HF_TOKEN cannot be one.
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


def repository_of(address: str) -> str:
    """Returns the repository of an address `hf://OWNER/REPO`.

    Raises:
        ValueError: If it is another address.

    Examples:
        >>> repository_of("hf://owner/repo")
        'owner/repo'
    """
    repo = address.removeprefix(PREFIX)
    if not address.startswith(PREFIX) or not _REPOSITORY.fullmatch(repo):
        raise ValueError(f"REPO must be {PREFIX}OWNER/REPO. Received: {address}.")
    return repo


def upload(
    repo: str,
    files: Mapping[str, Path | bytes],
    message: str,
    *,
    revision: str | None = None,
    private: bool = False,
) -> str:
    """Adds files to a model repository of the Hub in one commit, and returns the commit.

    A repository and a branch that do not exist are created first. If the upload fails, the
    repository has no new commit.

    Args:
        repo: `"owner/repo"`.
        files: Path or content of each file, by its name in the repository.
        message: Message of the commit.
        revision: Branch; `None` for `main`.
        private: Whether the repository is private. One that exists and is public is an error.

    Raises:
        ImportError: If `huggingface_hub` is not installed.
        OSError: If the Hub cannot be reached.
        PermissionError: If there is no token, or the Hub refuses it.
        ValueError: If the Hub does not accept the files, or HF_ENDPOINT or HF_TOKEN cannot be one.
    """
    check_hub()
    import huggingface_hub

    if huggingface_hub.get_token() is None:
        raise PermissionError(
            "HF_TOKEN must be a token that may write to the repository, from "
            f"{huggingface_hub.constants.ENDPOINT}/settings/tokens; `hf auth login` stores one."
        )
    if fault := _fault_of_variables():
        raise ValueError(fault)
    try:
        api = huggingface_hub.HfApi(library_name="keras_fcn")
        api.create_repo(repo, private=private or None, exist_ok=True)
        if private and not api.model_info(repo).private:
            raise ValueError(
                f"REPO must be private (--private), but {repo} exists and is public. Make it "
                "private on its page, or name another one."
            )
        if revision not in (None, "main"):
            api.create_branch(repo, branch=revision, exist_ok=True)
        additions = [
            huggingface_hub.CommitOperationAdd(name, content) for name, content in files.items()
        ]
        return api.create_commit(repo, additions, commit_message=message, revision=revision).oid
    except ValueError:
        raise
    except Exception as error:  # As in `_fetched`.
        raise _of_upload(repo, error) from error


def _of_upload(repo, error):
    """Returns the error of an upload with its cause and the remedy."""
    status = _status_of(error)
    if status in (_UNAUTHORIZED, _FORBIDDEN):
        return PermissionError(
            f"{repo} must be a repository that your token may write to. Received: status {status}. "
            "Set HF_TOKEN to a token with write access; nothing was uploaded."
        )
    while error.__cause__ is not None:
        error = error.__cause__
    reason = f"status {status}" if status else " ".join(str(error).split()).rstrip(".")
    return OSError(f"The upload to {repo} failed, and its commit was not made: {reason}.")


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


def _status_of(error: BaseException | None) -> int | None:
    """Returns the HTTP status that an error, or one of its causes, is about; `None` without one."""
    while error is not None:
        response: Any = getattr(error, "response", None)
        if response is not None:
            return response.status_code
        error = error.__cause__
    return None


def _in_one_sentence(file: HubFile, error: Exception) -> Exception:
    """Returns the error of a download with its cause and the remedy."""
    from huggingface_hub import constants, errors

    status = _status_of(error)
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
        whole = "; a commit has 40 digits" if _SHORT_COMMIT.fullmatch(file.revision or "") else ""
        return FileNotFoundError(f"{head}: {file.repo} has no revision {file.revision}{whole}.")
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
    if fault := _fault_of_variables():
        return ValueError(fault)
    if isinstance(error, OSError) and error.filename is not None:
        return OSError(
            f"{file} must be stored in the cache, {constants.HF_HUB_CACHE}, but: {error}. Set "
            "HF_HUB_CACHE to a folder that can be written, or pass the path of a file."
        )
    return OSError(f"{file} cannot be downloaded: {' '.join(str(error).split())}")


def _fault_of_variables():
    """Returns what is wrong with the variables that every request needs, `None` if nothing is."""
    import huggingface_hub

    endpoint = huggingface_hub.constants.ENDPOINT
    if not endpoint.startswith(("http://", "https://")):
        return f"HF_ENDPOINT must be a URL that begins with https://. Received: {endpoint!r}."
    if not (huggingface_hub.get_token() or "").isascii():
        return (
            "HF_TOKEN must be a token of the Hub. Received: a text with letters that are not ASCII."
        )
    return None
