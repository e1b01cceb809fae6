"""Numbers of requests: read as JSON has them, within their range, or refused by name. None becomes a 500 or a null."""

from __future__ import annotations

import httpx
import pytest

from benchmarks.service_process import Running
from tests.service.pictures import read
from tests.service.raw import LAST, exchange, post, refused_param, statuses

TEXT = b'{"inputs": "a cat"}'
NOT_SECONDS = [
    b"", b"0", b"-1", b"-0", b"+5", b"1_000", b"5 5", b"5s", b"0x10", b"1,000", b"nan", b"inf", b"Infinity", b"-inf",
    b"1e400", b"9" * 400, b"9" * 5000, b"0." + b"0" * 5000 + b"1", b"1e-400", "\u0661\u0660".encode(),
    "\uff15".encode(), b"1e", b".", b"e5", b"5e+",
]  # fmt: skip
NOT_NUMBERS = [
    "1_0",
    "+1",
    " 1",
    "1 ",
    "\u0661",
    "0x1",
    "1e",
    "",
    "nan",
    "inf",
    "-inf",
    "1e400",
    "9" * 5000,
    "true",
    "1,0",
]


def header(name: bytes, value: bytes) -> bytes:
    head, _, body = post(TEXT, LAST).partition(b"\r\n\r\n")
    return head + b"\r\n" + name + b": " + value + b"\r\n\r\n" + body


@pytest.mark.parametrize("value", NOT_SECONDS, ids=lambda value: repr(value[:12]))
def test_a_timeout_that_is_no_number(service: Running, value: bytes) -> None:
    refused_param(exchange(service, header(b"x-request-timeout", value)), 422, "x-request-timeout")


@pytest.mark.parametrize(
    "value", [b"60", b"60.5", b"60.", b"6e1", b"6E+1", b" 60 ", b"0060", b"1e9", b"60.00000000000001"]
)
def test_a_timeout_that_is_one(service: Running, value: bytes) -> None:
    assert statuses(exchange(service, header(b"x-request-timeout", value))) == [200]


def test_two_timeouts(service: Running) -> None:
    refused_param(
        exchange(service, header(b"x-request-timeout", b"5\r\nx-request-timeout: 60")), 422, "x-request-timeout"
    )
    assert statuses(exchange(service, header(b"x-request-timeout", b"60\r\nx-request-timeout: 60"))) == [200]


@pytest.mark.parametrize("weight", ["nan", "inf", "1e400", "5", "-1", "1.1", "0x1", "", "9" * 5000, "\u0661"])
def test_a_weight_in_accept_that_is_none(service: Running, weight: str) -> None:
    value = f"application/x-npy;q={weight}".encode()
    refused_param(exchange(service, header(b"accept", value)), 422, "accept")


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        ("application/x-npy", "application/x-npy"),
        ("application/x-npy;q=0.001", "application/x-npy"),
        ("application/x-npy; q=0", "application/json"),
        ("application/x-npy;q=0.000, application/octet-stream; q=0.5", "application/octet-stream"),
        ("application/x-npy;q=0.5, application/octet-stream", "application/octet-stream"),
        ("application/x-npy;q=0.5, application/json", "application/json"),
        ("application/x-npy, application/json;q=0.9, */*;q=0.1", "application/x-npy"),
        ("text/html,application/xhtml+xml,*/*;q=0.8", "application/json"),
    ],
)
def test_weights_choose_the_form_of_the_answer(client: httpx.Client, accept: str, media_type: str) -> None:
    answer = client.post("/embed", json={"inputs": "a cat"}, headers={"accept": accept})
    assert (answer.status_code, answer.headers["content-type"]) == (200, media_type)


@pytest.mark.parametrize("option", ["top_k", "threshold"])
@pytest.mark.parametrize("text", NOT_NUMBERS, ids=lambda text: ascii(text[:12]))
def test_a_number_in_the_query_that_is_none(client: httpx.Client, option: str, text: str) -> None:
    answer = client.post(
        "/classify",
        params={"labels": "cat,dog", option: text},
        content=read("cat"),
        headers={"content-type": "image/png"},
    )
    assert (answer.status_code, answer.json()["error"]["param"]) == (422, option)


@pytest.mark.parametrize("text", NOT_NUMBERS, ids=lambda text: ascii(text[:12]))
def test_a_number_in_a_form_that_is_none(client: httpx.Client, text: str) -> None:
    answer = client.post("/embed", data={"dimensions": text}, files=[("text", (None, "a cat"))])
    assert (answer.status_code, answer.json()["error"]["param"]) == (422, "dimensions")


@pytest.mark.parametrize("number", ["18446744073709551615", "9223372036854775808"])
def test_more_than_there_are(client: httpx.Client, number: str) -> None:
    body = '{"inputs": "a cat", "labels": ["cat", "dog"], "top_k": ' + number + "}"
    answer = client.post("/classify", content=body, headers={"content-type": "application/json"})
    assert len(answer.json()["data"][0]["predictions"]) == 2


@pytest.mark.parametrize(
    "number",
    ["1e400", "-1e400", "NaN", "Infinity", "-Infinity", "9" * 25, "9" * 5000, "1.0", "1e1", "true", '"5"', "-0", "0"],
)
@pytest.mark.parametrize("path", ["/embed", "/classify", "/similarity", "/v1/embeddings", "/v1/rerank"])
def test_a_number_in_json_that_is_none(client: httpx.Client, path: str, number: str) -> None:
    start, option = {
        "/embed": ('"inputs": "a"', "dimensions"),
        "/classify": ('"inputs": "a", "labels": ["cat", "dog"]', "top_k"),
        "/similarity": ('"queries": "a", "candidates": ["b"]', "top_k"),
        "/v1/embeddings": ('"model": "sightword-small", "input": "a"', "dimensions"),
        "/v1/rerank": ('"model": "sightword-small", "query": "a", "documents": ["b"]', "top_n"),
    }[path]
    if path == "/v1/embeddings" and number in ("-0", "0"):
        pytest.skip("its clients mean all of them by 0")
    body = f'{{{start}, "{option}": {number}}}'
    answer = client.post(path, content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 422
