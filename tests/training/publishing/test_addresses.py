"""What `publish --to` may be given, and what may answer there: errors that are clear, bounded, and show no secret."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from training.publishing import service_client
from training.publishing.service_client import PublishError, ServiceClient

KEY = "an operator's long key"
Handler = Callable[[BaseHTTPRequestHandler], None]


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIGHTWORD_ADMIN_KEY", KEY)


@contextmanager
def answering(handle: Handler, host: str = "127.0.0.1") -> Iterator[int]:
    """A server on a free port that answers whatever it is asked by `handle`."""

    class Handling(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            handle(self)

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer((host, 0), Handling)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def saying(content: bytes, status: int = 200, **headers: str) -> Handler:
    def handle(request: BaseHTTPRequestHandler) -> None:
        request.send_response(status)
        for name, value in headers.items():
            request.send_header(name.replace("_", "-"), value)
        request.send_header("Content-Length", str(len(content)))
        request.end_headers()
        request.wfile.write(content)

    return handle


@pytest.mark.parametrize(
    "url",
    ["file:///etc/passwd", "ftp://host/x", "localhost:8000", "http://", "//host", "", "http://::1:8000", "http://host:99999",
     "http://ho st", "http://user:hunter2@:80", "http://user:hunter2@host:99999", "http://host/?key=hunter2",
     "user:hunter2@host", "http://host/#x"],
)  # fmt: skip
def test_what_is_no_address_is_refused_and_shows_no_secret(url: str) -> None:
    with pytest.raises(PublishError, match=r"Write http://127\.0\.0\.1:8000") as raised:
        ServiceClient(url)
    assert "hunter2" not in str(raised.value)


INFO = {"models": [{"id": "a", "digest": "0" * 64}], "settings": {"model": ["/served"]}}


def test_name_password_and_path_are_used_and_not_shown() -> None:
    seen = []

    def handle(request: BaseHTTPRequestHandler) -> None:
        seen.append((request.path, request.headers["Authorization"], request.headers["x-api-key"]))
        saying(json.dumps(INFO).encode())(request)

    with answering(handle) as port:
        service = ServiceClient(f"http://user:hunter2@127.0.0.1:{port}/behind/a/proxy/")
        assert [model.setting for model in service.models()] == ["/served"]
    assert service.url == f"http://127.0.0.1:{port}/behind/a/proxy"
    assert seen == [("/behind/a/proxy/info", "Basic dXNlcjpodW50ZXIy", KEY)]
    with pytest.raises(PublishError, match="cannot be reached") as raised:
        service.models()  # nobody listens there any more
    assert "hunter2" not in str(raised.value)
    assert KEY not in str(raised.value)


@pytest.mark.parametrize(
    ("handle", "message"),
    [
        (saying(b"<html>hello</html>"), "does not answer as Sightword does: the answer: Invalid JSON"),
        (saying(b"[]"), "does not answer as Sightword does"),
        (saying(b"{}"), "does not answer as Sightword does: models"),
        (saying(json.dumps({**INFO, "models": [{"id": 5, "digest": None}]}).encode()), "models.0.id"),
        (saying(json.dumps({**INFO, "models": []}).encode()), "1 settings of models"),
        (saying(b"[" * 1_000_000), "does not answer as Sightword does"),
        (saying(b"\xff\xfe" * 50), "does not answer as Sightword does"),
        (saying(b"", 204), "does not answer as Sightword does"),
        (saying(b"", 302, Location="https://user:hunter2@elsewhere/?key=hunter2"), "redirects to https://elsewhere/"),
        (saying(b"x" * (17 * 2**20)), "answered more than 16,777,216 bytes"),
        (saying(b"gone", 404), "answered 404: gone"),
        (saying(b"\x1f\x8b nonsense", Content_Encoding="gzip"), "cannot be reached"),
    ],
)
def test_what_is_no_service_is_named(handle: Handler, message: str) -> None:
    with answering(handle) as port, pytest.raises(PublishError, match=message) as raised:
        ServiceClient(f"http://127.0.0.1:{port}").models()
    assert "hunter2" not in str(raised.value)
    assert KEY not in str(raised.value)


def test_a_key_is_not_sent_where_a_redirect_leads() -> None:
    seen = []
    with (
        answering(lambda request: seen.append(request.headers["x-api-key"])) as other,
        answering(saying(b"", 307, Location=f"http://127.0.0.1:{other}/info")) as port,
        pytest.raises(PublishError, match="redirects"),
    ):
        ServiceClient(f"http://127.0.0.1:{port}").models()
    assert not seen


@pytest.mark.parametrize("retry_after", ["nonsense", "-5", "nan", "1e400"])
def test_a_service_without_room_is_asked_a_limited_number_of_times(
    retry_after: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []
    monkeypatch.setattr(service_client.time, "sleep", waited.append)
    with (
        answering(saying(b"busy", 429, Retry_After=retry_after)) as port,
        pytest.raises(PublishError, match="429: busy"),
    ):
        ServiceClient(f"http://127.0.0.1:{port}").models()
    assert len(waited) == service_client.TRIES
    assert all(0 < each <= 5 for each in waited)


def test_who_never_answers_or_never_ends_is_left() -> None:
    ending = threading.Event()

    def dripping(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.end_headers()
        while not ending.wait(0.05):
            request.wfile.write(b" ")

    for handle, message in ((lambda _: ending.wait(20), "did not answer /info in time"), (dripping, "still answering")):
        ending.clear()
        with answering(handle) as port, pytest.raises(PublishError, match=message):
            ServiceClient(f"http://127.0.0.1:{port}", timeout_s=0.5).models()
        ending.set()


@pytest.mark.parametrize(
    ("value", "message"), [("\u00e9 key", "no header may have"), ("a\nb", "no header may have"), (" ", "set SIGHT")]
)
def test_a_key_that_cannot_be_sent_is_not_shown(value: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIGHTWORD_ADMIN_KEY", value)
    with pytest.raises(PublishError, match=message) as raised:
        ServiceClient("http://127.0.0.1:1")
    assert value.strip() == "" or value not in str(raised.value)
