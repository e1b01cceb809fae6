"""One process: reading -> preparing -> engine -> writing, each in threads of its own, with bounds between them.

A chunk of items is read in one thread, prepared in several (decoded, or tokenized), put into batches, run, put back
into the order of its part, and the part is written while the next one is computed. Whatever is slowest holds up the
others: each stage is only so many steps ahead of the next one, so that memory does not grow with the input. The next
batches are ready while one runs, across the ends of parts, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.prefetch import prefetch
from service.bulk.batches import MODEL_FAILED, Batch, PartBatches
from service.bulk.folder import NumberedPart
from service.bulk.job import JobError, Planned, Precision
from service.bulk.layouts import Rows
from service.bulk.preparing import Prepared
from service.bulk.read_ahead import read_ahead
from service.bulk.sources import Item, Part

ITEMS_PER_CHUNK = {"image": 8, "text": 256}
BYTES_PER_CHUNK = 2 * 2**20  # after which no further item is added; one of the largest files may be in it
Vectors = NDArray[Any]


class PartCount(NamedTuple):
    """A part that is done: its number, its items, and how many of them failed."""

    number: int
    items: int
    failed: int


@dataclass(frozen=True, slots=True)
class Stages:
    """What is done with items: prepared in threads, embedded [batch, dimensions] in `runners` threads, written."""

    read: Callable[[Part], Iterable[Item]]
    prepare: Callable[[Sequence[Item]], list[Prepared]]
    embed: Callable[[Sequence[Any]], Vectors]
    write: Callable[[int, Rows], None]
    group: Callable[[Any], int]
    dimensions: int
    precision: Precision
    planned: Planned
    threads: int
    runners: int


class _Chunk(NamedTuple):
    number: int
    items: list[Item]
    is_last: bool  # of its part


@dataclass(slots=True, eq=False)
class _OpenPart:
    """Its rows so far: `vectors` are filled in as batches are done."""

    number: int
    batches: PartBatches
    rows: list[Prepared] = field(default_factory=list)
    vectors: list[tuple[list[int], Vectors]] = field(default_factory=list)


class _Step(NamedTuple):
    """A batch to run, or, without one, the end of a part."""

    part: _OpenPart
    batch: Batch | None


def embed_parts(
    parts: Iterable[NumberedPart], stages: Stages, advance: Callable[[int, int], object], stop: Callable[[], None]
) -> Iterator[PartCount]:
    """Embed and write the parts. Gives each when it is there.

    `advance` is called with items that are done, and how many of them failed; `stop` between two batches: what it
    raises ends all of it, after the batches that run. Raises what reading and writing raise.
    """
    with ExitStack() as stack:
        decoders = stack.enter_context(_threads(stages.threads, "bulk-prepare"))
        runners = stack.enter_context(_threads(stages.runners, "bulk-run"))
        writer = stack.enter_context(_threads(1, "bulk-write"))
        chunks = stack.enter_context(closing(read_ahead(_chunks(parts, stages), stages.threads)))

        def prepare(chunk: _Chunk) -> tuple[_Chunk, list[Prepared]]:
            return chunk, stages.prepare(chunk.items)

        def run(step: _Step) -> tuple[_Step, Vectors | None]:
            return step, None if step.batch is None else stages.embed(step.batch.payloads)

        def write(part: _OpenPart) -> PartCount:
            return _write(part, stages)

        prepared = prefetch(decoders, prepare, chunks, _ahead(stages))
        steps = _steps(prepared, stages)
        done = _collect(prefetch(runners, run, steps, 2 * stages.runners), advance, stop)
        yield from prefetch(writer, write, done, 1)


def _chunks(parts: Iterable[NumberedPart], stages: Stages) -> Iterator[_Chunk]:
    for number, part in parts:
        chunk: list[Item] = []
        size = count = 0
        for item in stages.read(part):
            if len(chunk) == ITEMS_PER_CHUNK[stages.planned.kind] or size >= BYTES_PER_CHUNK:
                yield _Chunk(number, chunk, False)
                chunk, size = [], 0
            chunk.append(item)
            size += len(item.payload or "")
            count += 1
        if count != part.rows:
            raise JobError(
                f"part {number} has {count} items, and had {part.rows} when the job was planned: the input has changed "
                "since. Put back what it was, or begin anew in another --output."
            )
        yield _Chunk(number, chunk, True)


def _steps(prepared: Iterable[tuple[_Chunk, list[Prepared]]], stages: Stages) -> Iterator[_Step]:
    part: _OpenPart | None = None
    for chunk, rows in prepared:
        if part is None:
            part = _OpenPart(chunk.number, PartBatches(stages.planned.batch, stages.group))
        for row in rows:
            if row.error is None:
                batch = part.batches.add(len(part.rows), row.payload)
                row.payload = None  # the batch has it, and is gone sooner than the part
                if batch is not None:
                    yield _Step(part, batch)
            part.rows.append(row)
        if chunk.is_last:
            for batch in part.batches.rest():
                yield _Step(part, batch)
            yield _Step(part, None)
            part = None


def _collect(
    results: Iterable[tuple[_Step, Vectors | None]],
    advance: Callable[[int, int], object],
    stop: Callable[[], None],
) -> Iterator[_OpenPart]:
    """Put vectors in their places; gives each part once all of its vectors are there."""
    for (part, batch), vectors in results:
        if batch is None:
            advance(*[sum(row.error is not None for row in part.rows)] * 2)
            _mark_failed(part)
            yield part
        else:
            assert vectors is not None, "of each batch"
            part.vectors.append((batch.rows, vectors))
            failed = len(vectors) - int(np.isfinite(vectors).all(axis=1).sum())
            advance(len(vectors), failed)
        stop()


def _mark_failed(part: _OpenPart) -> None:
    """Give the items that the model failed on their error."""
    for rows, vectors in part.vectors:
        for place in np.flatnonzero(~np.isfinite(vectors).all(axis=1)):
            part.rows[rows[place]].error = MODEL_FAILED


def _write(part: _OpenPart, stages: Stages) -> PartCount:
    vectors = np.full((len(part.rows), stages.dimensions), np.nan, stages.precision)
    while part.vectors:
        rows, some = part.vectors.pop()
        vectors[rows] = some
    errors = [row.error for row in part.rows]
    texts = [row.text or "" for row in part.rows] if any(row.text is not None for row in part.rows) else None
    rows_of_part = Rows([row.key for row in part.rows], [row.source for row in part.rows], errors, vectors, texts)
    stages.write(part.number, rows_of_part)
    return PartCount(part.number, len(part.rows), sum(error is not None for error in errors))


@contextmanager
def _threads(count: int, name: str) -> Iterator[ThreadPoolExecutor]:
    """Threads whose work is waited for at the end, and whatever waits for them is not done."""
    pool = ThreadPoolExecutor(count, thread_name_prefix=name)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _ahead(stages: Stages) -> int:
    """Chunks that are prepared at most before they are needed: enough for the batches that run and the next ones."""
    batches = 2 * stages.runners * stages.planned.batch
    return max(2 * stages.threads, -(-batches // ITEMS_PER_CHUNK[stages.planned.kind]))
