"""Lists in as many requests as it takes, side by side and in order; and answers that are none."""

from __future__ import annotations

import io
import json
import socket
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

import sightword
from benchmarks.service_process import Running
from sightword.errors import (
    BodyTooLargeError,
    InvalidRequestError,
    ModelChangedError,
)
from sightword.local.embedder import Local
from sightword.protocol import Answer, read_info
from sightword.request_size import RequestSize
from tests.client.bad_line import BadLine, answer


def test_lists_are_split_and_keep_their_order(line: BadLine, local: Local) -> None:
    texts = [f"{index} different things" for index in range(150)]
    with sightword.Client(line.url, items_per_request=20) as client:
        vectors = client.embed(texts)
    np.testing.assert_allclose(vectors, local.embed(texts), atol=1e-6)
    sent = [json.loads(body)["inputs"] for body in line.bodies if body]
    assert max(map(len, sent)) <= 20
    assert sorted(text for inputs in sent for text in inputs) == sorted(texts)


class Slow:
    """Answers late, and counts the requests that have come and are not answered: until before the client can see it."""

    def __init__(self) -> None:
        self.lock, self.at_once, self.most_at_once = threading.Lock(), 0, 0

    def __call__(self, connection: socket.socket, whole: bytes) -> None:
        with self.lock:
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        time.sleep(0.2)
        with self.lock:
            self.at_once -= 1
        connection.sendall(whole)


def test_so_many_requests_are_under_way_as_the_client_may_have(line: BadLine) -> None:
    slow = Slow()
    line.script.extend([slow] * 20)
    with sightword.Client(line.url, items_per_request=2, concurrency=3) as client:
        client.embed([f"side by side {index}" for index in range(40)])
    assert slow.most_at_once == 3


def test_requests_to_a_slow_model_stay_small() -> None:
    size = RequestSize(64)
    seen = [size.items]
    for seconds_per_item in (0.001, 0.001, 0.001, 0.5, 0.5, 5.0, 0.001):
        size.observe(size.items, size.items * seconds_per_item)
        seen.append(size.items)
    assert seen == [16, 32, 64, 64, 4, 4, 1, 2]
    assert RequestSize(3).items == 3


def test_the_limits_of_the_service_hold(narrow: Running, local: Local) -> None:
    """32 items and 400,000 bytes: more than was asked for of each."""
    noise = np.random.default_rng(0).integers(0, 256, (230, 230, 3), np.uint8)  # 160 kB without loss
    items = [*(f"{index} small things" for index in range(100)), *(np.roll(noise, index) for index in range(6))]
    with sightword.Client(narrow.url, items_per_request=500, timeout_s=200) as client:
        np.testing.assert_allclose(client.embed(items), local.embed(items), atol=1e-5)
        with pytest.raises(BodyTooLargeError, match="scale the picture down") as refused:
            client.embed(["a", np.tile(noise, (2, 2, 1))])
        assert refused.value.param == "inputs.1"
        embedded = client.embed(["a", np.tile(noise, (2, 2, 1)), "b"], on_error="item")
        assert list(embedded.errors) == [1]


def test_an_iterator_is_read_as_it_is_sent(line: BadLine) -> None:
    read = 0

    def texts() -> Iterator[str]:
        nonlocal read
        while True:
            read += 1
            yield f"endless {read}"

    with sightword.Client(line.url, items_per_request=10, concurrency=3) as client:
        vectors = client.embed_iter(texts())
        rows = [next(vectors) for _ in range(35)]
        assert read <= 35 + (3 + 1) * 10
        vectors.close()
        np.testing.assert_allclose(rows, client.embed([f"endless {index}" for index in range(1, 36)]), atol=1e-6)


def test_without_a_service_an_iterator_is_read_a_block_at_a_time(local: Local) -> None:
    vectors = local.embed_iter(f"endless {index}" for index in iter(int, 1))
    first = next(vectors)
    np.testing.assert_allclose(first, local.embed("endless 0")[0], atol=1e-6)
    assert len(list(local.embed_iter(str(index) for index in range(600)))) == 600
    with pytest.raises(InvalidRequestError) as refused:
        list(local.embed_iter([*map(str, range(300)), ""]))
    assert refused.value.param == "inputs.300"


def test_vectors_of_two_models_are_never_mixed(line: BadLine) -> None:
    with sightword.Client(line.url, items_per_request=4, concurrency=1) as client:
        rows = io.BytesIO()
        np.save(rows, np.zeros((4, client.info().models[0].dimensions), np.float32))
        line.script.extend([None, answer(200, rows.getvalue(), x_model_digest="another")])
        with pytest.raises(ModelChangedError, match="start this list again"):
            client.embed([f"change {index}" for index in range(12)])


@pytest.mark.parametrize("content", [b"<html>", b"", b"\x93NUMPY", b'{"data": []}'])
def test_what_is_no_answer_is_told_as_such(line: BadLine, content: bytes) -> None:
    with sightword.Client(line.url) as client:
        for on_error in ("fail", "item"):
            line.script.append(answer(200, content))
            with pytest.raises(sightword.errors.UnexpectedAnswerError, match="Is the URL that of the service"):
                client.embed("a cat", on_error=on_error)  # type: ignore[call-overload]


DATA = [
    b"[]",
    b"{}",
    b'{"data": [3]}',
    b'{"data": [{}]}',
    b'{"data": [{"error": 3}]}',
    b'{"data": [{"embedding": "\xff"}]}',
]


@pytest.mark.parametrize("content", DATA)
def test_json_of_another_shape_is_told_as_such(line: BadLine, content: bytes) -> None:
    with sightword.Client(line.url) as client:
        line.script.extend([answer(200, content)] * 3)
        with pytest.raises(sightword.errors.UnexpectedAnswerError):
            client.embed("a cat", on_error="item")
        with pytest.raises(sightword.errors.UnexpectedAnswerError):
            client.classify("a cat", ["cat"])
        with pytest.raises(sightword.errors.UnexpectedAnswerError):
            client.label_sets.get("cats")


@pytest.mark.parametrize("content", [b'{"models": []}', b'{"models": [{}]}', b"3", b'{"name": "another service"}'])
def test_what_is_no_info_is_told_as_such(content: bytes) -> None:
    with pytest.raises(sightword.errors.UnexpectedAnswerError, match="Is the URL that of the service"):
        read_info(Answer(200, {}, content))


def test_vectors_of_two_lengths_are_of_two_models(line: BadLine) -> None:
    """Where a proxy keeps the digest to itself."""
    files = []
    for width in (8, 9):
        file = io.BytesIO()
        np.save(file, np.zeros((4, width), np.float32))
        files.append(answer(200, file.getvalue()))
    line.script.extend(files)
    with sightword.Client(line.url, items_per_request=4, concurrency=1) as client, pytest.raises(ModelChangedError):
        client.embed(["a", "b", "c", "d", "e", "f", "g", "h"])


def test_a_matrix_of_other_rows_is_refused(line: BadLine) -> None:
    rows = io.BytesIO()
    np.save(rows, np.zeros((3, 256), np.float32))
    line.script.append(answer(200, rows.getvalue()))
    with sightword.Client(line.url) as client, pytest.raises(sightword.errors.UnexpectedAnswerError):
        client.embed(["a", "b"])
