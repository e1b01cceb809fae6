"""What the phases share: sizes, models, inputs, progress and the record."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from rich.progress import Progress, TaskID

from benchmarks.inputs import embed, image_item, raw_body, sentences
from benchmarks.speed.photographs import CAMERA, LARGE, MEDIUM, SMALL, Pixels, mixed, photographs
from benchmarks.speed.record import Record
from model.bundle import Bundle
from model.images.preprocessing import load_image

TEXTS = 5_000


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    rounds: int
    items: int  # that a reading should see at least, within the two times below
    least_s: float
    most_s: float
    search_s: float  # for the best setting of one tower
    pictures: Mapping[Pixels, int]
    clients: Sequence[int]  # of the closed loops
    open_s: float
    starts: int
    peer_s: float  # a reading of a peer
    lists: Sequence[int]  # of how many items
    workers: Sequence[int]  # how many, 1 among them
    phases: Sequence[str] = ()  # all of them if empty

    def seconds(self, rate: float) -> float:
        """How long to measure what does so many items a second."""
        return min(max(self.items / rate, self.least_s), self.most_s)


SIZES = {
    "full": Size(
        rounds=5, items=200, least_s=3.0, most_s=8.0, search_s=24.0,
        pictures={SMALL: 320, MEDIUM: 100, LARGE: 64, CAMERA: 20},
        clients=(1, 2, 4, 8, 16, 32, 64, 128), open_s=15.0, starts=5, peer_s=6.0, lists=(1, 16, 512),
        workers=(1, 2, 3, 4),
    ),
    "quick": Size(
        rounds=3, items=200, least_s=2.0, most_s=6.0, search_s=8.0,
        pictures={SMALL: 160, MEDIUM: 50, LARGE: 32, CAMERA: 10},
        clients=(1, 8, 32), open_s=4.0, starts=3, peer_s=4.0, lists=(1, 64, 512), workers=(1, 2, 4),
        phases=("generator", "ladder"),
    ),
    "smallest": Size(
        rounds=1, items=1, least_s=0.3, most_s=1.0, search_s=0.5, pictures={SMALL: 36, MEDIUM: 2, CAMERA: 1},
        clients=(1, 4), open_s=0.5, starts=1, peer_s=0.5, lists=(4,), workers=(1, 2),
    ),
}  # fmt: skip


@dataclass
class Inputs:
    """Image files and texts, and requests of one item each."""

    counts: Mapping[Pixels, int]
    texts: Sequence[str] = field(default_factory=lambda: sentences(TEXTS))

    @cached_property
    def by_size(self) -> dict[Pixels, list[bytes]]:
        """Files of each size."""
        return photographs(self.counts)

    @cached_property
    def image_sets(self) -> Mapping[str, Sequence[bytes]]:
        """The sets of files that are measured, by name."""
        return {"640x480": self.by_size[SMALL], "mixed": mixed(self.by_size)}

    def raw_requests(self, files: Sequence[bytes]) -> list[bytes]:
        """A request for each file, with the file as its body."""
        return [raw_body(file) for file in files]

    def json_requests(self, files: Sequence[bytes]) -> list[bytes]:
        """A request for each file, with base64 in JSON."""
        return [embed(image_item(file)) for file in files]

    @cached_property
    def text_requests(self) -> list[bytes]:
        """A request for each text."""
        return [embed(text) for text in self.texts]


@dataclass
class Bench:
    """One run."""

    size: Size
    models: Sequence[Path]
    provider: str
    folder: Path
    inputs: Inputs
    record: Record
    progress: Progress

    @contextmanager
    def steps(self, what: str, count: int) -> Iterator[Callable[[str], None]]:
        """A progress bar of so many steps; yields a function to call with the name of each step as it starts."""
        task: TaskID = self.progress.add_task(what, total=count)
        started = itertools.count()
        try:
            yield lambda name: self.progress.update(task, completed=next(started), description=f"{what}: {name}")
        finally:
            self.progress.remove_task(task)


def label(bundle: Bundle) -> str:
    """The name of a model in a report."""
    return bundle.id if bundle.id.endswith(bundle.precision) else f"{bundle.id} {bundle.precision}"


def decoder(bundle: Bundle, files: Sequence[bytes]) -> Callable[[], Any]:
    """A function that decodes and preprocesses one file, each time the next one."""
    turning = itertools.cycle(files)
    return lambda: load_image(next(turning), bundle.preprocessing)
