"""Files of the Hugging Face Hub, downloaded by its own client from a stand-in on the loopback."""

import hashlib
import os
import subprocess
import sys

import hub_server
import pytest

from keras_fcn.io import hub

pytestmark = pytest.mark.any_backend

CONTENT = b"weights"
SHA256 = hashlib.sha256(CONTENT).hexdigest()
COMMIT = "0123456789" * 4


@pytest.fixture
def server(tmp_path):
    """A Hub with `owner/repo`, whose branch `main` holds `net.npz` and `sub/net.npz`."""
    with hub_server.hub_of_this_process(tmp_path / "cache") as server:
        server.repository("owner/repo").commit({"net.npz": CONTENT, "sub/net.npz": b"other"})
        yield server


class TestAddresses:
    @pytest.mark.parametrize(
        ("address", "parts"),
        [
            ("hf://owner/repo/net.npz", ("owner/repo", "net.npz", None, None)),
            ("hf://owner/repo/a/b.h5@v1.0", ("owner/repo", "a/b.h5", "v1.0", None)),
            ("hf://owner/repo/net@2.pth@refs/pr/1", ("owner/repo", "net@2.pth", "refs/pr/1", None)),
            ("hf://owner/repo@v1/a/b.h5", ("owner/repo", "a/b.h5", "v1", None)),
            ("hf://models/owner/repo@refs/pr/7/b.h5", ("owner/repo", "b.h5", "refs/pr/7", None)),
            ("hf://owner/repo@a%2Fb/c.h5", ("owner/repo", "c.h5", "a/b", None)),
            (f"hf://o/r/n@v#sha256={SHA256.upper()}", ("o/r", "n", "v", SHA256)),
            (f"hf://o/r/n#SHA256={SHA256}", ("o/r", "n", None, SHA256)),
        ],
    )
    def test_parts(self, address, parts):
        file = hub.HubFile.of(address)
        assert (file.repo, file.name, file.revision, file.sha256) == parts
        assert hub.HubFile.of(str(file)) == file

    @pytest.mark.parametrize(
        "rest",
        [
            *("", "owner", "owner/repo", "owner/repo/", "owner/repo/a//b", "owner/repo/../b"),
            *("owner/repo/a@", "owner/repo@/a", "owner/repo@v1/a@v2", "owner/repo/a\\b"),
            *("datasets/owner/repo/a", "models/owner/a", "-o/r/a", "owner/repo/a#", "o/r/a#md5=0"),
            *(f"o/r/a#sha256={SHA256[1:]}", f"o/r/a#{SHA256}", f"o/r/a@v#sha256={SHA256}0"),
        ],
    )
    def test_others_are_refused(self, rest):
        with pytest.raises(
            ValueError, match=r"must be hf://OWNER/REPO/FILE@REVISION, .* Received: "
        ):
            hub.HubFile.of(f"hf://{rest}")

    def test_a_path_is_no_address(self, tmp_path):
        assert not hub.is_address(str(tmp_path / "hf:"))
        assert not hub.is_address(tmp_path)
        assert not hub.is_address(None)


class TestDownload:
    def test_a_branch_a_commit_and_the_checksum(self, server):
        repository = server.repository("owner/repo")
        first = repository.branches["main"]
        assert hub.download("hf://owner/repo/net.npz@main").read_bytes() == CONTENT
        assert hub.download(f"hf://owner/repo/sub/net.npz@{first}").read_bytes() == b"other"
        repository.commit({"net.npz": b"newer"})
        assert hub.download("hf://owner/repo/net.npz@main").read_bytes() == b"newer"
        assert hub.download(f"hf://owner/repo@{first}/net.npz").read_bytes() == CONTENT
        hub.download(f"hf://owner/repo/net.npz@{first}#sha256={SHA256}")
        with pytest.raises(OSError, match=f"must have the SHA-256 checksum.* Received: {SHA256}"):
            hub.download(f"hf://owner/repo/net.npz@{first}#sha256={'0' * 64}")

    def test_a_commit_in_the_cache_is_not_asked_for_again(self, server):
        address = f"hf://owner/repo/net.npz@{server.repository('owner/repo').branches['main']}"
        hub.download(address)
        asked = len(server.asked)
        hub.download(address)
        assert len(server.asked) == asked

    def test_without_a_revision_the_commit_is_in_the_warning_and_in_the_pinned_address(
        self, server
    ):
        commit = server.repository("owner/repo").branches["main"]
        pinned = f"hf://owner/repo/sub/net.npz@{commit}"
        with pytest.warns(UserWarning, match=f"repeat results: {pinned}\\."):
            hub.download("hf://owner/repo/sub/net.npz")
        assert hub.pinned("hf://owner/repo/sub/net.npz@main") == pinned
        with pytest.warns(UserWarning, match=commit):
            assert hub.pinned(f"hf://owner/repo/net.npz#sha256={SHA256}").endswith(
                f"@{commit}#sha256={SHA256}"
            )

    @pytest.mark.parametrize(
        ("address", "sentence"),
        [
            ("hf://owner/absent/net.npz@v1", "there is no repository owner/absent, or it is priv"),
            ("hf://owner/repo/net.npz@v9", "owner/repo has no revision v9."),
            ("hf://owner/repo/net.npz@0123abc", "no revision 0123abc; a commit has 40 digits"),
            ("hf://owner/repo/absent.npz@main", "owner/repo has no such file at revision main"),
        ],
    )
    def test_what_does_not_exist(self, server, address, sentence):
        with pytest.raises(FileNotFoundError, match=sentence) as caught:
            hub.download(address)
        assert f"Received: {address}" in str(caught.value)
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize(
        ("refuses", "error", "sentence"),
        [
            ((401, "GatedRepo"), PermissionError, "owner/repo is gated, or refuses the token"),
            ((403, "GatedRepo"), PermissionError, "Ask for access at http://127.*/owner/repo, and"),
            ((403, None), PermissionError, "is gated, or refuses the token"),
            ((401, None), FileNotFoundError, "or it is private and HF_TOKEN is not set"),
            ((418, None), OSError, "which answered with status 418, and is not in the cache"),
        ],
    )
    def test_refusals(self, server, refuses, error, sentence):
        server.repository("owner/repo").refuses = refuses
        with pytest.raises(error, match=sentence):
            hub.download("hf://owner/repo/net.npz@main")

    def test_a_cache_that_cannot_be_written(self, server, tmp_path, monkeypatch):
        (tmp_path / "file").write_bytes(b"")
        monkeypatch.setattr(hub_server.constants, "HF_HUB_CACHE", str(tmp_path / "file" / "hub"))
        with pytest.raises(OSError, match=r"in the cache, .*/file/hub, but: .* Set HF_HUB_CACHE"):
            hub.download("hf://owner/repo/net.npz@main")

    def test_a_token_of_other_letters(self, server, monkeypatch):
        monkeypatch.setenv("HF_TOKEN", "schlüssel")
        with pytest.raises(ValueError, match=r"HF_TOKEN must be a token .* ASCII") as caught:
            hub.download("hf://owner/repo/net.npz@main")
        assert "schl" not in str(caught.value)
        with pytest.raises(ValueError, match="HF_TOKEN must be a token"):
            hub.upload("owner/repo", {"a": b"a"}, "message")

    def test_without_the_package(self, monkeypatch):
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
        with pytest.raises(ImportError, match=r"huggingface_hub must be .*'keras-fcn\[hub\]'"):
            hub.download("hf://owner/repo/net.npz@main")


class TestEnvironment:
    """In other processes, as `huggingface_hub` reads its variables at import."""

    def download(self, address, **variables):
        script = "import sys; from keras_fcn.io import hub; print(hub.download(sys.argv[1]))"
        environment = os.environ | {"HF_HUB_DISABLE_PROGRESS_BARS": "1"} | variables
        return subprocess.run(
            [sys.executable, "-c", script, address],
            env=environment,
            capture_output=True,
            text=True,
        )

    def test_cache_and_offline(self, tmp_path):
        home = {"HF_HOME": str(tmp_path / "home")}
        with hub_server.serving() as server:
            commit = server.repository("owner/repo").commit({"net.npz": CONTENT})
            done = self.download("hf://owner/repo/net.npz@main", HF_ENDPOINT=server.address, **home)
        assert done.stdout.startswith(str(tmp_path / "home" / "hub")), done.stderr
        offline = {**home, "HF_HUB_OFFLINE": "1"}
        for revision in ("main", commit):
            again = self.download(f"hf://owner/repo/net.npz@{revision}", **offline)
            assert again.stdout == done.stdout
        failed = self.download("hf://owner/repo/other.npz@main", **offline)
        last = failed.stderr.strip().splitlines()[-1]
        assert "which HF_HUB_OFFLINE forbids, and is not in the cache" in last
        failed = self.download("hf://owner/repo/other.npz@main", **home, HF_ENDPOINT="hub.example")
        last = failed.stderr.strip().splitlines()[-1]
        assert (
            "HF_ENDPOINT must be a URL that begins with https://. Received: 'hub.example'" in last
        )
