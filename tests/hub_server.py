"""A stand-in for the Hugging Face Hub on the loopback: what `huggingface_hub` asks for, answered.

Repositories are dictionaries in memory. Downloads, new repositories and branches, uploads through
Git LFS and commits are those of the Hub's HTTP API. Imports nothing of ours.
"""

import base64
import contextlib
import dataclasses
import hashlib
import http.server
import json
import threading
import urllib.parse

import pytest
import yaml
from huggingface_hub import constants
from huggingface_hub.utils import disable_progress_bars, enable_progress_bars

TOKEN = "hf_token_of_the_tests"


@dataclasses.dataclass
class Repository:
    """A repository.

    Args:
        branches: Commit of each branch.
        commits: Content of the files of each commit by path.
        refuses: Status and error code that every download gets, such as (403, "GatedRepo").
        lfs: Paths that were uploaded through LFS.
        messages: Of each commit that a client made.
    """

    branches: dict = dataclasses.field(default_factory=dict)
    commits: dict = dataclasses.field(default_factory=dict)
    refuses: tuple | None = None
    private: bool = False
    lfs: set = dataclasses.field(default_factory=set)
    messages: list = dataclasses.field(default_factory=list)

    def commit(self, files, branch="main"):
        """Adds files to those of a branch, and returns the commit."""
        before = self.commits.get(self.branches.get(branch), {})
        content = {**before, **files}
        names = repr([(path, hashlib.sha1(content[path]).hexdigest()) for path in sorted(content)])
        sha = hashlib.sha1(f"{branch}{len(self.commits)}{names}".encode()).hexdigest()
        self.commits[sha], self.branches[branch] = content, sha
        return sha


class Hub:
    """The server's content and its record.

    Args:
        address: URL of the server.
    """

    def __init__(self):
        self.address = ""
        self.repositories = {}
        self.objects = {}
        self.asked = []
        self.fails = {}  # Status by a part of the path.

    def repository(self, name):
        return self.repositories.setdefault(name, Repository())


class _Handler(http.server.BaseHTTPRequestHandler):
    hub: Hub

    def log_message(self, *arguments):
        pass

    def _answer(self, status, body=b"", code=None, **headers):
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        if code is not None:
            self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _begin(self):
        """Reads the body; whether the request is not one that fails by order."""
        self.path = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)
        self.body = self._body()
        self.hub.asked.append(f"{self.command} {self.path}")
        for part, status in self.hub.fails.items():
            if part in self.path:
                self._answer(status, {"error": "refused"})
                return False
        authorized = self.headers.get("Authorization") == f"Bearer {TOKEN}"
        if self.command == "POST" and not authorized:
            self._answer(401, {"error": "Invalid username or password."})
        return authorized or self.command != "POST"

    def _body(self):
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        if not self._begin():
            return
        if self.path.startswith("/api/models/"):
            name, _, revision = self.path.removeprefix("/api/models/").partition("/revision/")
            repository = self.hub.repositories.get(name)
            if repository is None:
                self._answer(404, code="RepoNotFound")
                return
            sha = repository.branches.get(revision or "main")
            self._answer(200, {"id": name, "sha": sha, "private": repository.private})
            return
        name, found, place = self.path[1:].partition("/resolve/")
        repository = self.hub.repositories.get(name)
        if not found or repository is None:
            self._answer(404, code="RepoNotFound")
            return
        if repository.refuses:
            status, code = repository.refuses
            self._answer(status, code=code)
            return
        revisions = {**repository.branches, **{sha: sha for sha in repository.commits}}
        revision = next((name for name in revisions if place.startswith(f"{name}/")), None)
        if revision is None:
            self._answer(404, code="RevisionNotFound")
            return
        sha = revisions[revision]
        content = repository.commits[sha].get(place.removeprefix(f"{revision}/"))
        if content is None:
            self._answer(404, code="EntryNotFound", X_Repo_Commit=sha)
            return
        etag = f'"{hashlib.sha1(content).hexdigest()}"'
        self._answer(200, content, ETag=etag, X_Repo_Commit=sha)

    def do_PUT(self):
        if self._begin():
            oid = self.path.rpartition("/")[2]
            assert hashlib.sha256(self.body).hexdigest() == oid
            self.hub.objects[oid] = self.body
            self._answer(200)

    def do_POST(self):
        if not self._begin():
            return
        if self.path == "/api/repos/create":
            self._create(json.loads(self.body))
        elif self.path == "/api/validate-yaml":
            _, metadata, _ = json.loads(self.body)["content"].split("---\n", 2)
            yaml.safe_load(metadata)
            self._answer(200, {"errors": [], "warnings": []})
        elif self.path.endswith(".git/info/lfs/objects/batch"):
            self._answer(200, self._batch(json.loads(self.body)))
        else:
            name, action, revision = self._api()
            getattr(self, f"_{action}")(self.hub.repositories[name], revision, name)

    def _api(self):
        owner, name, action, revision = self.path.removeprefix("/api/models/").split("/", 3)
        return f"{owner}/{name}", action, revision

    def _create(self, request):
        name = f"{request['organization']}/{request['name']}"
        private = request.get("private") or request.get("visibility") == "private"
        status = 409 if name in self.hub.repositories else 200
        if status == 200:
            repository = self.hub.repositories[name] = Repository(private=bool(private))
            repository.commit({".gitattributes": b"*.keras filter=lfs\n"})
        self._answer(status, {"url": f"{self.hub.address}/{name}", "name": name})

    def _branch(self, repository, branch, name):
        status = 409 if branch in repository.branches else 200
        if status == 200:
            repository.branches[branch] = repository.branches["main"]
        self._answer(status, {})

    def _preupload(self, repository, revision, name):
        files = [
            {
                "path": file["path"],
                "uploadMode": "lfs" if file["path"].endswith(".keras") else "regular",
                "shouldIgnore": False,
            }
            for file in json.loads(self.body)["files"]
        ]
        self._answer(200, {"files": files})

    def _batch(self, request):
        objects = []
        for each in request["objects"]:
            upload = {"href": f"{self.hub.address}/objects/{each['oid']}"}
            objects.append({**each, "actions": {"upload": upload}})
        return {"transfer": "basic", "objects": objects}

    def _commit(self, repository, branch, name):
        files, header = {}, None
        for line in self.body.splitlines():
            part = json.loads(line)
            value = part["value"]
            if part["key"] == "header":
                header = value
            elif part["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            else:
                assert part["key"] == "lfsFile"
                files[value["path"]] = self.hub.objects[value["oid"]]
                repository.lfs.add(value["path"])
        sha = repository.commit(files, branch)
        repository.messages.append(header["summary"])
        self._answer(
            200, {"commitUrl": f"{self.hub.address}/{name}/commit/{sha}", "commitOid": sha}
        )


@contextlib.contextmanager
def serving():
    """Yields a `Hub` that answers at its `address`."""
    hub = Hub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    hub.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextlib.contextmanager
def hub_of_this_process(cache):
    """Yields a `Hub` that `huggingface_hub` asks in this process, with a cache of its own.

    `huggingface_hub` reads its environment at import, which may have been before.
    """
    with serving() as hub, pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_TOKEN", TOKEN)
        patch.setattr(constants, "ENDPOINT", hub.address)
        template = f"{hub.address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        patch.setattr(constants, "HF_HUB_CACHE", str(cache))
        # Its large files take the way of Git LFS instead of a protocol of the Hub alone.
        patch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        disable_progress_bars()
        yield hub
        enable_progress_bars()
