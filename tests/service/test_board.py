"""The board of worker processes: limits over all of them, and who takes the next connection."""

from __future__ import annotations

import math
from contextlib import ExitStack

import pytest

from service import shared_memory
from service.admission import Admission
from service.board import Board, Field, Phase, Row
from service.errors import ApiError
from service.metrics import Metrics

WORKERS = 3


def rows() -> list[Row]:
    """Of three processes that have the same memory, each in its own mapping."""
    descriptor = shared_memory.create("board", Board.size(WORKERS))
    return [Board(shared_memory.attach(descriptor), WORKERS).row(number) for number in range(WORKERS)]


def admission(row: Row, metrics: Metrics, limit_s: float = math.inf) -> Admission:
    return Admission(10, 1000, metrics.queue_items, metrics.queue_bytes, limit_s, row)


def test_the_limits_are_those_of_all_together() -> None:
    metrics = [Metrics() for _ in range(WORKERS)]
    one, other, third = (admission(row, each) for row, each in zip(rows(), metrics, strict=True))
    with ExitStack() as stack:
        stack.enter_context(one.reserve_items(6))
        stack.enter_context(other.reserve_items(3))
        assert (third.items, third.free) == (9, 1)
        with pytest.raises(ApiError, match="9 items are at work or waiting, of 10 places"):
            stack.enter_context(third.reserve_items(2))
        stack.enter_context(third.reserve_items(1))
        assert one.free == 0
        assert [each.registry.get_sample_value("sightword_queue_items") for each in metrics] == [6, 3, 1]
    assert (one.free, one.items) == (10, 0)
    with one.reserve_bytes() as held, other.reserve_bytes() as more:
        held.add(900)
        with pytest.raises(ApiError, match="900 bytes of requests are held"):
            more.add(101)
    assert third.bytes == 0


def test_seconds_are_of_the_queue_that_a_request_waits_in() -> None:
    one, other, _ = (admission(row, Metrics(), limit_s=20) for row in rows())
    with one.reserve_items(1) as first, one.reserve_items(1) as second, other.reserve_items(1) as elsewhere:
        first.expect(15)
        with pytest.raises(ApiError, match="this would take 30 s"):
            second.expect(15)
        elsewhere.expect(15)
        assert (one.items, one.seconds, other.seconds) == (3, 15, 15)


def test_a_connection_is_left_to_who_has_fewer_is_ready_and_lives() -> None:
    first, second, third = rows()
    first.add(Field.CONNECTIONS, 5)
    assert first.excess(first.ready_others()) == 0  # no other is ready
    second.set(Field.READY, 1)
    assert first.ready_others() == []  # and this one has not beaten yet
    second.beat()
    second.add(Field.CONNECTIONS, 2)
    assert first.excess(first.ready_others()) == 3
    assert second.excess([first.number]) == 0
    third.set(Field.READY, 1)
    third.beat()
    assert first.excess(first.ready_others()) == 5
    first.board.clear(third.number)
    assert first.ready_others() == [second.number]
    assert (first.get(Field.CONNECTIONS), second.get(Field.CONNECTIONS)) == (5, 2)


def test_what_the_parent_wants_is_seen_by_all() -> None:
    first, second, _ = rows()
    assert second.board.phase is Phase.SERVING
    first.board.phase = Phase.DRAINING
    assert second.board.phase is Phase.DRAINING
