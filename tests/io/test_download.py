"""Downloads from a server on the loopback."""

import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from file_server import serve

from keras_fcn.io.download import PublishedFile, download

pytestmark = pytest.mark.any_backend

CONTENT = np.random.default_rng(0).bytes(1 << 22)


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
