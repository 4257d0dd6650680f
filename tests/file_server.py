"""Serves the files of a folder on the loopback, whole or damaged."""

import contextlib
import hashlib
import http.server
import threading
import time
from pathlib import Path


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves files; a name may ask for a damaged answer or for one that never ends."""

    def log_message(self, *args):
        pass

    def do_GET(self):
        self.server.requests.append(self.path)
        kind, _, name = self.path.lstrip("/").partition("/")
        if kind == "garbage":
            self.wfile.write(b"this is no answer of a web server\r\n")
            return
        content = (Path(self.directory) / name).read_bytes()
        if kind == "resumable":
            self.send_range(content)
            return
        self.send_response(200)
        if kind != "unannounced":
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if kind == "slow":
            self.wfile.write(content[: len(content) // 2])
            self.wfile.flush()
            time.sleep(60)
        else:
            self.wfile.write(content[: len(content) // 2] if kind == "cut" else content)

    def send_range(self, content):
        """Answers by RFC 9110; ends after `server.sent_at_once` bytes, if that is set."""
        etag, asked = f'"{hashlib.md5(content).hexdigest()}"', self.headers.get("Range")
        self.server.ranges.append(asked)
        start = 0
        if asked is not None and self.headers.get("If-Range", etag) == etag:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
        if start >= len(content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(content)}")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        if start:
            end = f"{len(content) - 1}/{len(content)}"
            self.send_header("Content-Range", f"bytes {start}-{end}")
        self.send_header("ETag", etag)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        self.wfile.write(content[start:][: self.server.sent_at_once])


@contextlib.contextmanager
def serve(folder):
    def handler(*args):
        return Handler(*args, directory=str(folder))

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.folder = Path(folder)
        server.requests, server.ranges, server.sent_at_once = [], [], None
        server.daemon_threads = True
        server.address = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()
