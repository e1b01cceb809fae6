"""What a service finds when it asks Redis at its start: the log says it in Redis' words, never with a password."""

from __future__ import annotations

import asyncio
import http.server
import logging
import shutil
import socket
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path

import httpx
import pytest

from benchmarks.service_process import free_port, running
from service.cache import Cache
from service.classification.label_sets import LabelSet
from service.errors import ApiError
from service.settings import Settings
from service.state import Service
from tests.service.redis_or_skip import redis_server
from tests.service.test_cache_peers import answering, peer
from tests.service.test_label_sets import error_of
from tests.service.test_label_sets_stored import GOOD
from tests.service.tiers import PATIENCE_S

PASSWORD = "geheim&Wörter/0123456789"
QUOTED = urllib.parse.quote(PASSWORD, safe="")
SET = LabelSet.model_validate(GOOD)


def service_of(url: str, probe_timeout_s: float = PATIENCE_S) -> Service:
    service = Service(Settings.read({"redis_url": url}))
    service.shared.cache = Cache(service.settings, service.metrics, probe_timeout_s=probe_timeout_s)
    return service


def asked(
    url: str, caplog: pytest.LogCaptureFixture, probe_timeout_s: float = PATIENCE_S
) -> tuple[list[str], float, float, str]:
    """The lines of the start, the gauges `redis_up` and `redis_writable`, and what a client hears who stores a set."""
    outcome: list[tuple[float, float, str]] = []

    async def scenario() -> None:
        service = service_of(url, probe_timeout_s)
        sample = service.metrics.registry.get_sample_value
        await service.check_stores()
        lines.extend(record.getMessage() for record in caplog.records if record.name.startswith("service"))
        gauges = sample("sightword_redis_up") or 0.0, sample("sightword_redis_writable") or 0.0
        try:
            await service.label_sets.put(SET)
            heard = "stored"
        except ApiError as error:
            heard = f"{error.code}: {error.message}"
        outcome.append((*gauges, heard))
        await service.aclose()

    lines: list[str] = []
    with caplog.at_level(logging.DEBUG):
        asyncio.run(scenario())
    told = caplog.text + "".join(record.exc_text or "" for record in caplog.records)
    assert not any(secret in told for secret in (PASSWORD, QUOTED, PASSWORD[:6], "by-hand")), told
    [(up, writable, heard)] = outcome
    return lines, up, writable, heard


def test_a_redis_that_is_well(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with redis_server(tmp_path, password=PASSWORD.replace("/", "")) as server:
        url = f"redis://:{urllib.parse.quote(PASSWORD.replace('/', ''))}@127.0.0.1:{server.port}/3"
        lines, up, writable, heard = asked(url, caplog)
        with server.client() as client:
            client.select(3)
            assert set(client.keys()) == {b"sightword:label-sets", b"sightword:label-set-summaries"}
    assert (up, writable, heard) == (1, 1, "stored")
    assert lines == [f"Redis at 127.0.0.1:{server.port} answers"]


def own_address() -> str:
    """Of this machine in its network: what comes from there is none of the loopback's."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, suppress(OSError):
        probe.connect(("192.0.2.1", 9))
        if not (address := str(probe.getsockname()[0])).startswith("127."):
            return address
    pytest.skip("this machine is in no network")


@contextmanager
def started(folder: Path, *flags: str) -> Iterator[str]:
    with redis_server(folder, *flags) as server:
        yield f"redis://127.0.0.1:{server.port}"


def allowed(folder: Path, *rules: str) -> AbstractContextManager[str]:
    """For anybody, but only what the rules of access say."""
    return started(folder, "--user", "default", "on", "nopass", *rules)


@contextmanager
def protected(folder: Path) -> Iterator[str]:
    address = own_address()
    with redis_server(folder, "--bind", "0.0.0.0", "--protected-mode", "yes") as server:
        yield f"redis://{address}:{server.port}"


@contextmanager
def locked(folder: Path, credentials: str, *flags: str) -> Iterator[str]:
    with redis_server(folder, *flags, password="another-one") as server:
        yield f"redis://{credentials}127.0.0.1:{server.port}"


@contextmanager
def without_auth(folder: Path) -> Iterator[str]:
    """Redis repeats the command that it does not know, and with it the password."""
    with redis_server(folder, "--rename-command", "AUTH", "") as server:
        yield f"redis://:{QUOTED}@127.0.0.1:{server.port}"


@contextmanager
def stale(folder: Path) -> Iterator[str]:
    with redis_server(folder) as server:
        with server.client() as client:
            client.config_set("replica-serve-stale-data", "no")
            client.replicaof("127.0.0.1", 9)
        yield f"redis://127.0.0.1:{server.port}"


@contextmanager
def unsaved(folder: Path) -> Iterator[str]:
    """The last snapshot failed, so that Redis takes no more writes."""
    (folder / "snapshots").mkdir()
    with redis_server(folder, "--save", "3600 1", "--dir", str(folder / "snapshots")) as server:
        shutil.rmtree(folder / "snapshots")
        with server.client() as client:
            client.bgsave()
            while client.info("persistence")["rdb_last_bgsave_status"] == "ok":
                pass
        yield f"redis://127.0.0.1:{server.port}"


@contextmanager
def web_server(_: Path) -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"redis://:{QUOTED}@127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def nobody(_: Path) -> Iterator[str]:
    yield f"redis://:{QUOTED}@127.0.0.1:{free_port()}"


@contextmanager
def nowhere(_: Path) -> Iterator[str]:
    yield f"redis://:{QUOTED}@redis.invalid"


State = tuple[Callable[[Path], AbstractContextManager[str]], str, str]
UNUSABLE: dict[str, State] = {
    "protected": (protected, "DENIED Redis is running in protected mode", "refuses the commands"),
    "no password": (lambda folder: locked(folder, ""), "NOAUTH Authentication required", "credentials"),
    "wrong password": (lambda folder: locked(folder, f":{QUOTED}@"), "WRONGPASS invalid", "credentials"),
    "wrong user": (lambda folder: locked(folder, f"somebody:{QUOTED}@"), "WRONGPASS invalid", "credentials"),
    "no AUTH": (without_auth, "unknown command 'AUTH'", "refuses the commands"),
    "may not read": (
        lambda folder: allowed(folder, "~*", "+@all", "-mget", "-hkeys", "-eval"),
        "NOPERM",
        "credentials or permissions",
    ),
    "other keys": (
        lambda folder: allowed(folder, "~others:*", "+@all"),
        "NOPERM",
        "credentials or permissions",
    ),
    "replica without its primary": (stale, "MASTERDOWN", "refuses the commands"),
    "part of a cluster": (
        lambda folder: started(folder, "--cluster-enabled", "yes"),
        "CLUSTERDOWN",
        "refuses the commands",
    ),
    "web server": (web_server, "what answers is not Redis", "is none"),
    "nobody": (nobody, "Error 111 connecting to 127.0.0.1", "cannot be reached"),
    "nowhere": (nowhere, "connecting to redis.invalid:6379", "cannot be reached"),
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_a_redis_that_cannot_be_used(name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    start, words, reason = UNUSABLE[name]
    with start(tmp_path) as url:
        lines, up, _, heard = asked(url, caplog)
    assert up == 0
    [line] = lines
    assert line.startswith("Redis at ")
    assert words in line
    assert heard.startswith("unavailable: ")
    assert reason in heard
    assert len(line) < 400


READ_ONLY: dict[str, State] = {
    "full": (
        lambda folder: started(folder, "--maxmemory", "1", "--maxmemory-policy", "noeviction"),
        "OOM command not allowed",
        "their store is full",
    ),
    "replica": (lambda folder: started(folder, "--replicaof", "127.0.0.1", "9"), "READONLY You can't", "read-only"),
    "unsaved": (unsaved, "MISCONF Redis is configured to save RDB snapshots", "refuses the commands"),
    "may not write": (
        lambda folder: allowed(folder, "~*", "+@all", "-set", "-hset"),
        "NOPERM",
        "credentials or permissions",
    ),
}


@pytest.mark.parametrize("name", READ_ONLY)
def test_a_redis_that_only_reads(name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    start, words, reason = READ_ONLY[name]
    with start(tmp_path) as url:
        lines, up, writable, heard = asked(url, caplog)
    assert (up, writable) == (1, 0)
    assert any("stores no vectors" in line and words in line for line in lines)
    assert reason in heard


def test_a_redis_that_runs_no_scripts(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with allowed(tmp_path, "~*", "+@all", "-eval") as url:
        lines, up, writable, heard = asked(url, caplog)
    assert (up, writable) == (1, 1)
    assert "answers" in lines[0]
    assert "Redis does not keep the label sets: auth: NOPERM" in lines[1]
    assert "credentials or permissions" in heard


def test_a_redis_that_is_loading_and_one_that_echoes_what_it_is_sent(caplog: pytest.LogCaptureFixture) -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        sent = await reader.read(65536)
        writer.write(b"-ERR what is " + sent.replace(b"\r\n", b" ") + b"?\r\n")
        await writer.drain()

    async def scenario() -> None:
        for behave in (answering(b"-LOADING Redis is loading the dataset in memory\r\n"), echo):
            async with peer(behave) as url:
                service = service_of(url.replace("//", f"//:{QUOTED}@"))
                await service.check_stores()
                assert service.metrics.registry.get_sample_value("sightword_redis_up") == 0
                await service.aclose()

    with caplog.at_level(logging.INFO, "service"):
        asyncio.run(scenario())
    assert "LOADING Redis is loading the dataset in memory" in caplog.messages[0]
    assert "what is" in caplog.messages[1]
    assert PASSWORD not in caplog.text


def test_a_redis_that_never_answers_does_not_hold_up_the_start(caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepted by the kernel, and never answered
        url = f"redis://:{QUOTED}@127.0.0.1:{silent.getsockname()[1]}"
        lines, up, _, heard = asked(url, caplog, probe_timeout_s=0.5)
    assert up == 0
    assert "no answer in time" in lines[0]
    assert "does not answer in time" in heard


def test_the_service_asks_before_it_listens(bundle_path: Path, tmp_path: Path) -> None:
    with ExitStack() as stack:
        server = stack.enter_context(redis_server(tmp_path, password="another-one"))
        good = stack.enter_context(running(tmp_path, bundle_path, redis_url=server.url))
        bad = stack.enter_context(running(tmp_path, bundle_path, redis_url=server.url.replace("another", QUOTED)))
        for service, up, line in ((good, 1, "answers"), (bad, 0, "cannot be used (WRONGPASS")):
            told = service.log()
            assert told.count(f"Redis at 127.0.0.1:{server.port} ") == 1
            assert told.index(f"Redis at 127.0.0.1:{server.port} {line}") < told.index("running on http")
            assert service.metric("sightword_redis_up") == service.metric("sightword_redis_writable") == up
        answer = httpx.put(f"{bad.url}/label-sets/new", json={"labels": ["cat"]})
        assert error_of(answer) == (503, "unavailable", None)
        assert "credentials" in answer.json()["error"]["message"]
        shown = [httpx.get(f"{bad.url}{path}").text for path in ("/info", "/metrics", "/label-sets")]
        told = "".join([answer.text, bad.log(), *shown])
        assert QUOTED not in told
        assert PASSWORD not in told
