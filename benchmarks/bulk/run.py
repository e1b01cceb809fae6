"""All ways in turn over the same files, round by round, and the tables of what came of it."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from pathlib import Path

from benchmarks.bulk.contenders import Bare, Bulk, Kind, PlainMap, Reading, measured
from benchmarks.inputs import sentences
from benchmarks.machine import machine
from benchmarks.speed.models import exact
from benchmarks.speed.photographs import SMALL, photographs
from model.bundle import Bundle, bundled
from model.runtime.processor import usable_cores

KINDS: Sequence[Kind] = ("image", "text")
WAYS = ("bare engine", "bulk", "plain map", "clip-retrieval's way")
Readings = Mapping[str, Sequence[Reading]]


def run(bundles: Sequence[Path], rounds: int, pictures: int, texts: int) -> str:
    """The report, in Markdown."""
    lines = [f"# Embedding in bulk, {date.today()}", "", ", ".join(f"{k} {v}" for k, v in machine().items()) + ".", ""]
    lines += [f"Medians of {rounds} rounds, smallest and largest in brackets; ratios are of one round each.", ""]
    with tempfile.TemporaryDirectory(prefix="sightword-bulk-") as name:
        folder = Path(name)
        files = photographs({SMALL: pictures})[SMALL]
        (folder / "image").mkdir()
        for number, file in enumerate(files):
            (folder / "image" / f"{number:05}.jpg").write_bytes(file)
        rows = sentences(texts)
        (folder / "text.txt").write_text("\n".join(rows), "utf-8")
        for bundle in bundles or [exact(), bundled()]:
            for kind in KINDS:
                items = files if kind == "image" else rows
                batch, readings = _measure(bundle, kind, items, folder, rounds)
                lines += (table := _table(Bundle.load(bundle).id, kind, len(items), batch, readings))
                print("\n".join(table), file=sys.stderr, flush=True)
    return "\n".join(lines)


def _measure(
    path: Path, kind: Kind, items: Sequence[bytes] | Sequence[str], folder: Path, rounds: int
) -> tuple[int, Readings]:
    source = folder / ("image" if kind == "image" else "text.txt")
    bundle, bulk = Bundle.load(path), Bulk(source, kind, path, folder / "output")
    ways: dict[str, Callable[[], Reading]] = {
        "bare engine": _timed(len(items), Bare(bundle, kind, items, bulk.planned.batch).run),
        "bulk": _timed(len(items), bulk.run),
        "plain map": _timed(len(items), PlainMap(bundle, kind, source, folder / "plain.parquet").run),
        "clip-retrieval's way": lambda: _in_torch(path, source, kind, folder / "torch"),
    }
    readings: dict[str, list[Reading]] = {name: [] for name in WAYS}
    ways["bare engine"]()  # memory and files are there from now on
    ways["bulk"]()
    for _ in range(rounds):
        for name in WAYS:
            readings[name].append(ways[name]())
    bulk.close()
    return bulk.planned.batch, readings


def _timed(items: int, work: Callable[[], object]) -> Callable[[], Reading]:
    return lambda: measured(items, work)


def _in_torch(bundle: Path, source: Path, kind: str, output: Path) -> Reading:
    command = [sys.executable, "-m", "benchmarks.bulk.clip_retrieval_way", str(bundle), str(source), kind, str(output)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(usable_cores())}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)  # noqa: S603
    return Reading(*json.loads(done.stdout))


def _table(model: str, kind: str, items: int, batch: int, readings: Readings) -> list[str]:
    things = "pictures of 640x480" if kind == "image" else "texts of about ten words"
    lines = [f"## {model}: {items:,} {things}, batches of {batch}", ""]
    lines += [
        "| | items/s | of the bare engine | core-ms an item | of the bare engine |",
        "| --- | --- | --- | --- | --- |",
    ]
    bare = readings["bare engine"]
    for name in WAYS:
        pairs = list(zip(readings[name], bare, strict=True))
        cells = [
            _spread([each.items_s for each, _ in pairs]),
            _spread([each.items_s / limit.items_s for each, limit in pairs]),
            _spread([each.core_ms for each, _ in pairs]),
            _spread([each.core_ms / limit.core_ms for each, limit in pairs]),
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return [*lines, ""]


def _spread(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.3g} ({min(values):.3g} to {max(values):.3g})"
