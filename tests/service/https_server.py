"""A host of pictures over https on loopback, which can also misbehave, and knows who connected."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import trustme

Answer = Callable[["Handler"], None]
PATIENCE_S = 30.0


class Handler(BaseHTTPRequestHandler):
    """Answers with what the server has for the path, the query left out."""

    protocol_version = "HTTP/1.1"
    server: HttpsServer

    def do_GET(self) -> None:
        self.server.requests.append((self.path, dict(self.headers)))
        self.server.answers[self.path.partition("?")[0]](self)

    def log_message(self, *_: object) -> None:
        pass


class HttpsServer(ThreadingHTTPServer):
    """`connections` counts all that were accepted, `open` those that have not ended, `peak` the most at once."""

    daemon_threads = True

    def __init__(self, ca_file: str, tls: ssl.SSLContext | None) -> None:
        self.ca_file = ca_file  # what a client has to trust
        self.answers: dict[str, Answer] = {}
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.connections = self.open = self.peak = 0
        self.stalls = False  # accepts, and never answers the TLS handshake
        self._lock = threading.Lock()
        self._streams: set[ssl.SSLSocket] = set()
        self._tls = tls
        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def port(self) -> int:
        return self.server_address[1]

    def get_request(self) -> tuple[socket.socket, object]:
        request = super().get_request()
        with self._lock:
            self.connections += 1
            self.open += 1
            self.peak = max(self.peak, self.open)
        return request

    def finish_request(self, request: socket.socket, address: object) -> None:  # type: ignore[override]
        request.settimeout(PATIENCE_S)
        if self.stalls:
            while request.recv(4096):
                pass
        elif self._tls is None:
            super().finish_request(request, address)
        else:
            with self._tls.wrap_socket(request, server_side=True) as stream:
                self._streams.add(stream)
                try:
                    super().finish_request(stream, address)
                finally:
                    self._streams.discard(stream)

    def shutdown_request(self, request: socket.socket) -> None:  # type: ignore[override]
        with self._lock:
            self.open -= 1
        with suppress(OSError):
            super().shutdown_request(request)

    def handle_error(self, *_: object) -> None:
        """Those that hang up are part of the tests."""

    def reset(self) -> None:
        """As it was at first, but for its address; connections that clients kept end."""
        for stream in tuple(self._streams):
            with suppress(OSError):
                stream.shutdown(socket.SHUT_RDWR)
        self.wait_until_closed()
        self.connections = self.peak = 0
        self.stalls = False
        self.requests.clear()
        self.answers.clear()

    def wait_until_closed(self) -> None:
        """Until nobody is connected any more."""
        ends = time.monotonic() + PATIENCE_S
        while self.open:
            assert time.monotonic() < ends, f"{self.open} connections are still open"
            time.sleep(0.01)


@contextmanager
def serving(*names: str) -> Iterator[HttpsServer]:
    """The server at work, with a certificate for these names from an authority of its own; without names, no TLS."""
    ca = trustme.CA()
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER) if names else None
    if tls:
        ca.issue_cert(*names).configure_cert(tls)
    with ca.cert_pem.tempfile() as ca_file, HttpsServer(ca_file, tls) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def answer(status: int, body: bytes = b"", **headers: str) -> Answer:
    """A plain answer; `Content_Length` and others can be given to lie."""

    def send(handler: Handler) -> None:
        handler.send_response(status)
        for name, value in {"Content_Length": str(len(body)), **headers}.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(body)

    return send


def raw(*parts: bytes, endless: bytes = b"", pause_s: float = 0.0) -> Answer:
    """These bytes and nothing else; then `endless` again and again until the client has gone."""

    def send(handler: Handler) -> None:
        handler.close_connection = True
        for part in parts:
            handler.wfile.write(part)
        while endless:
            handler.wfile.write(endless)
            time.sleep(pause_s)

    return send
