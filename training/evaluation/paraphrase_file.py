"""Reads pairs of paraphrases that somebody has: a CSV or TSV file or JSON lines, in the project's own bounds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from model.data.column_names import normalized
from model.data.delimited import DelimitedFile, Dialect
from model.data.files import JSON_LINES, TEXT_TABLES, suffix_of
from model.data.skipped_samples import SkippedSamples
from model.data.text_files import AnnotationError, check_undamaged, json_type
from model.data.text_lines import JsonLinesFile, Row
from training.evaluation.datasets import DataError
from training.evaluation.paraphrase_pairs import Pair, PairSample, sample_pairs
from training.progress import write_line

MAX_TEXT = 10_000  # characters of a text
PARAPHRASE, QUERIES = "paraphrase", ("query", "text", "caption", "sentence")  # names of the columns
KNOWN = {PARAPHRASE, *QUERIES}


def read_pairs(file: Path) -> PairSample:
    """The pairs of a CSV or TSV file, or of JSON lines; rows that are none are counted, with their line.

    Raises DataError for a file without the columns or without any pair, and OSError.
    """
    skipped = SkippedSamples()
    found = sample_pairs(_parse_rows(file, skipped), skipped)
    if not found.pairs:
        raise DataError(f"{file} holds no pair of texts. Skipped {skipped.with_examples()}")
    skipped.log_summary(write_line)
    return found


def _parse_rows(file: Path, skipped: SkippedSamples) -> Iterator[Pair]:
    columns, rows = _open(file)
    for row in rows:
        try:
            query, paraphrase = (_text(row, name) for name in columns)
            if query == paraphrase:
                raise AnnotationError("the same text twice", f"{query[:60]!r}")
        except AnnotationError as error:
            skipped.add(f"{file}, line {row.line}", error.reason, error)
            continue
        yield Pair(query, paraphrase, query)


def _open(file: Path) -> tuple[tuple[str, str], Iterator[Row]]:
    """The columns of the two texts, and the rows."""
    suffix = suffix_of(file.name)
    if suffix in JSON_LINES:
        lines = JsonLinesFile(file, None)
        return _choose_columns(file, lines.names), lines.rows()
    if suffix not in TEXT_TABLES:
        endings = ", ".join(f".{each}" for each in (*TEXT_TABLES, *JSON_LINES))
        raise DataError(f"{file} is no table of pairs that is read: {endings} are")
    table = DelimitedFile(file, Dialect(), lambda names: sum(normalized(name) in KNOWN for name in names))
    columns = _choose_columns(file, table.names)
    return columns, table.rows(columns[0])


def _choose_columns(file: Path, names: Sequence[str]) -> tuple[str, str]:
    by_name = {normalized(name): name for name in reversed(names)}
    query = next((by_name[name] for name in QUERIES if name in by_name), None)
    if query is not None and PARAPHRASE in by_name:
        return query, by_name[PARAPHRASE]
    given = ", ".join(name[:80] for name in names[:10]) or "none"
    raise DataError(f"{file} has no columns `query` and `paraphrase`: its first line names {given}")


def _text(row: Row, name: str) -> str:
    """Raises AnnotationError for what is no text."""
    if row.problem:
        raise AnnotationError("unreadable row", row.problem)
    value: Any = row.cells.get(name)
    if not isinstance(value, str | None):
        raise AnnotationError("wrong type", f"`{name}` is {json_type(value)}, not a text")
    text = check_undamaged((value or "").strip())
    if not text:
        raise AnnotationError("no text", f"`{name}` is empty")
    if len(text) > MAX_TEXT:
        raise AnnotationError("too long", f"`{name}` has {len(text):,} characters, of {MAX_TEXT:,} at most")
    return text
