"""What is sent again, after how long, and what is not."""

from __future__ import annotations

import itertools
import time
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate

import httpx
import numpy as np
import pytest

import sightword
from benchmarks.service_process import Running, free_port
from sightword.errors import (
    ConnectionFailedError,
    DeadlineExceededError,
    InferenceError,
    OverloadedError,
    UnavailableError,
    UnexpectedAnswerError,
)
from sightword.local.embedder import Local
from sightword.protocol import Answer
from sightword.retries import Attempts
from tests.client.bad_line import BadLine, answer, bad_line, cut, dribble, hang_up, refusal, wait

number = itertools.count()


def fresh(count: int = 1) -> list[str]:
    """Texts that no cache knows."""
    return [f"text number {next(number)}" for _ in range(count)]


def client_of(line: BadLine, timeout_s: float = 60, **options: int) -> sightword.Client:
    return sightword.Client(line.url, timeout_s=timeout_s, **options)


@pytest.mark.parametrize(
    "busy", [refusal(429, "overloaded", retry_after="1"), refusal(503, "unavailable", retry_after="1")]
)
def test_retry_after_is_honoured(line: BadLine, local: Local, busy: bytes) -> None:
    line.script.extend([busy, busy])
    texts = fresh()
    with client_of(line) as client:
        np.testing.assert_allclose(client.embed(texts), local.embed(texts), atol=1e-6)
    first, second, third = line.times()
    assert second - first >= 1
    assert third - second >= 1
    assert line.calls == [("POST", "/embed")] * 3


def test_a_date_in_retry_after_is_honoured(line: BadLine) -> None:
    at = formatdate(time.time() + 3, usegmt=True)  # of whole seconds
    line.script.append(refusal(429, "overloaded", retry_after=at))
    with client_of(line) as client:
        client.embed(fresh())
    assert line.times()[1] - line.times()[0] > 1.5


def test_who_is_asked_to_wait_longer_than_he_may_gets_the_sentence_at_once(line: BadLine) -> None:
    line.script.append(refusal(429, "overloaded", retry_after="100"))
    began = time.monotonic()
    with client_of(line, timeout_s=20) as client, pytest.raises(OverloadedError, match=r"So it is\. \(request r-1\)"):
        client.embed(fresh())
    assert time.monotonic() - began < 10


def test_without_retry_after_waits_grow(line: BadLine) -> None:
    line.script.extend([refusal(503, "unavailable")] * 3)
    with client_of(line) as client:
        client.embed(fresh())
    waits = np.diff(line.times())
    assert waits[0] < 0.6
    assert 0.5 <= waits[2] < 1.6


FAULTS = {
    "hung up": hang_up, "cut": cut, "502": answer(502, b"bad gateway"), "500": answer(500, b"Internal Server Error"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_broken_connection_is_tried_twice_more(line: BadLine, local: Local, fault: object) -> None:
    line.script.extend([fault, fault])  # type: ignore[list-item]
    texts = fresh()
    with client_of(line) as client:
        np.testing.assert_allclose(client.embed(texts), local.embed(texts), atol=1e-6)
        line.script.extend([fault] * 9)  # type: ignore[list-item]
        with pytest.raises((ConnectionFailedError, UnexpectedAnswerError, UnavailableError)):
            client.embed(fresh())
    assert len(line.calls) == 3 + 3


def test_what_the_service_could_not_do_is_not_asked_again(line: BadLine) -> None:
    with client_of(line) as client:
        for status, code, kind in (
            (500, "inference_error", InferenceError),
            (504, "deadline_exceeded", DeadlineExceededError),
        ):
            line.script.append(refusal(status, code))
            with pytest.raises(kind):
                client.embed(fresh())
    assert len(line.calls) == 2


@pytest.mark.parametrize("fault", [wait, dribble])
def test_the_time_is_for_all_of_it(line: BadLine, fault: object) -> None:
    line.script.append(fault)  # type: ignore[arg-type]
    began = time.monotonic()
    with client_of(line, timeout_s=1) as client:
        client.info()
        with pytest.raises(DeadlineExceededError, match="within 1 s"):
            client.embed([f"{next(number)}"] * 40)
    assert time.monotonic() - began < 8


def test_one_lost_request_of_many_costs_no_order(line: BadLine, local: Local) -> None:
    line.script.extend([None, hang_up, None, refusal(429, "overloaded", retry_after="0"), cut])
    texts = fresh(200)
    with client_of(line, items_per_request=16) as client:
        np.testing.assert_allclose(client.embed(texts), local.embed(texts), atol=1e-6)
    assert len(line.calls) == 13 + 3


def test_a_wrong_address_is_told_soon_and_an_absent_server_is_waited_for(service: Running) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    began = time.monotonic()
    with (
        sightword.Client(url) as client,
        pytest.raises(ConnectionFailedError, match="SIGHTWORD_URL or url= says where"),
    ):
        client.embed("a cat")
    assert time.monotonic() - began < 5
    now = [0.0]
    for known, patient in ((False, False), (True, True)):
        attempts = Attempts(url, 60, known, clock=lambda: now[0])
        for _ in range(2):
            attempts.after_failure(httpx.ConnectError("refused"))
        if patient:
            attempts.after_failure(httpx.ConnectError("refused"))
        else:
            with pytest.raises(ConnectionFailedError):
                attempts.after_failure(httpx.ConnectError("refused"))


def test_a_restart_is_survived(service: Running, local: Local) -> None:
    """A server that has answered before is waited for, with nobody listening meanwhile."""
    texts, port = fresh(), free_port()
    with sightword.Client(f"http://127.0.0.1:{port}", timeout_s=60) as client, ThreadPoolExecutor(1) as other:
        with bad_line(service.url, port):
            client.info()
        embedding = other.submit(client.embed, texts)
        time.sleep(3)
        assert not embedding.done()
        with bad_line(service.url, port):
            np.testing.assert_allclose(embedding.result(), local.embed(texts), atol=1e-6)


def test_time_that_is_over_ends_the_attempts() -> None:
    now = [0.0]
    attempts = Attempts("http://here", 10, True, clock=lambda: now[0])
    assert attempts.remaining_s() == 10
    now[0] = 9.9
    assert attempts.after_answer(Answer(429, {"retry-after": "1"}, b"")) is None
    now[0] = 10.0
    with pytest.raises(DeadlineExceededError):
        attempts.remaining_s()


@pytest.mark.parametrize("value", ["soon", "-1", "Thu, 99 Foo 2000", ""])
def test_what_is_no_retry_after_is_as_none(value: str) -> None:
    wait_s = Attempts("http://here", 10, True).after_answer(Answer(429, {"retry-after": value}, b""))
    assert wait_s is not None
    assert 0 < wait_s <= 0.25


def test_label_sets_are_stored_again_and_deleted_once(line: BadLine) -> None:
    """Both are idempotent: a PUT is as one, and a DELETE whose first answer was lost finds nothing more."""
    with client_of(line) as client:
        line.script.append(hang_up)
        assert client.label_sets.put("lost", ["cat", "dog"]).labels == ["cat", "dog"]
        line.script.append(cut)
        assert client.label_sets.delete("lost") is False
        assert "lost" not in client.label_sets.list()
    assert [method for method, _ in line.calls] == ["PUT", "PUT", "DELETE", "DELETE", "GET"]


def test_the_service_is_told_how_long_anybody_waits(line: BadLine) -> None:
    line.script.append(refusal(429, "overloaded", retry_after="1"))
    with client_of(line, timeout_s=9) as client:
        client.embed(fresh())
    first, second = (float(headers["x-request-timeout"]) for _, path, headers, _ in line.seen if path == "/embed")
    assert 8.5 < first <= 9
    assert second <= first - 1
