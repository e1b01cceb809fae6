"""The ways of embedding the same files that are measured, but those that need torch."""

from __future__ import annotations

import io
import resource
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnxruntime as ort
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from benchmarks.speed.bare import GRAPHS, SessionConfig, open_session
from model.bundle import Bundle
from model.images.preprocessing import load_image
from model.manifest import WEIGHTS
from model.runtime.processor import usable_cores
from service.bulk.job import JobRequest, Planned
from service.bulk.sources import SourceOptions, plan
from service.bulk.worker import PartWorker

Kind = Literal["image", "text"]
MAP_BATCH = 32


@dataclass(frozen=True)
class Reading:
    """Of one run over all items."""

    items: int
    seconds: float
    core_s: float  # of the process and of those that it has waited for

    @property
    def items_s(self) -> float:
        """How fast it was."""
        return self.items / self.seconds

    @property
    def core_ms(self) -> float:
        """Of one core, for an item: what a busy machine disturbs less."""
        return 1e3 * self.core_s / self.items


def measured(items: int, run: Callable[[], object]) -> Reading:
    """One call of `run`, which embeds so many."""
    began, cpu = time.perf_counter(), cpu_seconds()
    run()
    return Reading(items, time.perf_counter() - began, cpu_seconds() - cpu)


def cpu_seconds() -> float:
    """Of this process and of its children that have ended."""
    both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in both)


class Bulk:
    """Ours: parts are read, decoded, embedded and written as `python -m service bulk` does it, in this process."""

    def __init__(self, source: Path, kind: Kind, model: Path, output: Path) -> None:
        options = SourceOptions(kind=kind)
        request = JobRequest((str(source),), str(output), options, "parquet", "float32", None, None, str(model), "cpu")
        self._parts = list(enumerate(plan([source], options)))
        self._worker, self._output = PartWorker(request), output
        rows = sum(part.rows for _, part in self._parts)
        self.planned = Planned(kind, self._worker.best_batch(kind), len(self._parts), rows)

    def run(self) -> None:
        """All parts, into an empty folder."""
        shutil.rmtree(self._output, ignore_errors=True)
        self._output.mkdir(parents=True)
        counts = list(self._worker.run(self._parts, self.planned, lambda items, failed: None, lambda: None))
        if any(count.failed for count in counts):
            raise SystemExit(f"items failed: {counts}")

    def close(self) -> None:
        """End its threads."""
        self._worker.close()


class Bare:
    """The engine: a thread for each core decodes a batch, or tokenizes it, and runs it; all in memory, nothing kept."""

    def __init__(self, bundle: Bundle, kind: Kind, items: Sequence[bytes] | Sequence[str], batch: int) -> None:
        self._session = open_session(bundle, kind, "cpu", SessionConfig(1, usable_cores()))
        self._batches: list[Any] = [items[start : start + batch] for start in range(0, len(items), batch)]
        self._input, self._tokenizer = GRAPHS[kind][1], bundle.tokenizer()
        self._prepare: Callable[[Any], Any] = (
            (lambda files: np.stack([load_image(file, bundle.preprocessing) for file in files]))
            if kind == "image"
            else (lambda texts: self._tokenizer.pad(self._tokenizer.encode(texts)))
        )

    def run(self) -> None:
        """All batches."""
        waiting = iter(self._batches)
        lock = threading.Lock()

        def work() -> None:
            with suppress(StopIteration):
                while True:
                    with lock:
                        batch = next(waiting)
                    self._session.run(None, {self._input: self._prepare(batch)})

        threads = [threading.Thread(target=work) for _ in range(usable_cores())]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


class PlainMap:
    """As `datasets.map(embed, batched=True)` does it: in one process, a batch is read, decoded and run, then the next.

    The library itself is not called: it would add its own cost of writing every batch. The engine is onnxruntime with
    as many threads as cores, over the same graph.
    """

    def __init__(self, bundle: Bundle, kind: Kind, source: Path, output: Path) -> None:
        chosen = ort.SessionOptions()
        weights = bundle.read(WEIGHTS)
        chosen.add_external_initializers_from_files_in_memory([WEIGHTS], [weights], [len(weights)])
        self._session = ort.InferenceSession(bundle.read(GRAPHS[kind][0]), chosen, providers=["CPUExecutionProvider"])
        self._kind, self._input, self._size = kind, GRAPHS[kind][1], bundle.image_size
        self._tokenizer, self._source, self._output = bundle.tokenizer(), source, output

    def run(self) -> None:
        """All items, into one Parquet file."""
        items = sorted(self._source.iterdir()) if self._kind == "image" else self._source.read_text("utf-8").split("\n")
        keys, rows = list[str](), list[Any]()
        for start in range(0, len(items), MAP_BATCH):
            batch: list[Any] = list(items[start : start + MAP_BATCH])
            ready = (
                np.stack([pixels(file.read_bytes(), self._size) for file in batch])
                if self._kind == "image"
                else self._tokenizer.pad(self._tokenizer.encode(batch))
            )
            rows.append(self._session.run(None, {self._input: ready})[0])
            keys += [str(item) for item in batch]
        vectors = np.concatenate(rows)
        column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])
        pq.write_table(pa.table({"key": keys, "vector": column}), self._output)


def pixels(file: bytes, size: int) -> Any:
    """By plain Pillow, as CLIP's own preprocessing does it: resize the whole picture, crop the centre."""
    image = Image.open(io.BytesIO(file)).convert("RGB")
    scale = size / min(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)
    left, top = (image.width - size) // 2, (image.height - size) // 2
    return np.asarray(image.crop((left, top, left + size, top + size)))
