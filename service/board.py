"""The board: what each worker process holds, in memory that all of them read.

Each process writes its own row only, one aligned word at a time, so that nothing has to be locked. Where two look at
the same instant, both may take the last place: a limit is exceeded by at most one request for each further worker.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from enum import IntEnum

_WORD_BYTES = 8
_ROW_WORDS = 8  # a cache line: the rows of two processes share none
FRESH_S = 1.0  # whose last beat is longer ago does not take connections now


class Field(IntEnum):
    """The words of a row."""

    CONNECTIONS = 0
    REQUESTS = 1
    ITEMS = 2
    BYTES = 3
    READY = 4  # 1 while it takes requests
    BEAT = 5  # nanoseconds of time.monotonic_ns() at the last beat of its event loop
    LABEL_SET_CHANGES = 6  # how often it has stored or removed a label set, or tried to


class Phase(IntEnum):
    """What the parent wants of all workers."""

    SERVING = 0
    DRAINING = 1
    ENDING = 2  # at once


class Board:
    """Rows of all workers, and one of the parent."""

    def __init__(self, memory: object, workers: int) -> None:
        """`memory` is writable, and has at least `size(workers)` bytes."""
        words = memoryview(memory).cast("B")[: Board.size(workers)].cast("q")  # type: ignore[arg-type]
        self.workers = workers
        self._words = words
        self._columns = [words[field : workers * _ROW_WORDS : _ROW_WORDS] for field in Field]

    @staticmethod
    def size(workers: int) -> int:
        """Bytes of a board."""
        return (workers + 1) * _ROW_WORDS * _WORD_BYTES

    @classmethod
    def of_one(cls) -> Board:
        """The board of a process that is alone."""
        return cls(bytearray(cls.size(1)), 1)

    def row(self, number: int) -> Row:
        """The row of a worker, from 0."""
        return Row(self, number)

    def get(self, number: int, field: Field) -> int:
        """A word of a worker."""
        return self._columns[field][number]

    def total(self, field: Field) -> int:
        """The sum over all workers."""
        column = self._columns[field]
        return column[0] if self.workers == 1 else sum(column)

    def column(self, field: Field) -> tuple[int, ...]:
        """A word of every worker."""
        return tuple(self._columns[field])

    def clear(self, number: int) -> None:
        """Forget what a worker held that has ended."""
        for column in self._columns:
            column[number] = 0

    @property
    def phase(self) -> Phase:
        """What the parent wants."""
        return Phase(self._words[self.workers * _ROW_WORDS])

    @phase.setter
    def phase(self, phase: Phase) -> None:
        self._words[self.workers * _ROW_WORDS] = phase


class Row:
    """The row of one worker, which alone writes it."""

    def __init__(self, board: Board, number: int) -> None:
        self.board, self.number = board, number

    def add(self, field: Field, amount: int) -> None:
        """Add to a word, or take from it."""
        self.board._columns[field][self.number] += amount

    def get(self, field: Field) -> int:
        """A word of this worker."""
        return self.board._columns[field][self.number]

    def set(self, field: Field, value: int) -> None:
        """Write a word."""
        self.board._columns[field][self.number] = value

    def beat(self) -> None:
        """Tell that the event loop turns."""
        self.set(Field.BEAT, time.monotonic_ns())

    def ready_others(self) -> list[int]:
        """Numbers of the others that take connections now: they are ready, and their event loops turn."""
        ready, beats = (self.board._columns[field] for field in (Field.READY, Field.BEAT))
        oldest = time.monotonic_ns() - int(FRESH_S * 1e9)
        return [n for n in range(self.board.workers) if n != self.number and ready[n] and beats[n] > oldest]

    def excess(self, others: Sequence[int]) -> int:
        """How many more connections this worker has than that of `others` with the fewest; 0 where there are none."""
        connections = self.board._columns[Field.CONNECTIONS]
        return max(0, connections[self.number] - min(connections[n] for n in others)) if others else 0
