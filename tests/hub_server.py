"""A hub on loopback that speaks the part of the Hugging Face protocol that downloads need."""

from __future__ import annotations

import hashlib
import json
import re
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Repo:
    """A repository with one commit.

    Args:
        gated, private: refuse all but its `token`; a private one does as if it were not there.
        commit: what each of its `branches` means.
        cut: by file, the bytes after which the next answer with its content breaks off.
        resets: whether such a connection is reset, rather than closed.
    """

    files: dict[str, bytes]
    gated: bool = False
    private: bool = False
    token: str = "hf_secret"
    commit: str = COMMIT
    branches: tuple[str, ...] = ("main", COMMIT)
    cut: dict[str, int] = field(default_factory=dict)
    resets: bool = False


@dataclass
class HubServer:
    """Repositories by id, and what was asked for.

    Attributes:
        tokens: those of known users; another one is refused wherever it is sent.
        requests: as `METHOD path`, with the header `Range` behind them where there was one.
        broken: the status with which it answers all requests; 0: as it should.
    """

    endpoint: str = ""
    repos: dict[str, Repo] = field(default_factory=dict)
    tokens: set[str] = field(default_factory=lambda: {"hf_secret", "hf_other"})
    requests: list[str] = field(default_factory=list)
    broken: int = 0


@contextmanager
def serve() -> Iterator[HubServer]:
    """A hub on a free port, for as long as the context lasts."""
    hub = HubServer()
    handler = type("Handler", (_Handler,), {"hub": hub})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        hub.endpoint = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield hub
        finally:
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    hub: HubServer
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def log_message(self, format: str, *args: object) -> None:
        asked = " ".join(filter(None, [self.command, self.path, self.headers.get("Range")]))
        self.hub.requests.append(asked)

    def _answer(self) -> None:
        path = self.path.partition("?")[0].replace("%2F", "/")
        for pattern, answer in (
            (r"/api/models/(?P<id>.+)/revision/(?P<rev>[^/]+)", self._info),
            (r"/api/models/(?P<id>.+)/tree/(?P<rev>[^/]+)", self._tree),
            (r"/api/models/(?P<id>.+)(?P<rev>)", self._info),
            (r"/(?P<id>.+)/resolve/(?P<rev>[^/]+)/(?P<file>.+)", self._file),
        ):
            if match := re.fullmatch(pattern, path):
                parts = match.groupdict()
                repo = self._repo(parts.pop("id"), parts.pop("rev") or "main")
                if repo is not None:
                    answer(repo, **parts)
                return
        self._refuse(404, "EntryNotFound")

    def _repo(self, name: str, revision: str) -> Repo | None:
        """The repository, or None once a refusal was sent."""
        repo = self.hub.repos.get(name)
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if self.hub.broken:
            self._refuse(self.hub.broken, "")
        elif token and token not in self.hub.tokens:
            self._refuse(401, "", "Invalid credentials in Authorization header")
        elif repo is None or (repo.private and token != repo.token):
            self._refuse(404, "RepoNotFound")
        elif repo.gated and token != repo.token:
            self._refuse(403, "GatedRepo")
        elif revision not in repo.branches:
            self._refuse(404, "RevisionNotFound")
        else:
            return repo
        return None

    def _info(self, repo: Repo) -> None:
        siblings = [{"rfilename": name} for name in repo.files]
        self._json({"id": "x/y", "sha": repo.commit, "private": False, "siblings": siblings})

    def _tree(self, repo: Repo) -> None:
        self._json(
            [
                {"type": "file", "path": name, "size": len(data), "oid": _etag(data)}
                for name, data in repo.files.items()
            ]
        )

    def _file(self, repo: Repo, file: str) -> None:
        data = repo.files.get(file)
        if data is None:
            self._refuse(404, "EntryNotFound")
            return
        headers = {"ETag": f'"{_etag(data)}"', "X-Repo-Commit": repo.commit}
        status = 200
        if match := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            status, start = 206, int(match[1])
            end = min(int(match[2] or len(data) - 1), len(data) - 1)
            headers["Content-Range"] = f"bytes {start}-{end}/{len(data)}"
            data = data[start : end + 1]
        cut = repo.cut.pop(file, None) if self.command == "GET" else None
        self._send(status, data, headers, cut)
        if cut is not None and repo.resets:
            self.wfile.flush()
            linger = struct.pack("ii", 1, 0)  # on, for no time: what is unsent is dropped
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.connection.close()  # before anyone shuts it down in order

    def _json(self, value: object) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _refuse(self, status: int, code: str, message: str = "") -> None:
        self._send(status, b"", {"X-Error-Code": code, "X-Error-Message": message or code})

    def _send(
        self, status: int, body: bytes, headers: dict[str, str], cut: int | None = None
    ) -> None:
        """`cut`: break off after so many bytes of the body."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body[:cut])
        if cut is not None:
            self.close_connection = True


def _etag(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()
