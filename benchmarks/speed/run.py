"""One run of the speed benchmark: its phases one after another, its readings, and the page of them."""

from __future__ import annotations

import dataclasses
import logging
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path

import uvloop
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks.machine import machine
from benchmarks.speed import models, other_phases
from benchmarks.speed.bench import SIZES, Bench, Inputs
from benchmarks.speed.ceiling import ceiling
from benchmarks.speed.ladder import ladder
from benchmarks.speed.latency import loops
from benchmarks.speed.load import leave_generator_core
from benchmarks.speed.peers import peers
from benchmarks.speed.record import Record
from benchmarks.speed.report import page
from model.bundle import bundled
from service.memory import configure_malloc, freeze_garbage_collector

RESULTS = Path(__file__).parents[1] / "results"
PHASES: dict[str, Callable[[Bench], Awaitable[None]]] = {
    "generator": other_phases.generator,
    "ladder": ladder,
    "loops": loops,
    "peers": peers,
    "cache": other_phases.cache,
    "camera": other_phases.camera,
    "start": other_phases.start,
    "memory": other_phases.memory,
    "ceiling": ceiling,
}


def run(
    size: str, phases: Sequence[str], bundles: Sequence[Path], rounds: int | None, provider: str, json: Path | None
) -> bool:
    """Measure and print, and write the readings into `json`; whether every phase ran to its end."""
    logging.getLogger("httpx").setLevel(logging.WARNING)
    # As the service does, so that the same work costs the same here.
    configure_malloc()
    freeze_garbage_collector()
    leave_generator_core()
    console = Console()
    chosen = SIZES[size] if rounds is None else dataclasses.replace(SIZES[size], rounds=rounds)
    started = datetime.now().strftime("%Y-%m-%d %H:%M")
    served = list(bundles) or ([bundled()] if size != "full" else models.standard(provider))
    inputs = Inputs(chosen.pictures)
    record = Record(started, size, machine())
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with (
        tempfile.TemporaryDirectory() as folder,
        Progress(*columns, console=console, transient=True, refresh_per_second=2) as progress,
    ):
        bench = Bench(chosen, served, provider, Path(folder), inputs, record, progress)
        names = phases or chosen.phases or list(PHASES)
        uvloop.run(run_phases(bench, {name: PHASES[name] for name in names}))
    file = json or RESULTS / f"speed-{started.replace(':', '').replace(' ', '-')}.json"
    record.write(file)
    console.print(page(record), markup=False, highlight=False, soft_wrap=True)
    console.print(f"written: {file}", soft_wrap=True)
    return not record.failed


async def run_phases(bench: Bench, phases: Mapping[str, Callable[[Bench], Awaitable[None]]]) -> None:
    """Run them in order; one that fails is noted in the record, and the others run all the same."""
    for name, phase in phases.items():
        started = time.monotonic()
        try:
            await phase(bench)
        except Exception as error:
            bench.record.failed[name] = f"{type(error).__name__}: {error}"
        bench.record.note("", **{f"{name}_s": round(time.monotonic() - started)})
