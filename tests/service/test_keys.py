"""Every route and every kind of key; keys that come and go while the service runs; settings that must not be served."""

from __future__ import annotations

import hmac
import logging
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from benchmarks.service_process import PATIENCE_S, Running, clean_environment, running
from service.keys import Keys
from service.settings import Settings, SettingsError, unknown_variables
from service.web.auth import warn_if_open
from tests.service.raw import LAST, eventually, exchange, request, statuses

GIVEN, SECOND = "given-0123456789abcdef", "second-0123456789abcdef"
FILED, FRESH = "filed-0123456789abcdef", "fresh-0123456789abcdef"
ADMIN = "admin-0123456789abcdef"
ALL = (GIVEN, SECOND, FILED, FRESH, ADMIN)
WRONG = "wrong-0123456789abcdef"


@dataclass
class Guarded:
    service: Running
    file: Path
    client: httpx.Client

    def get(self, path: str, key: str | None = None) -> httpx.Response:
        return self.call("GET", path, {} if key is None else {"x-api-key": key})

    def call(self, method: str, path: str, headers: Mapping[str, str]) -> httpx.Response:
        return self.client.request(method, self.service.url + path, headers=headers)


@pytest.fixture(scope="module")
def guarded(bundle_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    folder = tmp_path_factory.mktemp("guarded")
    file = folder / "keys"
    file.write_text(f"# of the search team\r\n{FILED}\r\n\r\n")
    sets = str(folder / "sets")
    given = f"{GIVEN}, {SECOND}"
    with (
        running(
            folder, bundle_path, api_keys=given, api_keys_file=str(file), admin_key=ADMIN, label_sets=sets
        ) as service,
        httpx.Client(timeout=PATIENCE_S) as client,
    ):
        yield Guarded(service, file, client)


def bearer(key: str, scheme: str = "Bearer") -> dict[str, str]:
    return {"authorization": f"{scheme} {key}"}


def refused(answer: httpx.Response) -> None:
    assert answer.status_code == 401, (answer.request.url, answer.text)
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.headers["x-request-id"]
    body = answer.json()
    if isinstance(body["error"], str):  # of an API whose clients read it so
        assert (body["code"], body["error_type"]) == ("invalid_api_key", "authentication_error")
        return
    assert set(body["error"]) == {"message", "type", "param", "code"}
    assert (body["error"]["code"], body["error"]["type"]) == ("invalid_api_key", "authentication_error")


def every_route(guarded: Guarded) -> list[tuple[str, str]]:
    paths = guarded.get("/openapi.json", GIVEN).json()["paths"]
    documented = [(method.upper(), re.sub(r"{\w+}", "x", path)) for path in paths for method in paths[path]]
    assert len(documented) > 10
    undocumented = [
        "/docs",
        "/openapi.json",
        "/nothing/here",
        "/static-offline-docs/swagger-ui.css",
        "//info",
        "/health",
    ]
    return [*documented, *(("GET", path) for path in undocumented), ("OPTIONS", "/embed"), ("PUT", "/Admin/reload")]


def test_every_route_and_every_kind_of_key(guarded: Guarded) -> None:
    for method, path in every_route(guarded):
        is_open, is_admin = path.startswith("/health/"), path.startswith("/admin")
        for key in (None, WRONG, GIVEN, SECOND, FILED, ADMIN):
            answer = guarded.call(method, path, {} if key is None else bearer(key))
            if is_open or key == ADMIN or (key in (GIVEN, SECOND, FILED) and not is_admin):
                assert answer.status_code != 401, (method, path, key)
            else:
                refused(answer)


def test_health_and_the_page_are_open(guarded: Guarded) -> None:
    for path in ("/health/live", "/health/ready", "/"):
        assert guarded.get(path).status_code == 200
        assert guarded.get(path, WRONG).status_code == 200
    assert guarded.get("/playground/nothing").status_code == 404
    assert guarded.get("/health/nothing").status_code == 404


def test_ways_to_send_a_key(guarded: Guarded) -> None:
    accepted = [
        bearer(GIVEN),
        bearer(GIVEN, "bearer"),
        bearer(GIVEN, "BEARER"),
        {"x-api-key": GIVEN},
        {"X-API-Key": FILED},
    ]
    accepted += [bearer(GIVEN) | {"x-api-key": GIVEN}, {"authorization": "Basic dTpw", "x-api-key": GIVEN}]
    for headers in accepted:
        assert guarded.call("GET", "/models", headers).status_code == 200, headers
    odd = ["", GIVEN[:-1], GIVEN + "x", GIVEN.upper(), f"{GIVEN},{SECOND}", "*", "null"]
    wrong = [*({"x-api-key": key} for key in odd), *(bearer(key) for key in odd if key.strip())]
    wrong += [
        {"authorization": text} for text in (GIVEN, "Bearer", f"Basic {GIVEN}", f"Bearer{GIVEN}", f"Token {GIVEN}")
    ]
    wrong += [bearer(GIVEN) | {"x-api-key": SECOND}, bearer(GIVEN) | {"x-api-key": WRONG}]
    for headers in wrong:
        refused(guarded.call("GET", "/models", headers))
    refused(guarded.get(f"/models?api_key={GIVEN}&x-api-key={GIVEN}"))


def test_a_key_is_asked_for_before_the_body(guarded: Guarded) -> None:
    """Also where the client waits for leave to send it."""
    for headers in (["content-length: 1000000"], ["content-length: 99", "expect: 100-continue"]):
        head = request("/embed", "content-type: application/json", *headers, LAST, method="POST")
        assert statuses(exchange(guarded.service, head)) == [401]


def test_an_encoded_path_is_the_same_path(guarded: Guarded) -> None:
    for path in ("/%61dmin/reload", "/admin%2freload", "/ADMIN%2Freload", "/health%2f..%2fadmin/reload", "/%6dodels"):
        answer = guarded.call("POST", path, bearer(WRONG))
        if path.startswith("/health"):
            assert answer.status_code == 404
        else:
            refused(answer)
    refused(guarded.call("POST", "/%61dmin/reload", bearer(GIVEN)))


def test_refusals_are_counted(guarded: Guarded) -> None:
    def counted() -> float:
        sample = 'sightword_requests_total{route="/models",status="401"} '
        lines = guarded.get("/metrics", GIVEN).text.splitlines()
        return sum(float(line.removeprefix(sample)) for line in lines if line.startswith(sample))

    before = counted()
    refused(guarded.get("/models"))
    assert counted() == before + 1


def test_the_schema_tells_which_routes_want_a_key(guarded: Guarded, service: Running) -> None:
    schema = guarded.get("/openapi.json", GIVEN).json()
    assert set(schema["components"]["securitySchemes"]) == {"bearer", "x-api-key"}
    for path, operations in schema["paths"].items():
        for operation in operations.values():
            assert ("security" in operation) == (not path.startswith("/health/")), path
            assert ("401" in operation["responses"]) == (not path.startswith("/health/")), path
    open_schema = httpx.get(f"{service.url}/openapi.json").json()
    assert "security" not in open_schema["paths"]["/embed"]["post"]
    assert "security" in open_schema["paths"]["/admin/reload"]["post"]


def test_without_an_admin_key_the_admin_routes_are_closed(service: Running) -> None:
    assert httpx.get(f"{service.url}/models").status_code == 200
    for headers in ({}, bearer(WRONG), bearer("")):
        answer = httpx.post(f"{service.url}/admin/reload", headers={k: v.strip() for k, v in headers.items()})
        refused(answer)
        assert "SIGHTWORD_ADMIN_KEY" in answer.text


def test_keys_come_and_go_with_the_file(guarded: Guarded) -> None:
    def hang_up() -> None:
        guarded.service.process.send_signal(signal.SIGHUP)

    def works(key: str) -> bool:
        return guarded.get("/models", key).status_code == 200

    before = guarded.file.read_text()
    try:
        guarded.file.write_text(f"{FRESH}\n")
        assert not works(FRESH)
        hang_up()
        eventually(lambda: works(FRESH))
        assert not works(FILED)
        assert works(GIVEN)
        for bad in ("", "# nothing\n", f"{FILED} of the search team\n", f"{FILED}\nschlüssel\n", f"{ADMIN}\n", None):
            refusals = guarded.service.log().count("those from before")
            guarded.file.unlink() if bad is None else guarded.file.write_text(bad)
            hang_up()
            eventually(lambda refusals=refusals: guarded.service.log().count("those from before") > refusals)
            assert works(FRESH)
            assert not works(FILED)
        guarded.file.write_text(before)
        assert guarded.call("POST", "/admin/reload", bearer(ADMIN)).status_code == 200
        assert works(FILED)
        assert not works(FRESH)
    finally:
        guarded.file.write_text(before)


def test_keys_are_shown_nowhere(guarded: Guarded) -> None:
    answers = [guarded.get(path, key) for path in ("/info", "/metrics", "/openapi.json", "/embed") for key in ALL]
    told = [answer.text + str(answer.headers) for answer in answers]
    told.append(guarded.service.log())
    told.append(Path(f"/proc/{guarded.service.process.pid}/cmdline").read_text())
    for key in ALL:
        assert not any(key in text for text in told)
    settings = guarded.get("/info", GIVEN).json()["settings"]
    assert settings["api_keys"] == settings["admin_key"] == "**********"


LONG = {"api_keys": GIVEN, "admin_key": ADMIN}
UNSAFE: list[tuple[dict[str, Any], str]] = [
    ({"api_keys": ""}, "API_KEYS"),
    ({"api_keys": f"{GIVEN},,{SECOND}"}, "API_KEYS"),
    ({"api_keys": f"{GIVEN},"}, "API_KEYS"),
    ({"api_keys": f"{GIVEN}, "}, "API_KEYS"),
    ({"api_keys": "schlüssel-0123456789abcdef"}, "API_KEYS"),
    ({"api_keys": "line\nbreak-0123456789abcdef"}, "API_KEYS"),
    ({"api_keys": ",".join(f"{GIVEN}{n}" for n in range(1001))}, "1000"),
    ({"admin_key": ""}, "ADMIN_KEY"),
    ({"admin_key": "  "}, "ADMIN_KEY"),
    ({"api_keys": f"{GIVEN},{ADMIN}", "admin_key": ADMIN}, "ADMIN_KEY"),
    ({"api_keys_file": "/nowhere/keys"}, "API_KEYS_FILE"),
    ({"api_keys_file": "/dev/zero"}, "API_KEYS_FILE"),
    ({"api_keys_file": "/"}, "API_KEYS_FILE"),
    ({"api_keys_file": "/dev/null"}, "API_KEYS_FILE"),
]


@pytest.mark.parametrize(("given", "named"), UNSAFE)
def test_unsafe_settings_stop_the_start(given: dict[str, Any], named: str) -> None:
    with pytest.raises(SettingsError, match=named) as refusal:
        Keys(Settings.read(given))
    assert not any(key in str(refusal.value) for key in ALL)


@pytest.mark.parametrize("name", ["SIGHTWORD_API_KEYS", "SIGHTWORD_API_KEYS_FILE", "SIGHTWORD_ADMIN_KEY"])
def test_an_empty_variable_stops_the_start(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A secret that got lost on its way must not open the service."""
    monkeypatch.setenv(name, "")
    with pytest.raises(SettingsError, match=name):
        Keys(Settings.read({}))


def _start() -> None:
    unknown_variables()
    Keys(Settings.read({}))


@pytest.mark.parametrize("line", ["SIGHTWORD_API_KEYS=", "SIGHTWORD_API_KEY=of-a-wrong-name", "sightword_admin_key="])
def test_a_key_that_got_lost_in_the_file_stops_the_start(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, line: str
) -> None:
    (tmp_path / ".env").write_text(f"{line}\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingsError, match="KEY"):
        _start()


def test_the_process_says_which_setting_is_unsafe() -> None:
    environment = clean_environment({"api_keys": f"{GIVEN},,{SECOND}"})
    command = [sys.executable, "-m", "service", "--admin-key", ADMIN]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100)
    assert ended.returncode == 2
    assert "SIGHTWORD_API_KEYS" in ended.stderr
    assert "--admin-key shows a secret" in ended.stderr
    assert not any(key in ended.stderr + ended.stdout for key in ALL)


def test_short_keys_are_told_to_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert Keys(Settings.read({"api_keys": "short,shorter"})).is_client(b"short")
        Keys(Settings.read(LONG))
    [line] = caplog.messages
    assert "keys shorter than 16 characters: 2" in line


def test_a_key_is_compared_with_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first one too, and after a match: the time tells nothing."""
    compared: list[tuple[bytes, bytes]] = []
    compare = hmac.compare_digest

    def counting(left: bytes, right: bytes) -> bool:
        compared.append((left, right))
        return compare(left, right)

    known = Keys(Settings.read({"api_keys": ",".join(ALL[:4]), "admin_key": ADMIN}))
    monkeypatch.setattr("service.keys.hmac.compare_digest", counting)
    for key in (GIVEN, FRESH, ADMIN, WRONG):
        compared.clear()
        assert known.is_client(key.encode()) == (key != WRONG)
        assert len(compared) == 5
        assert all(len(left) == len(right) == 32 for left, right in compared)


@pytest.mark.parametrize(("host", "told"), [("0.0.0.0", 1), ("::", 1), ("192.0.2.1", 1), ("127.0.0.1", 0), ("::1", 0)])
def test_the_log_says_that_a_network_may_use_the_service(
    host: str, told: int, caplog: pytest.LogCaptureFixture
) -> None:
    warn_if_open(Keys(Settings.read({"admin_key": ADMIN})), host)
    warn_if_open(Keys(Settings.read(LONG)), host)
    assert len(caplog.messages) == told
