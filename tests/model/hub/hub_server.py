"""A server that plays the hub over a socket, and the host that the hub redirects large files to; both can misbehave."""

from __future__ import annotations

import hashlib
import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

COMMIT = "c0ffee" * 6 + "beef"
LARGE = 10_000  # bytes from which a file is not in git, but with the other host


@dataclass
class Request:
    """What was asked, and how many bytes of the body were sent in answer."""

    path: str
    headers: dict[str, str]
    status: int = 0
    sent: int = 0


@dataclass
class Hub:
    """What the servers hold, and how they fail. The address of the hub is `url`, of the other host `cdn_url`."""

    repos: dict[str, dict[str, bytes]] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)  # by path, as on a plain web server
    requests: list[Request] = field(default_factory=list)
    token: str | None = None  # without it, repositories are closed
    cut_after: list[int] = field(default_factory=list)  # bytes after which the next bodies break off
    statuses: list[int] = field(default_factory=list)  # of the next answers
    served_instead: dict[str, bytes] = field(default_factory=dict)  # by name of the file
    ranges: bool = True
    announces: int = 0  # more bytes than there are
    pause_s: float = 0.0  # between pieces of model.safetensors
    listing: dict[str, Any] = field(default_factory=dict)  # over what is true
    url: str = ""
    cdn_url: str = ""

    def add(self, repo: str, folder: Path) -> None:
        files = [file for file in folder.rglob("*") if file.is_file()]
        self.repos[repo] = {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}

    def sent(self, part: str) -> int:
        """Bytes of bodies whose path contains that."""
        return sum(request.sent for request in self.requests if part in request.path)

    def asked(self, part: str) -> list[Request]:
        return [request for request in self.requests if part in request.path]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: HubServer

    def do_GET(self) -> None:
        hub = self.server.hub
        path = unquote(urlsplit(self.path).path)
        self.request_seen = Request(self.path, {name.lower(): value for name, value in self.headers.items()})
        hub.requests.append(self.request_seen)
        if hub.statuses:
            return self.answer(hub.statuses.pop(0), b"not now")
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/revision/(.+)", path):
            return self.list_files(match[1], match[2])
        if match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            return self.resolve(match[1], match[2], match[3])
        if path in hub.files:
            return self.send_file(path.rpartition("/")[2], hub.files[path])
        return self.answer(404, b"nothing")

    def list_files(self, repo: str, revision: str) -> None:
        hub = self.server.hub
        if not self.may_read() or repo not in hub.repos:
            return self.answer(401, b"Repository not found")
        if revision not in ("main", COMMIT):
            return self.answer(404, b"Revision not found")
        siblings = [describe(name, content) for name, content in hub.repos[repo].items()]
        listing = {"id": repo, "sha": COMMIT, "siblings": siblings, "cardData": {"license": "mit"}, **hub.listing}
        return self.answer(200, json.dumps(listing).encode())

    def resolve(self, repo: str, revision: str, name: str) -> None:
        hub = self.server.hub
        content = hub.repos.get(repo, {}).get(name)
        if not self.may_read():
            return self.answer(403, b"Access to this model is restricted")
        if content is None or revision != COMMIT:
            return self.answer(404, b"Entry not found")
        if len(content) < LARGE:
            return self.send_file(name, content)
        hub.files[f"/cdn/{name}"] = content
        self.send_response(302)
        self.send_header("Location", f"{hub.cdn_url}/cdn/{name}?signature=secret-of-the-url")
        self.send_header("Content-Length", "0")
        self.end_headers()
        return None

    def may_read(self) -> bool:
        token = self.server.hub.token
        return token is None or self.headers.get("Authorization") == f"Bearer {token}"

    def send_file(self, name: str, content: bytes) -> None:
        hub = self.server.hub
        content = hub.served_instead.get(name, content)
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", "")) if hub.ranges else None
        begins = int(asked[1]) if asked else 0
        if asked and begins >= len(content):
            return self.answer(416, b"", {"Content-Range": f"bytes */{len(content)}"})
        headers = {"ETag": f'"{hashlib.sha256(content).hexdigest()}"', "Accept-Ranges": "bytes"}
        if asked:
            headers["Content-Range"] = f"bytes {begins}-{len(content) - 1}/{len(content)}"
        return self.answer(206 if asked else 200, content[begins:], headers)

    def answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        hub = self.server.hub
        is_file = headers is not None and status != 416
        self.request_seen.status = status
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) + (hub.announces if is_file else 0)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        ends = hub.cut_after.pop(0) if hub.cut_after and is_file and len(body) >= LARGE // 2 else None
        for begin in range(0, len(body[:ends]), 4096):
            piece = body[begin : begin + 4096 if ends is None else min(begin + 4096, ends)]
            self.request_seen.sent += len(piece)  # before: who has it all may look at once
            try:
                self.wfile.write(piece)
            except OSError:
                self.request_seen.sent -= len(piece)
                break
            time.sleep(hub.pause_s if is_file and "model.safetensors" in self.path else 0)
        if ends is not None or (is_file and hub.announces):
            self.close_connection = True
            with suppress(OSError):
                self.connection.shutdown(socket.SHUT_WR)

    def log_message(self, *_: object) -> None:
        pass


class HubServer(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        super().__init__(("127.0.0.1", 0), Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that vanish are what some tests are about."""


def describe(name: str, content: bytes) -> dict[str, Any]:
    """A file in the hub's list."""
    blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    entry: dict[str, Any] = {"rfilename": name, "size": len(content), "blobId": blob}
    if len(content) >= LARGE:
        entry["lfs"] = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 134}
    return entry


@contextmanager
def playing_hub() -> Iterator[Hub]:
    hub = Hub()
    with HubServer(hub) as front, HubServer(hub) as cdn:
        for server in (front, cdn):
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        # Another name of this machine: for a client, another host.
        hub.url, hub.cdn_url = f"http://127.0.0.1:{front.server_port}", f"http://localhost:{cdn.server_port}"
        try:
            yield hub
        finally:
            front.shutdown()
            cdn.shutdown()
