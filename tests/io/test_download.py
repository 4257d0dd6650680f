"""Downloads from a server on the loopback."""

import contextlib
import hashlib
import io
import shutil
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import uvicorn
from file_server import serve
from starlette.staticfiles import StaticFiles

from keras_fcn.io.atomic import atomic_write
from keras_fcn.io.download import PublishedFile, download

pytestmark = pytest.mark.any_backend

CONTENT = np.random.default_rng(0).bytes(1 << 22)
HALF = len(CONTENT) // 2


@pytest.fixture
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("served")
    (folder / "net.npz").write_bytes(CONTENT)
    with serve(folder) as server:
        yield server


def test_google_drive_is_read_by_gdown(server, tmp_path, monkeypatch):
    monkeypatch.setattr("keras_fcn.io.download._GOOGLE_DRIVE", "127.0.0.1")
    path = download(PublishedFile("net.npz", f"{server.address}/whole/net.npz"), tmp_path)
    assert path.read_bytes() == CONTENT


def test_without_gdown_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "gdown", None)
    file = PublishedFile("net.npz", "https://drive.google.com/uc?id=1")
    with pytest.raises(ImportError, match=r"pip install 'keras-fcn\[download\]'"):
        download(file, tmp_path)


@contextlib.contextmanager
def interrupted_after(size, monkeypatch):
    """Ctrl-C when so many bytes of an answer are written."""
    copy = shutil.copyfileobj

    def copy_some(source, target, length):
        copy(io.BytesIO(source.read(size)), target, length)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copyfileobj", copy_some)
        yield


class TestInterruptedDownload:
    """What was received is kept, and the rest is asked for."""

    @pytest.fixture
    def cut(self, server):
        """The server after a download that ended in the middle."""
        server.sent_at_once = HALF
        return server

    def download(self, server, folder, kind="resumable", **published):
        file = PublishedFile("net.npz", f"{server.address}/{kind}/net.npz", **published)
        with atomic_write(folder / file.name) as temporary:
            download(file, temporary.parent)
        return (folder / file.name).read_bytes()

    def interrupt(self, server, folder, kind="resumable", match="announced .* but sent"):
        with pytest.raises(OSError, match=match):
            self.download(server, folder, kind)
        server.sent_at_once = None

    def test_the_rest_alone_is_sent(self, cut, tmp_path):
        self.interrupt(cut, tmp_path)
        assert [path.stat().st_size for path in tmp_path.iterdir()] == [HALF]
        assert self.download(cut, tmp_path) == CONTENT
        assert cut.ranges == [None, f"bytes={HALF}-"]
        assert [path.name for path in tmp_path.iterdir()] == ["net.npz"]

    def test_it_may_be_interrupted_several_times_and_by_the_user(self, cut, tmp_path, monkeypatch):
        self.interrupt(cut, tmp_path)
        with interrupted_after(1000, monkeypatch), pytest.raises(KeyboardInterrupt):
            self.download(cut, tmp_path)
        assert self.download(cut, tmp_path) == CONTENT
        assert cut.ranges == [None, f"bytes={HALF}-", f"bytes={HALF + 1000}-"]

    def test_starlettes_file_server_sends_the_rest(self, server, tmp_path, monkeypatch):
        answers = []

        async def app(scope, receive, send):
            async def recorded(message):
                if message["type"] == "http.response.start":
                    answers.append(message["status"])
                await send(message)

            await StaticFiles(directory=server.folder)(scope, receive, recorded)

        theirs = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", lifespan="off"))
        thread = threading.Thread(target=theirs.run, daemon=True)
        thread.start()
        while not theirs.started:
            time.sleep(0.01)
        port = theirs.servers[0].sockets[0].getsockname()[1]
        file = PublishedFile("net.npz", f"http://127.0.0.1:{port}/net.npz")
        with (
            interrupted_after(HALF, monkeypatch),
            pytest.raises(KeyboardInterrupt),
            atomic_write(tmp_path / "net.npz") as temporary,
        ):
            download(file, temporary.parent)
        with atomic_write(tmp_path / "net.npz") as temporary:
            download(file, temporary.parent)
        theirs.should_exit = True
        thread.join()
        assert (tmp_path / "net.npz").read_bytes() == CONTENT
        assert answers == [200, 206]

    def test_a_file_that_has_changed_is_downloaded_whole(self, cut, tmp_path):
        self.interrupt(cut, tmp_path)
        (cut.folder / "net.npz").write_bytes(CONTENT[::-1])
        assert self.download(cut, tmp_path) == CONTENT[::-1]

    def test_another_address_has_other_bytes(self, cut, tmp_path):
        self.interrupt(cut, tmp_path)
        assert self.download(cut, tmp_path, "resumable/.") == CONTENT
        assert cut.ranges == [None, None]

    def test_without_an_etag_nothing_is_kept(self, server, tmp_path):
        self.interrupt(server, tmp_path, "cut")
        assert [*tmp_path.iterdir()] == []

    def test_nothing_is_left_to_send(self, cut, tmp_path):
        self.interrupt(cut, tmp_path)
        (part,) = tmp_path.iterdir()
        part.write_bytes(CONTENT)
        assert self.download(cut, tmp_path) == CONTENT
        assert cut.ranges == [None, f"bytes={len(CONTENT)}-", None]

    def test_what_was_kept_is_checked_too(self, cut, tmp_path):
        self.interrupt(cut, tmp_path)
        (part,) = tmp_path.iterdir()
        part.write_bytes(bytes(HALF))
        expected = hashlib.md5(CONTENT).hexdigest()
        with pytest.raises(OSError, match=f"must have the MD5 checksum {expected}"):
            self.download(cut, tmp_path, md5=expected)
        assert self.download(cut, tmp_path, md5=expected) == CONTENT
        assert cut.ranges == [None, f"bytes={HALF}-", None]


@pytest.mark.gate
def test_a_killed_download_leaves_nothing_that_is_taken_for_whole(server, tmp_path):
    script = (
        "import sys; from pathlib import Path\n"
        "from keras_fcn.io.atomic import atomic_write\n"
        "from keras_fcn.io.download import *\n"
        "file = PublishedFile('net.npz', sys.argv[1])\n"
        "with atomic_write(Path(sys.argv[2], file.name)) as temporary:\n"
        "    download(file, temporary.parent)\n"
    )
    command = [sys.executable, "-c", script]
    killed = subprocess.Popen([*command, f"{server.address}/slow/net.npz", tmp_path])
    while not any(path.stat().st_size for path in tmp_path.glob(".unfinished-*/*")):
        assert killed.poll() is None
        time.sleep(0.05)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert [path.name[:12] for path in tmp_path.iterdir()] == [".unfinished-"]
    subprocess.run([*command, f"{server.address}/whole/net.npz", tmp_path], check=True)
    assert (tmp_path / "net.npz").read_bytes() == CONTENT
