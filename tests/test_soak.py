"""The soak at its smallest: that it runs to its end, and that what does not depend on speed holds."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from benchmarks.client import NO_ANSWER, NOT_CONNECTED, Client, closed_loop, open_loop, request
from benchmarks.inputs import image_requests, jpeg_files, texts
from benchmarks.kernel_times import KernelTimedClient
from benchmarks.service_process import free_port

PHASES = ("texts", "memory", "fairness", "redis", "reload", "stop")  # "pictures" is "texts" with other requests


@pytest.mark.timeout(600)
def test_every_phase_runs_and_keeps_what_needs_no_speed(tmp_path: Path) -> None:
    chosen = [flag for phase in PHASES for flag in ("--phase", phase)]
    command = [sys.executable, "-m", "benchmarks.soak", "--size", "smallest", "--results", str(tmp_path), *chosen]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500)
    assert done.returncode in (0, 1), done.stderr
    [report] = tmp_path.glob("soak-*.json")
    told = json.loads(report.read_text("utf-8"))
    assert report.with_suffix(".md").read_text("utf-8").startswith("# Soak of ")
    assert told["machine"]["cores"] >= 1
    assert len(told["phases"]) == len(PHASES)
    broken = [check for phase in told["phases"] for check in phase["checks"] if not (check["kept"] or check["speed"])]
    assert broken == [], done.stdout
    assert all(phase["checks"] or "skipped" in phase["figures"] for phase in told["phases"])


@asynccontextmanager
async def a_server(answer: bytes | None, delay_s: float = 0) -> AsyncIterator[str]:
    """Answers every request with these bytes, or hangs up."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                await asyncio.sleep(delay_s)
                if answer is None:
                    break
                writer.write(answer)
        except asyncio.IncompleteReadError:
            pass
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nx-kind: good\r\n\r\nhi"
LAST = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nhi"
PING = request("GET", "/ping")


def test_the_load_generator_counts_what_it_is_answered() -> None:
    async def scenario() -> None:
        async with a_server(OK) as url:
            client = Client(url, keep=True)
            answers = await closed_loop(client, iter([PING] * 20), 4, lambda begun: begun < 20)
            assert [answer.status for answer in answers] == [200] * 20
            assert (answers[0].body, answers[0].headers[b"x-kind"]) == (b"hi", b"good")
            assert client.opened == 4
            client.close()
        async with a_server(LAST) as url:
            client = Client(url)
            assert [(await client.send(PING)).status for _ in range(3)] == [200] * 3
            assert client.opened == 3

    asyncio.run(asyncio.wait_for(scenario(), 20))


LARGE = request("POST", "/large", bytes(8 * 2**20))


def test_an_answer_is_timed_by_when_it_came_and_not_by_when_it_was_read() -> None:
    """And a request that the kernel takes in pieces is sent whole."""

    def serve(listening: socket.socket) -> None:
        connection, _ = listening.accept()
        with connection:
            for asked in (PING, LARGE, PING):
                received = 0
                while received < len(asked):
                    received += len(connection.recv(2**16))
                time.sleep(0.1)
                connection.sendall(OK)

    async def scenario(url: str) -> None:
        client = KernelTimedClient(url)
        assert [(await client.send(data)).status for data in (PING, LARGE)] == [200, 200]
        asking = client.start(PING)
        time.sleep(3.0)
        answer = await asking
        assert 0.1 <= answer.seconds < 2.9
        assert (answer.status, client.opened) == (200, 1)
        client.close()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=serve, args=[listening], daemon=True).start()
        asyncio.run(asyncio.wait_for(scenario(f"http://127.0.0.1:{listening.getsockname()[1]}"), 60))


@pytest.mark.parametrize("kind", [Client, KernelTimedClient])
def test_an_open_loop_does_not_wait_for_answers(kind: type[Client]) -> None:
    async def scenario() -> None:
        async with a_server(OK, delay_s=0.3) as url:
            client = kind(url)
            answers = await open_loop(client, iter([PING] * 1000), rate=100, seconds=0.5)
            assert len(answers) in (50, 51)
            assert {answer.status for answer in answers} == {200}
            assert client.opened > 10
            client.close()

    asyncio.run(asyncio.wait_for(scenario(), 20))


@pytest.mark.parametrize("kind", [Client, KernelTimedClient])
def test_what_is_not_answered_is_told_apart(kind: type[Client]) -> None:
    async def scenario() -> None:
        async with a_server(None) as url:
            assert (await kind(url).send(PING)).status == NO_ANSWER
        async with a_server(OK, delay_s=30) as url:
            assert (await kind(url, timeout_s=0.1).send(PING)).status == NO_ANSWER
            [answer] = await open_loop(kind(url, timeout_s=0.1), iter([PING]), rate=1, seconds=0.5)
            assert answer.status == NO_ANSWER
        assert (await kind(f"http://127.0.0.1:{free_port()}").send(PING)).status == NOT_CONNECTED

    asyncio.run(asyncio.wait_for(scenario(), 20))


def test_inputs_differ() -> None:
    files = jpeg_files(8)
    assert len(set(files)) == 8
    requests = image_requests(files)
    assert len({next(requests) for _ in range(20)}) == 20
    words = texts()
    lengths = {len(next(words).split()) for _ in range(200)}
    assert min(lengths) == 2
    assert max(lengths) > 20
