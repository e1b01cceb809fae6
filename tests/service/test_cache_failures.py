"""Redis in every bad state: a lookup is a miss then, never an error and never long."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
import trustme

from benchmarks.redis_server import RedisServer
from benchmarks.service_process import free_port
from service.cache.breaker import FAILURES
from tests.service.redis_or_skip import redis_server
from tests.service.tiers import (
    DIMENSIONS,
    PATIENCE_S,
    Tiers,
    expect_found,
    expect_given_up,
    key,
    numbers,
    patient,
    run,
    until,
    vector,
)


@pytest.mark.parametrize("url", ["redis://127.0.0.1:9", "redis://redis.invalid:6379"])  # discard: nobody listens
def test_nobody_there(url: str, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        cache = Tiers(url)
        for _ in range(10 * FAILURES):
            cache.put(key(1), vector(1))
            assert await cache.get([key(2)], DIMENSIONS) == [None]
            assert numbers(await cache.get([key(1)], DIMENSIONS)) == [1]
        assert not cache.is_up()
        assert cache.errors("connection") + cache.errors("timeout") >= FAILURES
        await cache.aclose()

    run(scenario)
    assert len([record for record in caplog.records if record.levelname == "WARNING"]) == 1


@pytest.mark.parametrize("credentials", ["", ":wrong-secret@", "somebody:wrong-secret@"])
def test_a_password_that_is_missing_or_wrong(
    tmp_path: Path, credentials: str, caplog: pytest.LogCaptureFixture
) -> None:
    with redis_server(tmp_path, password="right-secret") as server:

        async def scenario() -> None:
            cache = patient(f"redis://{credentials}127.0.0.1:{server.port}")
            await expect_given_up(cache, "auth")
            await cache.aclose()
            right = patient(server.url, cache_bytes=0)
            await expect_found(right)
            await right.aclose()

        with caplog.at_level("DEBUG"):
            run(scenario)
    assert "secret" not in caplog.text


def test_it_is_asked_again_when_it_is_back(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with redis_server(tmp_path) as server, caplog.at_level("INFO", "service"):

        async def scenario() -> None:
            cache = Tiers(server.url, cache_bytes=0)
            await expect_found(cache)
            for fail, mend in ((server.kill, server.start), (server.pause, server.resume)):
                fail()
                while cache.is_up():
                    assert await cache.get([key(1)], DIMENSIONS) == [None]
                mend()
                await until(lambda: cache.is_up())  # nobody asks meanwhile
                await expect_found(cache)
            await cache.aclose()

        run(scenario)
    told = [record.getMessage() for record in caplog.records]
    # On a machine that stands still for a while it may fail once more, and come back.
    assert 4 <= len(told) <= 8, told
    assert all("fails" in message for message in told[::2]), told
    assert all("answers again" in message for message in told[1::2]), told


def test_restarted_between_two_lookups_costs_nothing(tmp_path: Path) -> None:
    """The connections kept open are dead then, which must not count as failures."""

    async def scenario() -> None:
        with redis_server(tmp_path) as server:
            cache = patient(server.url)
            await asyncio.gather(*(cache.get([key(number)], DIMENSIONS) for number in range(20)))
            server.kill()
            server.start()
            await asyncio.sleep(0.1)
            await asyncio.gather(*(cache.get([key(number)], DIMENSIONS) for number in range(20)))
            assert cache.errors("connection") == 0
            assert cache.is_up()
            await cache.aclose()

    run(scenario)


def test_full_it_still_answers(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with redis_server(tmp_path, "--maxmemory-policy", "noeviction") as server, caplog.at_level("INFO", "service"):

        async def scenario() -> None:
            cache = patient(server.url, cache_bytes=0)
            await expect_found(cache)
            with server.client() as client:
                client.config_set("maxmemory", 1)
            for number in range(2, 100):
                cache.put(key(number), vector(number))
                if number % 20 == 0:
                    assert numbers(await cache.get([key(1), key(-1)], DIMENSIONS)) == [1, None]
            await until(lambda: cache.errors("full") == 98)
            assert cache.is_up()
            with server.client() as client:
                client.config_set("maxmemory", 0)
            await expect_found(cache)
            await cache.aclose()

        run(scenario)
    told = [record.getMessage() for record in caplog.records]
    assert told == ["Redis refuses to store vectors (full); it is still asked for them"]


def test_a_loop_that_is_late_does_not_lose_redis(tmp_path: Path) -> None:
    async def scenario() -> None:
        with redis_server(tmp_path) as server:
            cache = Tiers(server.url, cache_bytes=0)
            await expect_found(cache)
            for _ in range(FAILURES):
                lookups = [asyncio.create_task(cache.get([key(1)], DIMENSIONS)) for _ in range(4 * FAILURES)]
                await asyncio.sleep(0.001)
                time.sleep(0.1)
                await asyncio.gather(*lookups)
                await expect_found(cache)
            assert cache.is_up()
            await cache.aclose()

    run(scenario)


def test_closing_does_not_wait_for_a_redis_that_hangs(tmp_path: Path) -> None:
    async def scenario() -> None:
        with redis_server(tmp_path) as server:
            cache = Tiers(server.url)
            await expect_found(cache)
            server.pause()
            for number in range(1000):
                cache.put(key(number), vector(number))
            async with asyncio.timeout(PATIENCE_S / 2):
                await cache.aclose()

    run(scenario)


def test_a_cancelled_lookup_is_no_failure(tmp_path: Path) -> None:
    async def scenario() -> None:
        with redis_server(tmp_path) as server:
            cache = patient(server.url)
            await expect_found(cache)
            server.pause()
            for number in range(3 * FAILURES):
                lookup = asyncio.create_task(cache.get([key(-number)], DIMENSIONS))
                await asyncio.sleep(0.001)
                lookup.cancel()
                assert isinstance((await asyncio.gather(lookup, return_exceptions=True))[0], asyncio.CancelledError)
            server.resume()
            assert cache.is_up()
            assert sum(cache.errors(kind) for kind in ("timeout", "connection", "protocol")) == 0
            await cache.aclose()

    run(scenario)


def test_tls(tmp_path: Path) -> None:
    authority, port = trustme.CA(), free_port()
    certificate = authority.issue_cert("localhost", "127.0.0.1")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    flags = ["--tls-port", str(port), "--tls-auth-clients", "no"]
    flags += ["--tls-cert-file", str(tmp_path / "cert.pem"), "--tls-key-file", str(tmp_path / "key.pem")]
    flags += ["--tls-ca-cert-file", str(tmp_path / "ca.pem")]
    server = RedisServer(tmp_path, *flags)
    try:
        server.start()
    except AssertionError:
        pytest.skip("this redis-server was built without TLS")

    async def scenario() -> None:
        trusting = patient(f"rediss://127.0.0.1:{port}?ssl_ca_certs={tmp_path / 'ca.pem'}", cache_bytes=0)
        await expect_found(trusting)
        await trusting.aclose()
        strict = patient(f"rediss://127.0.0.1:{port}")
        await expect_given_up(strict, "connection")
        await strict.aclose()

    try:
        run(scenario)
    finally:
        server.kill()
