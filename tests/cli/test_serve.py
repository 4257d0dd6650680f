"""`keras-fcn serve` as a process: what it prints, serves and leaves behind."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading

import httpx2
import pytest
from cli.command_line import error_of, predict
from PIL import Image
from serve.process import serving
from serve.serving import PHOTO, PNG_TYPE, encoded

from keras_fcn.cli import main


@pytest.mark.any_backend
class TestErrors:
    def test_a_port_that_is_taken(self, capsys):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = str(taken.getsockname()[1])
            assert main(["serve", "camvid", "--port", port]) == 1
        assert f"--port) must be an address that is free. Received: 127.0.0.1, {port}" in error_of(
            capsys
        )

    @pytest.mark.parametrize(
        ("options", "sentence"),
        [
            (["--port", "70000"], "`port` (--port) must be from 0 to 65535. Received: port=70000."),
            (["--host", "no.such.host.invalid"], "--port) must be an address that is free"),
            (
                ["--queue", "0"],
                "`queue` (--queue) must be a finite number greater than 0. Received: queue=0.",
            ),
            (["--max-side", "0", "--port", "0"], "`max_side` (--max-side) must be at least 1"),
        ],
    )
    def test_wrong_options(self, options, sentence, capsys):
        assert main(["serve", "camvid", *options]) == 1
        assert sentence in error_of(capsys)

    def test_a_missing_extra(self, monkeypatch, capsys):
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
        assert main(["serve", "camvid"]) == 1
        assert "pip install 'keras-fcn[serve]'" in error_of(capsys)


@pytest.mark.gate
@pytest.mark.any_backend
class TestProcess:
    @staticmethod
    def files(folder):
        return {(path, path.stat().st_mtime) for path in folder.rglob("*") if path.is_file()}

    def test_answers_clients_at_once_writes_nothing_and_stops(self, caffemodel, tmp_path):
        with serving(tmp_path, caffemodel.path, "--queue", "20") as (process, url):
            before = self.files(tmp_path)
            assert re.fullmatch(r"http://127\.0\.0\.1:\d+/", url)
            headers = {**PNG_TYPE, "Accept": "image/png"}
            answers = []

            def post():
                with httpx2.Client(base_url=url, timeout=60) as client:
                    answers.append(client.post("predict", content=encoded(), headers=headers))

            threads = [threading.Thread(target=post) for _ in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert httpx2.get(url, timeout=60).text.startswith("<!doctype html>")
            assert httpx2.get(f"{url}model", timeout=60).json()["name"] == "net.caffemodel"
            process.send_signal(signal.SIGTERM)
            printed, complaints = process.communicate(timeout=30)
        assert process.returncode == 0
        assert printed == ""
        assert complaints == "Ctrl-C stops the server.\n"
        assert {answer.status_code for answer in answers} == {200}
        assert len({answer.content for answer in answers}) == 1
        assert self.files(tmp_path) == before
        written = predict(caffemodel.path, PHOTO, tmp_path)
        (tmp_path / "served.png").write_bytes(answers[0].content)
        assert (written == Image.open(tmp_path / "served.png")).all()

    def test_large_bodies_get_their_refusal_and_ctrl_c_stops_it(self, caffemodel, tmp_path):
        limits = ("--max-megabytes", "5", "--allowed-host", "photos.example", "--colour-blind")
        with serving(tmp_path, caffemodel.path, *limits) as (process, url):
            with httpx2.Client(base_url=url, timeout=60) as client:
                # Read before it is refused: else the connection is reset under the answer.
                text = client.post(
                    "predict", content=bytes(4_900_000), headers={"Content-Type": "text/plain"}
                )
                # A body in chunks, and one that declares its length.
                huge = [
                    client.post("predict", content=content, headers=PNG_TYPE).status_code
                    for content in (iter([bytes(1_000_000)] * 60), bytes(60_000_000))
                ]
                named = client.get("health", headers={"Host": "photos.example"})
                other = client.get("health", headers={"Host": "evil.example"})
                colours = [found["colour"] for found in client.get("model").json()["classes"]]
            assert huge == [413, 413]
            assert (text.status_code, named.status_code, other.status_code) == (415, 200, 421)
            assert colours[1:3] == ["#e69f00", "#56b4e9"]  # Okabe and Ito's orange and sky blue.
            process.send_signal(signal.SIGINT)
            _, complaints = process.communicate(timeout=30)
        assert process.returncode == 130
        assert complaints == "Ctrl-C stops the server.\nkeras-fcn: interrupted\n"


def test_a_second_interrupt_ends_requests_without_their_tracebacks():
    program = """
import contextlib
from starlette.applications import Starlette
from starlette.routing import Route
from keras_fcn.serve import server

async def read(request):
    print("reading", flush=True)
    await request.body()

listening = server.listen("127.0.0.1", 0)
print(listening.getsockname()[1], flush=True)
with contextlib.suppress(KeyboardInterrupt):
    server.run(Starlette(routes=[Route("/", read, methods=["POST"])]), listening, patience=60)
"""
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", program],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell lets what it starts in the background ignore it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    port = int(process.stdout.readline())
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nabc")
        assert process.stdout.readline() == "reading\n"
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(ConnectionRefusedError):  # The first one closes the port.
            while True:
                socket.create_connection(("127.0.0.1", port)).close()
        process.send_signal(signal.SIGINT)
        _, complaints = process.communicate(timeout=30)
    assert "Traceback" not in complaints
