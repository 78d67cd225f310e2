"""A small Hub on the loopback: what huggingface_hub asks for repositories, commits, LFS files and downloads."""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

TOKEN = "hf_thisTokenMayWriteHere0123456789"


@dataclass
class Repository:
    """Commits by their hash, branches by their name."""

    private: bool = False
    gated: bool = False
    commits: dict[str, dict[str, bytes]] = field(default_factory=lambda: {"0" * 40: {}})
    branches: dict[str, str] = field(default_factory=lambda: {"main": "0" * 40})

    def commit(self, files: dict[str, bytes], branch: str = "main") -> str:
        """Add files to a branch."""
        whole = {**self.commits[self.branches[branch]], **files}
        described = repr(sorted((name, hashlib.sha1(data).hexdigest()) for name, data in whole.items()))
        sha = hashlib.sha1(f"{len(self.commits)}{described}".encode()).hexdigest()
        self.commits[sha] = whole
        self.branches[branch] = sha
        return sha

    def files(self, revision: str) -> tuple[str, dict[str, bytes]] | None:
        """The commit that a revision means, and its files."""
        sha = self.branches.get(revision, revision)
        return (sha, self.commits[sha]) if sha in self.commits else None


@dataclass
class Hub:
    """The state of the server, with the faults that a test plants."""

    endpoint: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    large: dict[str, bytes] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    cut: str = ""
    """A file that breaks off in the middle."""
    vanished: str = ""
    """A file that is listed and not there."""
    spoilt: str = ""
    """A file of which one byte is wrong."""
    refuses: int = 0
    """The status of every answer."""


def is_large(name: str) -> bool:
    return name.endswith((".safetensors", ".bin"))


def git_hash(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """Answers."""

    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *arguments: Any) -> None:
        """Silent."""

    def answer(self, status: int, body: Any = None, **headers: str) -> None:
        """Send JSON, or bytes."""
        data = body if isinstance(body, bytes) else json.dumps(body if body is not None else {}).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def trouble(self, status: int, code: str, message: str = "") -> None:
        self.answer(status, {"error": message}, X_Error_Code=code, X_Error_Message=message)

    def route(self) -> None:
        """Find the answer to a request."""
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append(f"{self.command} {path}")
        self.allowed = self.headers.get("Authorization") == f"Bearer {TOKEN}"
        if self.hub.refuses:
            return self.trouble(self.hub.refuses, "", "Invalid credentials in Authorization header")
        if self.command != "PUT" and self.command != "GET" and self.command != "HEAD" and not self.allowed:
            return self.trouble(401, "", "Invalid credentials in Authorization header")
        for pattern, method in (
            (r"/api/repos/create", self.create),
            (r"/api/validate-yaml", self.answer_nothing),
            (r"/api/models/([\w-]+/[\w.-]+)/branch/(.+)", self.branch),
            (r"/api/models/([\w-]+/[\w.-]+)/preupload/(.+)", self.preupload),
            (r"/api/models/([\w-]+/[\w.-]+)/commit/(.+)", self.commit),
            (r"/api/models/([\w-]+/[\w.-]+)/revision/(.+)", self.info),
            (r"/api/models/([\w-]+/[\w.-]+)", self.info),
            (r"/([\w-]+/[\w.-]+)\.git/info/lfs/objects/batch", self.batch),
            (r"/lfs/(\w+)", self.store),
            (r"/([\w-]+/[\w.-]+)/resolve/([^/]+)/(.+)", self.resolve),
        ):
            if found := re.fullmatch(pattern, path):
                return method(*found.groups())
        return self.trouble(404, "NotFound", path)

    do_GET = do_HEAD = do_POST = do_PUT = route

    def answer_nothing(self) -> None:
        self.answer(200)

    def create(self) -> None:
        asked = json.loads(self.body)
        repo = f"{asked['organization']}/{asked['name']}"
        url = {"url": f"{self.hub.endpoint}/{repo}"}
        if repo in self.hub.repositories:
            return self.answer(409, url)
        self.hub.repositories[repo] = Repository(private=asked.get("visibility") == "private")
        return self.answer(200, url)

    def repository(self, repo: str) -> Repository | None:
        """A repository that this caller may see, else the answer is sent."""
        found = self.hub.repositories.get(repo)
        if found is None or (found.private and not self.allowed):
            self.trouble(401 if not self.allowed else 404, "RepoNotFound", "Repository not found")
            return None
        return found

    def info(self, repo: str, revision: str = "main") -> None:
        if (repository := self.repository(repo)) is None:
            return None
        if (found := repository.files(revision)) is None:
            return self.trouble(404, "RevisionNotFound", "Invalid rev id")
        siblings: list[dict[str, Any]] = []
        for name, data in found[1].items():
            siblings.append({"rfilename": name, "size": len(data), "blobId": git_hash(data)})
            if is_large(name):
                sha = hashlib.sha256(data).hexdigest()
                siblings[-1]["lfs"] = {"sha256": sha, "size": len(data), "pointerSize": 130}
        return self.answer(
            200, {"id": repo, "sha": found[0], "private": repository.private, "siblings": siblings, "tags": []}
        )

    def branch(self, repo: str, name: str) -> None:
        if (repository := self.repository(repo)) is not None:
            exists = name in repository.branches
            repository.branches.setdefault(name, repository.branches["main"])
            self.answer(409 if exists else 200)

    def preupload(self, repo: str, revision: str) -> None:
        if (repository := self.repository(repo)) is None:
            return None
        if repository.files(revision) is None:
            return self.trouble(404, "RevisionNotFound", "Invalid rev id")
        names = [file["path"] for file in json.loads(self.body)["files"]]
        modes = [
            {"path": name, "uploadMode": "lfs" if is_large(name) else "regular", "shouldIgnore": False}
            for name in names
        ]
        return self.answer(200, {"files": modes})

    def batch(self, repo: str) -> None:
        wanted = json.loads(self.body)["objects"]
        uploads = [
            {**item, "actions": {"upload": {"href": f"{self.hub.endpoint}/lfs/{item['oid']}"}}} for item in wanted
        ]
        self.answer(200, {"transfer": "basic", "objects": uploads})

    def store(self, oid: str) -> None:
        if hashlib.sha256(self.body).hexdigest() != oid:
            return self.trouble(400, "", "wrong hash")
        self.hub.large[oid] = self.body
        return self.answer(200)

    def commit(self, repo: str, branch: str) -> None:
        if (repository := self.repository(repo)) is None:
            return
        files = {}
        for line in self.body.splitlines():
            item = json.loads(line)
            value = item["value"]
            if item["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif item["key"] == "lfsFile":
                files[value["path"]] = self.hub.large[value["oid"]]
        sha = repository.commit(files, branch)
        self.answer(200, {"commitUrl": f"{self.hub.endpoint}/{repo}/commit/{sha}", "commitOid": sha})

    def resolve(self, repo: str, revision: str, name: str) -> None:
        if (repository := self.repository(repo)) is None:
            return None
        found = repository.files(revision)
        if repository.gated:
            return self.trouble(403, "GatedRepo", "Access is restricted")
        if found is None or name not in found[1] or name == self.hub.vanished:
            return self.trouble(404, "EntryNotFound", "Entry not found")
        data = found[1][name]
        etag = hashlib.sha256(data).hexdigest() if is_large(name) else git_hash(data)
        if name == self.hub.spoilt:
            data = bytes([data[0] ^ 1]) + data[1:]
        if name == self.hub.cut and self.command == "GET":
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data[: len(data) // 2])
            self.close_connection = True
            return None
        return self.answer(200, data, ETag=f'"{etag}"', X_Repo_Commit=found[0])


@contextmanager
def serving() -> Iterator[Hub]:
    """Run a Hub for a while."""
    hub = Hub()
    handler = type("BoundHandler", (Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    hub.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
