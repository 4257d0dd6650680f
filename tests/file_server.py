"""Serves the files of a folder on the loopback, whole or damaged."""

import contextlib
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


@contextlib.contextmanager
def serve(folder):
    def handler(*args):
        return Handler(*args, directory=str(folder))

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.requests = []
        server.daemon_threads = True
        server.address = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()
