"""What holds for every answer and every line of the log, whatever a client sends."""

from __future__ import annotations

import json
import re
import secrets
from pathlib import Path

import httpx
import psutil
import pytest

from benchmarks.service_process import PATIENCE_S, Running
from service.logs import Sampler
from tests.service import pictures
from tests.service.raw import LAST, answer, connected, eventually, exchange, post, request, statuses

LINE_KEYS = {
    "time", "level", "logger", "message", "request_id", "method", "route", "status", "code", "items", "ms"
}  # fmt: skip


def lines_since(service: Running, mark: int) -> list[dict[str, object]]:
    """All of what was sent by now; a line is written after its answer."""
    last = secrets.token_hex(8)
    httpx.get(f"{service.url}/info", headers={"x-request-id": last})
    eventually(lambda: last in service.log())
    return [json.loads(line) for line in service.log()[mark:].splitlines()]


def test_headers_of_every_answer(service: Running) -> None:
    asked = ("/health/live", "/info", "/nothing", "/docs", "/", "/openapi.json", "/metrics")
    answers = [httpx.get(service.url + path) for path in asked]
    answers += [httpx.post(f"{service.url}/embed", json=body) for body in ({}, {"inputs": "a cat"})]
    for one in answers:
        assert "nosniff" in one.headers["x-content-type-options"]
        assert "server" not in one.headers
        assert "x-powered-by" not in one.headers
        assert one.headers["content-type"]


def test_no_other_origin_is_let_in(service: Running) -> None:
    """A page of another site gets no leave from the service, so browsers show it no answer."""
    origin = {"origin": "https://elsewhere.example"}
    wanted = {"access-control-request-method": "POST", "access-control-request-headers": "content-type, x-api-key"}
    for path in ("/embed", "/v1/embeddings", "/admin/reload", "/nothing"):
        asked = httpx.options(service.url + path, headers=origin | wanted)
        assert asked.status_code in (401, 404, 405)
        given = httpx.post(service.url + path, headers=origin, json={"inputs": "a cat"})
        for one in (asked, given):
            assert not [name for name in one.headers if name.startswith("access-control-")]


def test_nothing_over_http_stops_the_service(service: Running) -> None:
    for path in ("/shutdown", "/admin/shutdown", "/quit", "/stop", "/admin/stop"):
        assert httpx.post(service.url + path).status_code in (401, 404)
    paths = httpx.get(f"{service.url}/openapi.json").json()["paths"]
    assert [path for path in paths if path.startswith("/admin")] == ["/admin/reload"]


def test_the_log_holds_no_content(service: Running) -> None:
    mark = len(service.log())
    secret = secrets.token_hex(8)
    embed = f"{service.url}/embed"
    picture = pictures.as_base64("rocket")
    httpx.post(embed, json={"inputs": [secret, {"image": picture}]}, headers={"user-agent": secret, "cookie": secret})
    httpx.post(embed, json={"inputs": secret * 1000, secret: 1})
    httpx.post(embed, json={"inputs": {"image": f"https://{secret}.example/?{secret}"}})
    httpx.post(embed, json={"inputs": "a", "model": secret})
    httpx.post(f"{embed}?{secret}={secret}", content=secret.encode(), headers={"content-type": f"image/{secret}"})
    httpx.get(f"{service.url}/{secret}?{secret}", headers={"authorization": f"Bearer {secret}"})
    httpx.put(f"{service.url}/label-sets/{secret}", json={"labels": [secret], "odd": 1})
    httpx.post(f"{service.url}/models/{secret}", json={"inputs": secret})
    lines = lines_since(service, mark)
    assert len([line for line in lines if line["logger"] == "service.request"]) > 8
    assert all(set(line) <= LINE_KEYS for line in lines)
    added = service.log()[mark:]
    assert secret not in added
    assert picture[:40] not in added


def test_what_a_client_sends_makes_no_line_of_its_own(service: Running) -> None:
    """Line ends and control characters, in all that the log could repeat."""
    mark = len(service.log())
    forged = '{"level":"critical","message":"forged"}'
    injected = forged.replace('"', "%22")
    for path in (f"/info%0d%0a{injected}", f"/%0a{injected}", "/%1b%5b31mred", f"/models/x%0a{injected}"):
        assert exchange(service, request(path, LAST))
    for value in (f"x {forged}", "x\x1b[31mred", "x\tforged", "\xffforged"):
        sent = request("/info", f"x-request-id: {value}".encode("latin-1").decode("latin-1"), LAST)
        received = exchange(service, sent)
        assert b"forged" not in received.partition(b"\r\n\r\n")[0]
        assert b"\x1b" not in received
    for value in (f"x\r\n {forged}", f"x\n{forged}", f"x\r{forged}", "x\x00forged"):
        assert statuses(exchange(service, request("/info", f"x-request-id: {value}", LAST))) == [400]
    assert statuses(exchange(service, f"{forged} /info HTTP/1.1\r\n\r\n".encode())) == [400]
    lines = lines_since(service, mark)
    assert all(line["level"] == "info" for line in lines)
    assert "forged" not in service.log()[mark:]
    assert "\x1b" not in service.log()[mark:]


def test_paths_that_clients_make_up_are_no_labels_of_metrics(service: Running) -> None:
    made_up = secrets.token_hex(8)
    paths = (f"/{made_up}", f"/static-offline-docs/{made_up}", f"/playground/{made_up}", f"/label-sets/{made_up}")
    for path in paths:
        for method in ("GET", "POST", "PROPFIND"):
            with connected(service) as connection:
                connection.sendall(request(path, method=method))
                assert statuses(answer(connection))[0] in (404, 405, 422)
    assert made_up not in httpx.get(f"{service.url}/metrics").text


def test_the_service_calls_nobody(service: Running) -> None:
    """No telemetry: all its connections are those that clients opened."""
    assert statuses(exchange(service, post(b'{"inputs": "a cat"}', LAST))) == [200]
    port = httpx.URL(service.url).port
    for connection in psutil.Process(service.process.pid).net_connections():
        assert connection.laddr.port == port


FORGED = {
    "x-forwarded-for": "203.0.113.7",
    "x-real-ip": "203.0.113.7",
    "forwarded": "for=203.0.113.7;host=elsewhere.example;proto=https",
    "x-forwarded-proto": "https",
    "x-forwarded-host": "elsewhere.example",
    "x-forwarded-port": "8443",
    "x-forwarded-prefix": "/elsewhere",
    "x-script-name": "/elsewhere",
    "x-original-url": "/metrics",
    "x-rewrite-url": "/metrics",
    "x-http-method-override": "DELETE",
    "host": "elsewhere.example",
}


@pytest.mark.parametrize("path", ["/", "/docs", "/openapi.json", "/info", "/models", "/health/live", "/elsewhere"])
def test_what_a_proxy_says_of_the_client_changes_nothing(path: str, service: Running) -> None:
    """Also what a client may have made up. The host is in no answer either."""
    plain = httpx.get(service.url + path)
    for headers in (FORGED, *({name: value} for name, value in FORGED.items())):
        with_them = httpx.get(service.url + path, headers=headers)
        assert (with_them.status_code, with_them.text) == (plain.status_code, plain.text)
        assert "elsewhere" not in str(with_them.headers)
    posted = httpx.post(f"{service.url}/embed", json={"inputs": "a cat"}, headers=FORGED, timeout=PATIENCE_S)
    assert posted.status_code == 200
    assert not [value for value in ("203.0.113.7", "elsewhere") if value in service.log()]


def test_the_checklist_names_tests_that_exist() -> None:
    root = Path(__file__).parents[2]
    rows = re.findall(r"^\| (\d+) \|.*$", (root / "SECURITY.md").read_text("utf-8"), re.MULTILINE)
    assert [int(number) for number in rows] == list(range(1, 28))
    named = re.findall(r"`(tests/[\w/]+\.py)`", (root / "SECURITY.md").read_text("utf-8"))
    assert len(named) > 25
    assert [name for name in named if not (root / name).is_file()] == []


def test_refusals_without_end_make_few_lines() -> None:
    now = 5.0
    sampler = Sampler(a_second=2, clock=lambda: now)
    assert [sampler.left_out() for _ in range(5)] == [0, 0, None, None, None]
    now = 6.0
    assert [sampler.left_out() for _ in range(3)] == [3, 0, None]
