"""Connections that do what no client should: nothing, slowly, too much, or two things at once."""

from __future__ import annotations

import json
import resource
import select
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import httpx
import psutil
import pytest

from benchmarks.service_process import PATIENCE_S, Running, running
from tests.service.raw import (
    LAST,
    answer,
    connected,
    eventually,
    exchange,
    post,
    refused,
    request,
    statuses,
    until_closed,
)

TEXT = b'{"inputs": "a cat"}'
CHUNKED = "transfer-encoding: chunked"
LIVE = request("/health/live")
LAST_LIVE = request("/health/live", LAST)


@pytest.fixture(scope="module")
def impatient(bundle_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("impatient")
    module = "tests.service.impatient_service"
    with running(folder, bundle_path, module=module, admin_key="an operator's key") as service:
        yield service


@pytest.fixture(scope="module")
def crowded(bundle_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """With descriptors for some 64 connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (384, hard))  # what a child has; this process has fewer open
    try:
        with running(tmp_path_factory.mktemp("crowded"), bundle_path) as service:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            yield service
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class TestSlow:
    @pytest.mark.parametrize(
        "sent",
        [b"", b"\r\n", b"GET", b"GET /info HTTP/1.1\r\nhost: a", LIVE + b"GET /in", LIVE + b"\r\n"],
        ids=["nothing", "an empty line", "a method", "half a head", "half of a second head", "a line after a request"],
    )
    def test_what_is_no_whole_head_is_cut(self, impatient: Running, sent: bytes) -> None:
        with connected(impatient) as connection:
            connection.sendall(sent[: len(LIVE)] if sent.startswith(LIVE) else sent)
            if sent.startswith(LIVE):
                assert statuses(answer(connection)) == [200]
                connection.sendall(sent[len(LIVE) :])
            assert until_closed(connection) == b""

    def test_one_byte_at_a_time_does_not_help(self, impatient: Running) -> None:
        with connected(impatient) as connection:
            connection.sendall(b"GET /info HTTP/1.1\r\n")
            connection.settimeout(0.05)

            def is_cut() -> bool:
                try:
                    connection.sendall(b"x")
                    return connection.recv(1) == b""
                except TimeoutError:
                    return False
                except OSError:
                    return True

            eventually(is_cut)

    def test_the_rest_of_a_refused_body_is_not_awaited_for_ever(self, impatient: Running) -> None:
        with connected(impatient) as connection:
            connection.sendall(request("/admin/reload", "content-length: 100", method="POST", body=b"x"))
            assert statuses(answer(connection)) == [401]
            connection.sendall(b"y")
            assert until_closed(connection) == b""

    def test_the_rest_of_a_refused_body_is_not_the_next_request(self, service: Running) -> None:
        with connected(service) as connection:
            head = request("/admin/reload", f"content-length: {len(LIVE)}", method="POST")
            connection.sendall(head)
            assert statuses(answer(connection)) == [401]
            connection.sendall(LIVE + request("/nothing", LAST))
            assert statuses(until_closed(connection)) == [404]

    def test_a_connection_may_be_idle_between_requests(self, impatient: Running) -> None:
        with connected(impatient) as connection:
            for _ in range(2):
                connection.sendall(LIVE)
                assert statuses(answer(connection)) == [200]
                time.sleep(1.5)  # longer than the patience for a head


class TestUnreadAnswers:
    def test_are_held_for_a_while_only(self, impatient: Running) -> None:
        """More of them than the buffers of the system take."""
        many = post(json.dumps({"inputs": ["a cat"] * 512}).encode())
        process = psutil.Process(impatient.process.pid)
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.settimeout(PATIENCE_S)
            client.connect(("127.0.0.1", httpx.URL(impatient.url).port))
            client.sendall(many * 8)
            eventually(lambda: impatient.metric("sightword_queue_bytes") > 500_000)  # an unread answer is counted
            port = client.getsockname()[1]
            eventually(lambda: port not in {c.raddr.port for c in process.net_connections() if c.raddr})
            eventually(lambda: impatient.metric("sightword_queue_bytes") == 0)
        assert "Traceback" not in impatient.log()

    def test_a_small_answer_that_nobody_reads_does_not_keep_a_closed_connection(self, impatient: Running) -> None:
        process = psutil.Process(impatient.process.pid)
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.settimeout(PATIENCE_S)
            client.connect(("127.0.0.1", httpx.URL(impatient.url).port))
            port = client.getsockname()[1]
            for _ in range(40):
                client.sendall(request("/openapi.json"))
            client.sendall(request("/openapi.json", LAST))
            eventually(lambda: port not in {c.raddr.port for c in process.net_connections() if c.raddr})

    def test_a_slow_reader_gets_all_of_it(self, impatient: Running) -> None:
        many = json.dumps({"inputs": ["a cat"] * 256}).encode()
        with connected(impatient) as client:
            client.sendall(post(many, LAST))
            received = b""
            while part := client.recv(200_000):
                received += part
                time.sleep(0.01)
        assert len(json.loads(received.partition(b"\r\n\r\n")[2])["data"]) == 256


class TestMany:
    def test_too_many_are_told_so(self, crowded: Running) -> None:
        with ExitStack() as stack:
            for _ in range(64):
                stack.enter_context(connected(crowded)).sendall(b"GET")
            refused(exchange(crowded), 503, "unavailable")
        eventually(lambda: statuses(exchange(crowded, LAST_LIVE)) == [200])

    def test_idle_ones_make_room(self, crowded: Running) -> None:
        with ExitStack() as stack:
            for _ in range(100):
                connection = stack.enter_context(connected(crowded))
                connection.sendall(LIVE)
                assert statuses(answer(connection)) == [200]

    def test_the_one_that_has_been_idle_for_longest_makes_room(self, crowded: Running) -> None:
        with ExitStack() as stack:
            first, second = (stack.enter_context(connected(crowded)) for _ in range(2))
            for connection in (second, first, second):  # whoever was used last is idle for the least time
                connection.sendall(LIVE)
                assert statuses(answer(connection)) == [200]
            closed: list[socket.socket] = []
            while not closed:
                another = stack.enter_context(connected(crowded))
                another.sendall(LIVE)
                assert statuses(answer(another)) == [200]
                closed, _, _ = select.select([first, second], [], [], 0)
            assert closed == [first]
            with suppress(ConnectionResetError):
                assert first.recv(1) == b""


@pytest.mark.parametrize("reset", [False, True])
def test_clients_that_leave_in_the_middle(service: Running, reset: bool) -> None:
    chunked = request("/embed", CHUNKED, method="POST")
    for part in (b"", b"POST /embed", post(TEXT)[:-5], post(TEXT), post(TEXT) * 5, chunked, post(TEXT) + chunked):
        with connected(service) as connection:
            connection.sendall(part)
            if reset:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            else:
                connection.shutdown(socket.SHUT_WR)
                until_closed(connection)  # a half-closed connection is a client that has gone
    assert "Traceback" not in service.log()
    eventually(lambda: service.metric("sightword_queue_bytes") == 0)


def test_a_full_service_does_not_answer_a_whole_flood(bundle_path: Path, tmp_path: Path) -> None:
    """Thousands of requests sent ahead on one connection, which cost nothing to refuse, would hold up everybody."""
    long = {"inputs": [f"{number} words that are read in a row, one after the other" for number in range(4_000)]}
    flood = request("/embed", "content-length: 0", method="POST") * 2_000
    with running(tmp_path, bundle_path, queue_items="1", max_items="5000", timeout_s="120") as service:

        def ask() -> None:
            with suppress(httpx.TransportError):
                httpx.post(f"{service.url}/embed", json=long, timeout=300)

        busy = threading.Thread(target=ask)
        busy.start()
        eventually(lambda: service.metric("sightword_queue_items") > 0)
        with connected(service) as connection:
            connection.sendall(flood)
            received = until_closed(connection)
        assert 0 < statuses(received).count(429) < 100
        service.process.kill()  # rather than wait for what keeps it busy
        busy.join()
