"""python -m benchmarks.speed: how fast the service is, beside the bare model and beside other services."""

from __future__ import annotations

import dataclasses
import logging
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer
import uvloop
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks.machine import machine
from benchmarks.speed import models, standing
from benchmarks.speed.bench import SIZES, Bench, Inputs
from benchmarks.speed.driving import leave_generator_core
from benchmarks.speed.ladder import ladder
from benchmarks.speed.loops import loops
from benchmarks.speed.record import Record
from benchmarks.speed.report import page
from benchmarks.speed.rivals import rivals
from model.bundle import bundled
from service.memory import give_back_large_blocks, leave_out_what_stays

RESULTS = Path(__file__).parents[1] / "results"
PHASES: dict[str, Callable[[Bench], Awaitable[None]]] = {
    "generator": standing.generator,
    "ladder": ladder,
    "loops": loops,
    "peers": rivals,
    "cache": standing.cache,
    "camera": standing.camera,
    "start": standing.start,
    "memory": standing.memory,
}
app = typer.Typer(add_completion=False, rich_markup_mode="markdown")


@app.command()
def speed(
    size: Annotated[str, typer.Option(help=f"One of {', '.join(SIZES)}.")] = "full",
    phase: Annotated[list[str] | None, typer.Option(help=f"Only these, of {', '.join(PHASES)}.")] = None,
    bundle: Annotated[list[Path] | None, typer.Option(help="Only these models, by the folder of their bundle.")] = None,
    rounds: Annotated[int | None, typer.Option(min=1, help="How often each reading is taken.")] = None,
    provider: Annotated[str, typer.Option(help="cpu, cuda, tensorrt or openvino.")] = "cpu",
    json: Annotated[Path | None, typer.Option(help="Where to write the readings; results/speed-DATE.json.")] = None,
) -> None:
    """Measure the ladder from the bare model to HTTP."""
    if size not in SIZES or not set(phase or ()) <= set(PHASES):
        raise typer.BadParameter(f"sizes are {', '.join(SIZES)}; phases are {', '.join(PHASES)}")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    # As the service does, so that the same work costs the same here.
    give_back_large_blocks()
    leave_out_what_stays()
    leave_generator_core()
    console = Console()
    chosen = SIZES[size] if rounds is None else dataclasses.replace(SIZES[size], rounds=rounds)
    started = datetime.now().strftime("%Y-%m-%d %H:%M")
    served = bundle or ([bundled()] if size != "full" else models.standard(provider))
    inputs = Inputs(chosen.pictures)
    record = Record(started, size, machine())
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with (
        tempfile.TemporaryDirectory() as folder,
        Progress(*columns, console=console, transient=True, refresh_per_second=2) as progress,
    ):
        bench = Bench(chosen, served, provider, Path(folder), inputs, record, progress)
        uvloop.run(_run(bench, phase or chosen.phases or list(PHASES)))
    file = json or RESULTS / f"speed-{started.replace(':', '').replace(' ', '-')}.json"
    record.write(file)
    console.print(page(record), markup=False, highlight=False, soft_wrap=True)
    console.print(f"written: {file}", soft_wrap=True)
    if record.failed:
        raise typer.Exit(1)


async def _run(bench: Bench, phases: Sequence[str]) -> None:
    for name in phases:
        started = time.monotonic()
        try:
            await PHASES[name](bench)
        except Exception as error:  # the readings of the others are worth having
            bench.record.failed[name] = f"{type(error).__name__}: {error}"
        bench.record.note("", **{f"{name}_s": round(time.monotonic() - started)})


if __name__ == "__main__":
    app()
