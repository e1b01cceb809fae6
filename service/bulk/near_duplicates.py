"""`--near-duplicates COSINE`: the pairs of a finished job that are this similar, and what to remove to be rid of them.

`_near_duplicates.parquet` has the pairs: key_a, key_b, cosine, where a stands before b; ordered by b, then by cosine.
`_duplicates.parquet` has what may go: key, source, duplicate_of, cosine. An item is in it if it is this similar to an
earlier one that stays, so what is not in it stays, and each that goes has one that stays for it; a chain of pictures,
each like the next, is not taken for one. Their names begin with `_`, which readers of a whole folder pass over.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from model.files import remove_file, write_atomically
from model.progress import Count, log_periodically
from service.bulk.job import JobError, JobRequest
from service.bulk.part_vectors import Parts, open_parts, read_blocks
from service.bulk.similar_rows import NO_PAIRS, ApproximateIndex, ExactIndex, Pairs, SimilarRows, faiss
from service.memory import container_limit

PAIRS, DUPLICATES = "_near_duplicates.parquet", "_duplicates.parquet"
MAX_PARTNERS: Final = 100  # pairs of one item with earlier ones: 10,000 equal pictures would make 50 million
EXACT_ROWS: Final = 300_000  # a quarter of an hour of one core, with vectors of 512
_NAME_BYTES, _BESIDE_BYTES = 300, 700_000_000  # key and source of a row; what else the search may need
_GROUP_ROWS = 100_000
_METADATA = "sightword.near_duplicates"


@dataclass(slots=True)
class NearDuplicates:
    """What was done. `recall` is which share of the pairs an approximate search finds; None where it is not known."""

    cosine: float
    exact: bool = True
    recall: float | None = 1.0
    compared: int = 0  # items
    without_vector: int = 0  # items that failed, or whose vector has no direction
    pairs: int = 0  # written
    pairs_left_out: int = 0  # beyond MAX_PARTNERS of an item
    duplicates: int = 0

    def __str__(self) -> str:
        kind = "an exact search" if self.exact else f"an approximate search ({self._recall()})"
        parts = [
            f"{self.duplicates:,} of {self.compared:,} items are near duplicates of an earlier one, at a cosine of "
            f"{self.cosine:g} or more, by {kind}: {DUPLICATES}",
            f"{self.pairs:,} pairs: {PAIRS}",
        ]
        if self.pairs_left_out:
            parts.append(f"{self.pairs_left_out:,} pairs beyond the {MAX_PARTNERS} best of an item were left out")
        if self.without_vector:
            parts.append(f"{self.without_vector:,} items without a vector were passed over")
        return "; ".join(parts)

    def _recall(self) -> str:
        if self.recall is None:
            return "how many pairs it finds is not known: the sample has none"
        return f"it finds {self.recall:.1%} of the pairs, measured on a sample"


def check_near_duplicates(cosine: float, request: JobRequest) -> None:
    """Before hours of work rather than after them: whether they can be looked for, and whether the library is here.

    Raises JobError; ends with how to install what is missing.
    """
    if not 0 < cosine <= 1:
        raise JobError(
            f"--near-duplicates: {cosine:g} is no cosine of theirs: it is over 0 and at most 1, such as 0.95"
        )
    if request.layout != "parquet":
        raise JobError(f"--near-duplicates reads the Parquet parts: leave out --layout {request.layout}")
    faiss()


def write_near_duplicates(
    folder: Path,
    cosine: float,
    write: Callable[[str], object],
    stop: Callable[[], object] = lambda: None,
    exact_rows: int = EXACT_ROWS,
) -> NearDuplicates:
    """Compare the vectors of all parts in `folder`; both files are written whole or not at all.

    Up to `exact_rows` items the search is exact. `write` gets lines of progress; `stop` is called every so often, and
    what it raises ends the search.

    Raises JobError where the folder is no Parquet output, or memory does not suffice.
    """
    done = NearDuplicates(cosine)
    parts = open_parts(folder)
    _check_memory(parts)
    write(f"near duplicates: reading {parts.rows:,} vectors of {parts.width} numbers")
    names = _read_names(parts)
    done.compared, done.without_vector = names.num_rows, parts.rows - names.num_rows
    done.exact = done.compared <= exact_rows
    index: SimilarRows = (ExactIndex if done.exact else ApproximateIndex)(parts, cosine)
    done.recall = index.recall
    count = Count(
        "near duplicates, comparisons" if done.exact else "near duplicates, items", _comparisons(done.compared, done)
    )
    with (
        _parquet(folder / PAIRS, ("key_a", "key_b"), done) as add_pairs,
        _parquet(folder / DUPLICATES, ("key", "source", "duplicate_of"), done) as add_duplicates,
        log_periodically(write, lambda: str(count)),
    ):
        for pairs, duplicates in _search(parts, index, done, count):
            stop()
            keys = names["key"]
            add_pairs(pairs.cosine, keys.take(pairs.earlier), keys.take(pairs.later))
            gone = duplicates.later
            add_duplicates(
                duplicates.cosine, keys.take(gone), names["source"].take(gone), keys.take(duplicates.earlier)
            )
    return done


def remove_near_duplicates(folder: Path) -> None:
    """Remove both files: vectors will be there that they do not know."""
    for name in (PAIRS, DUPLICATES):
        remove_file(folder / name)


def _search(parts: Parts, index: SimilarRows, done: NearDuplicates, count: Count) -> Iterator[tuple[Pairs, Pairs]]:
    """Of a few rows at a time the pairs to write, and those that say which row goes for which that stays."""
    stays = np.ones(done.compared, np.bool_)
    for block in read_blocks(parts):
        for start in range(0, len(block.vectors), index.queries):
            vectors, first = block.vectors[start : start + index.queries], block.first + start
            best, to_one_that_stays, among_these = NO_PAIRS, NO_PAIRS, NO_PAIRS
            found = 0
            for pairs in index.before(first, vectors):
                found += len(pairs)
                best = (best + pairs).highest(MAX_PARTNERS)
                settled = pairs.earlier < first
                to_one_that_stays = (to_one_that_stays + pairs.where(settled & stays[pairs.earlier])).highest(1)
                among_these += pairs.where(~settled)
            duplicates = _settle(to_one_that_stays + among_these, stays)
            done.pairs += len(best)
            done.pairs_left_out += found - len(best)
            done.duplicates += len(duplicates)
            count.done = _comparisons(first + len(vectors), done)
            yield best, duplicates


def _comparisons(rows: int, done: NearDuplicates) -> int:
    """Up to a row, as a measure of the time: an exact search takes longer for each."""
    return rows * (rows - 1) // 2 if done.exact else rows


def _settle(pairs: Pairs, stays: NDArray[np.bool_]) -> Pairs:
    """Decide in their order which of the later rows stay, and give of each other one the pair that it goes for."""
    ordered = pairs.highest(len(pairs))
    rows, starts = np.unique(ordered.later, return_index=True)
    chosen = list[int]()
    for row, (start, end) in zip(rows, pairwise([*starts, len(ordered)]), strict=True):
        staying = np.flatnonzero(stays[ordered.earlier[start:end]])
        if len(staying):
            stays[row] = False
            chosen.append(int(start + staying[0]))
    return ordered.where(np.array(chosen, np.int64))


def _read_names(parts: Parts) -> Any:
    """A pyarrow.Table of key and source of all rows with a vector."""
    from pyarrow import concat_tables, large_string, schema

    kept = schema([("key", large_string()), ("source", large_string())])  # 2 GB of text are too much for the small one
    tables = [block.names.cast(kept) for block in read_blocks(parts, names=True)]
    return concat_tables([kept.empty_table(), *tables]).combine_chunks()


@contextmanager
def _parquet(file: Path, texts: tuple[str, ...], done: NearDuplicates) -> Iterator[Callable[..., None]]:
    """Write `file`: the function appends cosines and the columns `texts`. What was done stands in its metadata."""
    from pyarrow import concat_tables, float64, parquet, schema, string, table

    kind = schema([*((name, string()) for name in texts), ("cosine", float64())])
    with write_atomically(file) as draft, parquet.ParquetWriter(draft, kind, compression="zstd") as writer:
        waiting = [kind.empty_table()]

        def flush() -> None:
            writer.write_table(concat_tables(waiting))
            waiting[1:] = []

        def add(cosines: NDArray[np.float64], *columns: Any) -> None:
            waiting.append(table([*columns, cosines], names=kind.names).cast(kind))
            if sum(map(len, waiting)) >= _GROUP_ROWS:
                flush()

        yield add
        flush()
        writer.add_key_value_metadata({_METADATA: json.dumps(asdict(done))})


def _check_memory(parts: Parts) -> None:
    needed = parts.rows * (4 * parts.width + _NAME_BYTES) + _BESIDE_BYTES
    available = _available_bytes()
    if available is not None and needed > available:
        raise JobError(
            f"near duplicates of {parts.rows:,} vectors of {parts.width} numbers need about {needed / 1e9:.1f} GB of "
            f"memory, and {available / 1e9:.1f} GB are there: look in a part of them, or embed with fewer dimensions"
        )


def _available_bytes() -> int | None:
    """Of the machine, and of the container if that is less; None where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text("ascii").splitlines()
    except OSError:
        return container_limit()
    free = next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)
    return min((limit for limit in (free, container_limit()) if limit is not None), default=None)
