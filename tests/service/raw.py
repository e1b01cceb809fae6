"""HTTP by hand: what no client library would send."""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx

from benchmarks.service_process import PATIENCE_S, Running


@contextmanager
def connected(service: Running) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", httpx.URL(service.url).port or 0), timeout=PATIENCE_S) as connection:
        yield connection


def until_closed(connection: socket.socket) -> bytes:
    """All that comes until the service ends the connection; fails where it never does."""
    received = b""
    try:
        while part := connection.recv(2**20):
            received += part
    except ConnectionResetError:
        pass
    return received


def answer(connection: socket.socket) -> bytes:
    """One answer, with the whole of its body."""
    received = b""
    while b"\r\n\r\n" not in received:
        received += connection.recv(4096)
    length = re.search(rb"\r\ncontent-length: (\d+)", received)
    expected = received.index(b"\r\n\r\n") + 4 + int(length[1] if length else 0)
    while len(received) < expected:
        received += connection.recv(4096)
    return received


def exchange(service: Running, *parts: bytes, pause_s: float = 0.0) -> bytes:
    """Send the parts, and give what comes until the service ends the connection."""
    with connected(service) as connection:
        for part in parts:
            connection.sendall(part)
            time.sleep(pause_s)
        return until_closed(connection)


def statuses(received: bytes) -> list[int]:
    """Of the answers in it, in their order."""
    return [int(number) for number in re.findall(rb"HTTP/1\.1 (\d\d\d) ", received)]


def request(path: str, *headers: str, method: str = "GET", body: bytes = b"") -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", "host: service", *headers, "", ""]).encode() + body


LAST = "connection: close"


def post(body: bytes, *headers: str, path: str = "/embed") -> bytes:
    length = f"content-length: {len(body)}"
    return request(path, "content-type: application/json", length, *headers, method="POST", body=body)


def refused(received: bytes, status: int, code: str) -> None:
    """One answer, in the shape that all errors have."""
    assert statuses(received) == [status], received
    head, _, body = received.partition(b"\r\n\r\n")
    assert b"\r\nx-request-id: " in head
    assert b"\r\nconnection: close" in head
    error = json.loads(body)["error"]
    assert error["code"] == code
    assert set(error) == {"message", "type", "param", "code"}


def refused_param(received: bytes, status: int, param: str) -> None:
    """One refusal, of that header or field."""
    assert statuses(received) == [status], received[:500]
    assert json.loads(received.partition(b"\r\n\r\n")[2])["error"]["param"] == param


def eventually(condition: Callable[[], bool]) -> None:
    """Wait for it; fails where it does not come."""
    ends = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.05)
