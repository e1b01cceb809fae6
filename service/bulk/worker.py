"""What embeds parts: a model in this process, opened as the service opens it, with the settings of the service."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.runtime.engine import token_row
from model.runtime.processor import usable_cores
from service.bulk.batches import BatchRunner
from service.bulk.folder import Folder, NumberedPart
from service.bulk.job import JobError, JobRequest, Planned
from service.bulk.layouts import Layout, Rows, open_layout
from service.bulk.pipeline import PartCount, Stages, embed_parts
from service.bulk.preparing import Preparer
from service.bulk.sources import Kind, Part, read
from service.inference.padding import is_padded, length_group
from service.inference.shared_resources import SharedResources
from service.inference.warmup import TYPICAL_TEXT_TOKENS, Run, best_size, measure_costs
from service.memory import configure_malloc, freeze_garbage_collector
from service.metrics import Metrics
from service.models import Models
from service.settings import Settings
from service.web.responses import reduce_dimensions

BATCHES_ON_CPU = {"image": (4, 8, 16, 32), "text": (16, 32, 64, 128)}  # nobody waits for the end of one
MEASURING_S = 1.0
GAIN = 1.05  # of a larger one that is worth its memory


def read_settings(request: JobRequest) -> Settings:
    """Those of the service, with what the command says. Raises SettingsError.

    Of several models the first is opened, and nothing else of a service: no cache, no Redis.
    """
    flags = {"model": request.model, "provider": request.provider, "truncate": request.truncate}
    settings = Settings.read({**flags, "cache_bytes": 0})
    return settings.model_copy(update={"redis_url": None, "model": settings.model[:1]})


class PartWorker:
    """Embeds parts and writes them into the output folder."""

    def __init__(self, request: JobRequest) -> None:
        """Open the model. Raises BundleError, EngineError, SettingsError, and JobError for what it cannot do."""
        configure_malloc()
        freeze_garbage_collector()
        self.request, self.settings = request, read_settings(request)
        self._models = Models(SharedResources(self.settings, Metrics()))
        self._models.load()
        self._pipeline = self._models.find(None)
        self.bundle = self._pipeline.bundle
        most, asked = self.bundle.dimensions, request.dimensions
        if asked is not None and not 1 <= asked <= most:
            raise JobError(f"--dimensions: the vectors of {self.bundle.id} have {most}; ask for at most so many.")
        self.dimensions = asked or most

    def identity(self) -> dict[str, Any]:
        """What vectors depend on beside the request, for `_job.json`."""
        return {
            "model": self.bundle.id,
            "digest": self.bundle.digest,
            "computation": self._pipeline.engine.vectors_id,
            "decoder": self.settings.decoder,
            "max_image_pixels": self.settings.max_image_pixels,
            "dimensions": self.dimensions,
            "truncate": self.settings.truncate,
        }

    def check(self, kind: Kind) -> None:
        """Raise JobError where the model has no one vector of what is of that kind."""
        mixture = self.bundle.mixture
        if mixture is not None and kind == "image":
            raise JobError(
                f"{self.bundle.id} makes {mixture.tokens} vectors of a picture and mixes them for each text, so that "
                "there is no one vector of it to write: `sightword embed --tokens` writes all of them."
            )

    def best_batch(self, kind: Kind) -> int:
        """The batch size with the most items in a second here: SIGHTWORD_MAX_BATCH, or measured, for a second."""
        pipeline, workers = self._pipeline, self._pipeline.workers[kind]
        if is_padded(pipeline.engine.provider) or self.settings.max_batch is not None:
            return pipeline.max_batch[kind]  # of the sizes that the warm-up has prepared
        engine = pipeline.engine
        run: Run = engine.embed_images if kind == "image" else engine.embed_texts
        costs = measure_costs(run, self._probe(kind), BATCHES_ON_CPU[kind], [workers], measuring_s=MEASURING_S)
        return best_size({size: seconds for (_, size), seconds in costs.items()}, GAIN)

    def _probe(self, kind: Kind) -> NDArray[Any]:
        """An item of that kind, as the engine takes it: [1, size, size, 3] or [1, length]."""
        size = self.bundle.image_size
        return (
            np.zeros((1, size, size, 3), np.uint8) if kind == "image" else token_row(self.bundle, TYPICAL_TEXT_TOKENS)
        )

    def run_pending(
        self, folder: Folder, planned: Planned, advance: Callable[[int, int], object], stop: Callable[[], None]
    ) -> Iterator[PartCount]:
        """Embed and write the parts that are not there; see `embed_parts`."""
        return self.run(folder.pending(), planned, advance, stop)

    def run(
        self,
        parts: Iterable[NumberedPart],
        planned: Planned,
        advance: Callable[[int, int], object],
        stop: Callable[[], None],
    ) -> Iterator[PartCount]:
        """Embed and write parts; see `embed_parts`."""
        request, pipeline, kind = self.request, self._pipeline, planned.kind
        layout = open_layout(request, planned)
        folder = Folder(request.folder, layout.is_done)
        run = pipeline.run_images if kind == "image" else pipeline.run_texts
        [probe] = self._probe(kind) if kind == "image" else self._probe(kind).tolist()  # as prepared items are
        runner = BatchRunner(run, self.bundle.dimensions, probe)
        about = {"model": self.bundle.id, "digest": self.bundle.digest}

        def embed(payloads: Sequence[Any]) -> NDArray[Any]:
            return reduce_dimensions(runner(payloads), request.dimensions, True).astype(request.precision, copy=False)

        def write(number: int, rows: Rows) -> None:
            (replace_part if request.retry_failed else write_part)(folder, layout, number, rows, about)

        stages = Stages(
            read=lambda part: read(part, request.source),
            prepare=Preparer(pipeline, self.settings.truncate, request.layout == "clip-retrieval").prepare,
            embed=embed,
            write=write,
            group=(lambda pixels: 0) if kind == "image" else (lambda ids: length_group(self.bundle, len(ids))),
            dimensions=self.dimensions,
            precision=request.precision,
            planned=planned,
            threads=usable_cores(),
            runners=pipeline.workers[kind],
        )
        return embed_parts(parts, stages, advance, stop)

    def close(self) -> None:
        """End the threads."""
        self._models.close()


def run_part(worker: PartWorker, number: int, part: Part, planned: Planned) -> PartCount:
    """Embed one part and write it: what a process on another machine is given to do."""
    [count] = worker.run([(number, part)], planned, lambda items, failed: None, lambda: None)
    return count


def write_part(folder: Folder, layout: Layout, number: int, rows: Rows, about: dict[str, str]) -> None:
    """Write a part with the errors of its items, which are there before it is. Raises WriteError."""
    layout.write(number, rows, about, lambda: folder.write_errors(number, failed_rows(rows)))


def replace_part(folder: Folder, layout: Layout, number: int, rows: Rows, about: dict[str, str]) -> None:
    """The same where the part may be there already: vectors that only that one has are kept. Raises WriteError.

    Between the two parts there is none for a moment, as errors beside a part that are of another would stay so after a
    kill: it is then done once more.
    """
    if layout.is_done(number):
        rows = rows.completed_by(layout.read(number))

    def before() -> None:
        layout.remove(number)
        folder.write_errors(number, failed_rows(rows))

    layout.write(number, rows, about, before)


def failed_rows(rows: Rows) -> Iterator[dict[str, str]]:
    """A line of `_errors.jsonl` for each item that failed."""
    for key, source, error in zip(rows.keys, rows.sources, rows.errors, strict=True):
        if error is not None:
            yield {"key": key, "source": source, "error": error}
