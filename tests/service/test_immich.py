"""/predict, as immich's server asks it: bodies captured from its own code (fetch and FormData of Node 20)."""

from __future__ import annotations

import io
import json
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from python_multipart.multipart import parse_options_header

from benchmarks.service_process import running
from model.bundle import Bundle
from service.forwarding import MAX_ANSWER_BYTES
from service.settings import Settings, SettingsError
from tests.service import pictures
from tests.service.conftest import checking_client
from tests.service.hostile_bodies import bad_form

NAME = "ViT-B-32__openai"
CAT = pictures.read("cat")
BOUNDARY = "----formdata-undici-012345678901"
FACES = {
    "facial-recognition": {
        "detection": {"modelName": "buffalo_l", "options": {"minScore": 0.7}},
        "recognition": {"modelName": "buffalo_l"},
    }
}
VISUAL = {"clip": {"visual": {"modelName": NAME}}}
TEXTUAL = {"clip": {"textual": {"modelName": NAME, "options": {"language": "de"}}}}
FACE = {"boundingBox": {"x1": 1, "y1": 2, "x2": 3, "y2": 4}, "embedding": "[0.1]", "score": 0.9}


@dataclass
class Upstream:
    """What the other server answers, and what it was asked."""

    url: str
    status: int = 200
    body: bytes = b""
    delay_s: float = 0.0
    asked: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)


@contextmanager
def serving() -> Iterator[Upstream]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            upstream.asked.append((self.path, {name.lower(): value for name, value in self.headers.items()}, body))
            time.sleep(upstream.delay_s)
            self.send_response(upstream.status)
            self.send_header("content-length", str(len(upstream.body)))
            self.send_header("location", "/predict")
            self.end_headers()
            self.wfile.write(upstream.body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    upstream = Upstream(f"http://127.0.0.1:{server.server_port}")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield upstream
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def server() -> Iterator[Upstream]:
    with serving() as upstream:
        yield upstream


@pytest.fixture
def upstream(server: Upstream) -> Upstream:
    server.asked.clear()
    server.status, server.delay_s = 200, 0.0
    server.body = json.dumps({"facial-recognition": [FACE], "imageHeight": 7, "imageWidth": 8}).encode()
    return server


@pytest.fixture(scope="module")
def immich(
    server: Upstream, bundle_path: Path, bundle: Bundle, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[httpx.Client]:
    """A service whose model answers to immich's name, in front of a server for the rest."""
    with (
        running(
            tmp_path_factory.mktemp("immich"),
            bundle_path,
            model_aliases=f"{NAME}={bundle.id}",
            immich_forward_url=f"{server.url}/",
        ) as service,
        checking_client(service) as client,
    ):
        yield client


def form(entries: Any, image: bytes | None = None, text: str | None = None) -> bytes:
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="'
    body = f'{head}entries"\r\n\r\n{json.dumps(entries, separators=(",", ":"))}\r\n'.encode()
    if image is not None:
        body += f'{head}image"; filename="blob"\r\nContent-Type: application/octet-stream\r\n\r\n'.encode()
        body += image + b"\r\n"
    if text is not None:
        body += f'{head}text"\r\n\r\n{text}\r\n'.encode()
    return body + f"--{BOUNDARY}--\r\n".encode()


def predict(client: httpx.Client, *args: Any, headers: dict[str, str] | None = None, **parts: Any) -> httpx.Response:
    content_type = f"multipart/form-data; boundary={BOUNDARY}"
    return client.post(
        "/predict", content=form(*args, **parts), headers={"content-type": content_type, **(headers or {})}
    )


def native(client: httpx.Client, item: Any) -> Any:
    return client.post("/embed", json={"inputs": item}).json()["data"][0]["embedding"]


def test_pictures(immich: httpx.Client) -> None:
    answer = predict(immich, VISUAL, image=CAT)
    assert answer.status_code == 200, answer.text
    result = answer.json()
    assert isinstance(result["clip"], str)
    np.testing.assert_array_equal(json.loads(result["clip"]), native(immich, {"image": pictures.as_base64("cat")}))
    assert (result["imageWidth"], result["imageHeight"]) == Image.open(io.BytesIO(CAT)).size


def test_texts(immich: httpx.Client) -> None:
    for text in ("ein großer Hund", "a dog"):
        result = predict(immich, TEXTUAL, text=text).json()
        assert result.keys() == {"clip"}
        np.testing.assert_array_equal(json.loads(result["clip"]), native(immich, text))


def test_ping(immich: httpx.Client) -> None:
    assert immich.get("/ping").is_success


def test_a_name_that_is_not_served_is_refused(client: httpx.Client, bundle: Bundle) -> None:
    """Vectors of the default model instead would be compared with those of another one."""
    answer = predict(client, VISUAL, image=CAT)
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")
    assert answer.json()["error"]["param"] == "entries.clip.visual.modelName"
    assert "SIGHTWORD_MODEL_ALIASES" in answer.json()["detail"]
    assert predict(client, {"clip": {"visual": {"modelName": bundle.id}}}, image=CAT).status_code == 200


def test_other_tasks_without_a_server_for_them(client: httpx.Client) -> None:
    for entries in (FACES, {"ocr": {}}, {**VISUAL, "ocr": {}}):
        answer = predict(client, entries, image=CAT)
        assert (answer.status_code, answer.json()["error"]["code"]) == (422, "unsupported_task")
        assert "SIGHTWORD_IMMICH_FORWARD_URL" in answer.json()["error"]["message"]
    assert predict(client, FACES, image=CAT).json()["error"]["param"] == "entries.facial-recognition"


def test_faces_are_passed_on(immich: httpx.Client, upstream: Upstream) -> None:
    answer = predict(immich, FACES, image=CAT)
    assert answer.json() == json.loads(upstream.body)
    [(path, headers, body)] = upstream.asked
    assert path == "/predict"
    boundary = parse_options_header(headers["content-type"])[1][b"boundary"].decode()
    expected = form(FACES, image=CAT).replace(BOUNDARY.encode(), boundary.encode())
    assert body == expected
    predict(immich, {"ocr": {"x": "ü"}}, text="größer")
    assert upstream.asked[1][2].count("größer".encode()) == 1


def test_mixed_tasks_are_answered_together(immich: httpx.Client, upstream: Upstream) -> None:
    answer = predict(immich, {**VISUAL, **FACES}, image=CAT).json()
    assert answer["facial-recognition"] == [FACE]
    assert (answer["imageHeight"], answer["imageWidth"]) == (7, 8)
    assert answer["clip"] == predict(immich, VISUAL, image=CAT).json()["clip"]
    assert [b"clip" in body for _, _, body in upstream.asked] == [False]


@pytest.mark.parametrize(
    ("status", "body"),
    [(500, b"{}"), (404, b"{}"), (307, b"{}"), (200, b"[]"), (200, b"{"), (200, b""),
     (200, b"[" + b"0," * (MAX_ANSWER_BYTES // 2) + b"0]")],
    ids=["500", "404", "redirect", "list", "cut", "empty", "large"],
)  # fmt: skip
def test_the_other_server_fails(immich: httpx.Client, upstream: Upstream, status: int, body: bytes) -> None:
    upstream.status, upstream.body = status, body
    answer = predict(immich, {**VISUAL, **FACES}, image=CAT)
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "upstream_failed")
    assert len(upstream.asked) == 1


def test_the_other_server_is_not_there(bundle_path: Path, bundle: Bundle, tmp_path: Path) -> None:
    with serving() as gone:
        pass
    with running(tmp_path, bundle_path, immich_forward_url=gone.url) as service, checking_client(service) as client:
        answer = predict(client, FACES, image=CAT)
        assert (answer.status_code, answer.json()["error"]["code"]) == (502, "upstream_failed")
        assert predict(client, {"clip": {"visual": {"modelName": bundle.id}}}, image=CAT).status_code == 200


def test_the_other_server_is_slow(immich: httpx.Client, upstream: Upstream) -> None:
    upstream.delay_s = 3.0
    started = time.monotonic()
    answer = predict(immich, FACES, image=CAT, headers={"x-request-timeout": "0.5"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (504, "deadline_exceeded")
    assert time.monotonic() - started < 2.5


def test_what_was_passed_on_does_not_go_round(immich: httpx.Client, upstream: Upstream) -> None:
    predict(immich, FACES, image=CAT)
    [(_, headers, _)] = upstream.asked
    answer = predict(immich, FACES, image=CAT, headers={"x-sightword-forwarded": headers["x-sightword-forwarded"]})
    assert (answer.status_code, len(upstream.asked)) == (422, 1)


BAD: list[tuple[Any, dict[str, Any], str]] = [
    ({}, {"image": CAT}, "entries"),
    ([], {"image": CAT}, "entries"),
    (VISUAL, {}, "image"),
    (VISUAL, {"image": CAT, "text": "a"}, "image"),
    (VISUAL, {"image": b""}, "image"),
    (VISUAL, {"text": "a"}, "entries.clip"),
    (TEXTUAL, {"image": CAT}, "entries.clip"),
    (TEXTUAL, {"text": " "}, "text"),
    ({"clip": {}}, {"image": CAT}, "entries.clip"),
    ({"clip": {**VISUAL["clip"], **TEXTUAL["clip"]}}, {"image": CAT}, "entries.clip"),
    ({"clip": {"visual": {}}}, {"image": CAT}, "entries.clip.visual.modelName"),
    ({"clip": {"visual": {"modelName": 5}}}, {"image": CAT}, "entries.clip.visual.modelName"),
    ({"clip": "visual"}, {"image": CAT}, "entries.clip"),
    ({"\ud800": {}}, {"image": CAT}, "entries"),
    ({"a": "\ud800"}, {"image": CAT}, "entries"),
    ({str(number): 0 for number in range(200)}, {"image": CAT}, "entries"),
]


@pytest.mark.parametrize(("entries", "parts", "param"), BAD)
def test_forms_that_cannot_be(immich: httpx.Client, entries: Any, parts: dict[str, Any], param: str) -> None:
    answer = predict(immich, entries, **parts)
    assert (answer.status_code, answer.json()["error"]["param"]) == (422, param), answer.text
    assert answer.json()["detail"].startswith(param)


def test_nesting_without_end(immich: httpx.Client) -> None:
    deep: Any = []
    for _ in range(900):
        deep = [deep]
    assert predict(immich, {"ocr": deep}, image=CAT).status_code in (422, 502)


def test_bad_pictures_and_long_texts(immich: httpx.Client) -> None:
    answer = predict(immich, VISUAL, image=CAT[:500])
    assert (answer.status_code, answer.json()["error"]["param"]) == (422, "image")
    answer = predict(immich, TEXTUAL, text="cat " * 200)
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "text_too_long")


def test_hostile_forms(immich: httpx.Client) -> None:
    chance = random.Random(3)
    good = form(VISUAL, image=CAT[:2000])
    for number in range(200):
        content_type, body = bad_form(chance, [CAT])
        if number % 2:
            at = chance.randrange(400)
            content_type = f"multipart/form-data; boundary={BOUNDARY}"
            body = good[:at] + chance.randbytes(chance.choice((0, 1, 5))) + good[at + chance.choice((0, 1, 30)) :]
        answer = immich.post("/predict", content=body, headers={"content-type": content_type.encode("latin-1")})
        assert answer.status_code in (404, 415, 422, 502), (answer.text, body[:500])
    parts = b"".join(
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="a"\r\n\r\n\r\n'.encode() for _ in range(50)
    )
    content_type = f"multipart/form-data; boundary={BOUNDARY}"
    flood = immich.post("/predict", content=parts + good, headers={"content-type": content_type})
    assert flood.json()["error"]["code"] == "too_many_inputs"
    assert immich.post("/predict", json={"entries": VISUAL}).status_code == 415


@pytest.mark.parametrize(
    "url",
    ["immich:3003", "ftp://immich", "http://", "http://a b", "http://u:p@immich", "http://immich?x", "file:///etc",
     "http://immich/#x", "http://immich\r\nx:y", "http://" + "a" * 2000],
)  # fmt: skip
def test_addresses_that_are_none_stop_the_start(url: str) -> None:
    with pytest.raises(SettingsError, match="IMMICH_FORWARD_URL"):
        Settings.read({"immich_forward_url": url})
    for good in ("http://immich:3003", "https://[::1]:3003/ml/", "http://10.0.0.1"):
        assert Settings.read({"immich_forward_url": good}).immich_forward_url == good
