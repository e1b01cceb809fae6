"""A server on a socket that hands requests on to a real service, unless its script says what else happens to them."""

from __future__ import annotations

import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import httpx

# What a script may say of a request: bytes to answer, or what is done with the connection.
Fault = bytes | Callable[[socket.socket, bytes], None]


def answer(status: int, body: bytes = b"", **headers: str) -> bytes:
    """As it goes over the line."""
    lines = [f"HTTP/1.1 {status} X", f"content-length: {len(body)}", "connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def refusal(status: int, code: str, **headers: str) -> bytes:
    """An error as the service writes it."""
    body = b'{"error": {"message": "So it is.", "type": "t", "param": null, "code": "%s"}}' % code.encode()
    return answer(status, body, x_request_id="r-1", **headers)


def hang_up(connection: socket.socket, whole: bytes) -> None:
    """After the request was read, and perhaps done: without a byte."""


def cut(connection: socket.socket, whole: bytes) -> None:
    """In the middle of the answer."""
    connection.sendall(whole[: len(whole) // 2])


def dribble(connection: socket.socket, whole: bytes) -> None:
    """The body a byte at a time, each soon enough after the one before."""
    head, end, body = whole.partition(b"\r\n\r\n")
    with suppress(OSError):
        connection.sendall(head + end)
        for at in range(len(body)):
            connection.sendall(body[at : at + 1])
            time.sleep(0.05)


def wait(connection: socket.socket, whole: bytes) -> None:
    """Until the other side has had enough."""
    with suppress(OSError):
        connection.recv(1)


@dataclass
class BadLine:
    """`script` is for the next requests other than for /info; `seen` are all: method, path, headers, and when."""

    url: str = ""
    script: deque[Fault | None] = field(default_factory=deque)
    seen: list[tuple[str, str, dict[str, str], float]] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)

    @property
    def calls(self) -> list[tuple[str, str]]:
        """Without those of /info."""
        return [(method, path) for method, path, _, _ in self.seen if path != "/info"]

    def times(self) -> list[float]:
        """When those came."""
        return [at for _, path, _, at in self.seen if path != "/info"]


@contextmanager
def bad_line(upstream: str, port: int = 0) -> Iterator[BadLine]:
    """Listening on that port, or on a free one."""
    line = BadLine()
    with socket.create_server(("127.0.0.1", port)) as listener, httpx.Client(base_url=upstream, timeout=300) as http:
        line.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        lock = threading.Lock()

        def accept() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    threading.Thread(target=serve, args=(connection,), daemon=True).start()

        def serve(connection: socket.socket) -> None:
            with connection, suppress(ValueError):  # of one that was closed before it sent anything
                method, path, headers, body = _read(connection)
                with lock:
                    line.seen.append((method, path, headers, time.monotonic()))
                    line.bodies.append(body)
                    fault = line.script.popleft() if path != "/info" and line.script else None
                reply(connection, fault, method, path, headers, body)

        def reply(
            connection: socket.socket, fault: Fault | None, method: str, path: str, headers: dict[str, str], body: bytes
        ) -> None:
            if isinstance(fault, bytes):
                connection.sendall(fault)
                return
            kept = {name: value for name, value in headers.items() if name in ("accept", "content-type")}
            response = http.request(method, path, content=body, headers=kept)
            names = ("content-type", "x-model-digest", "x-request-id")
            own = {name: response.headers[name] for name in names if name in response.headers}
            (fault or _send)(connection, answer(response.status_code, response.content, **own))

        threading.Thread(target=accept, daemon=True).start()
        try:
            yield line
        finally:
            listener.shutdown(socket.SHUT_RDWR)  # else it is open until `accept` returns


def _send(connection: socket.socket, whole: bytes) -> None:
    connection.sendall(whole)


def _read(connection: socket.socket) -> tuple[str, str, dict[str, str], bytes]:
    stream = connection.makefile("rb")
    method, path = stream.readline().decode().split()[:2]
    headers: dict[str, str] = {}
    while text := stream.readline().decode().strip():
        name, _, value = text.partition(":")
        headers[name.lower()] = value.strip()
    return method, path, headers, stream.read(int(headers.get("content-length", "0")))
