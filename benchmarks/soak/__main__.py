"""python -m benchmarks.soak: the promises that hold only if they hold for long."""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Awaitable, Callable
from datetime import datetime
from pathlib import Path
from typing import Annotated

import pytest
import typer
import uvloop
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks.inputs import pictures
from benchmarks.soak import events, load
from benchmarks.soak.bench import SIZES, Bench
from benchmarks.soak.report import Phase, write
from model.bundle import bundled

RESULTS = Path(__file__).parents[1] / "results"
PHASES: dict[str, Callable[[Bench], Awaitable[Phase]]] = {
    "texts": lambda bench: load.overload(bench, "texts"),
    "pictures": lambda bench: load.overload(bench, "pictures"),
    "memory": load.memory,
    "fairness": load.fairness,
    "redis": events.redis,
    "reload": events.reload,
    "stop": events.stop,
}


def soak(
    size: Annotated[str, typer.Option(help=f"One of {', '.join(SIZES)}.")] = "full",
    phase: Annotated[list[str] | None, typer.Option(help=f"Only these, of {', '.join(PHASES)}.")] = None,
    bundle: Annotated[Path | None, typer.Option(help="The model to serve; the bundled one if not given.")] = None,
    results: Annotated[Path, typer.Option(help="Folder for the reports.")] = RESULTS,
) -> None:
    """Run the service under load for a quarter of an hour (full) or two minutes (quick); exit 1 if a promise breaks."""
    if size not in SIZES or not set(phase or ()) <= set(PHASES):
        raise typer.BadParameter(f"sizes are {', '.join(SIZES)}; phases are {', '.join(PHASES)}")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    console = Console()
    started = datetime.now().strftime("%Y-%m-%d %H:%M")
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    done: list[Phase] = []
    with tempfile.TemporaryDirectory() as folder, Progress(*columns, console=console, transient=True) as progress:
        bench = Bench(SIZES[size], bundle or bundled(), Path(folder), pictures(SIZES[size].pictures), progress)
        for name in phase or PHASES:
            done.append(_run(PHASES[name], name, bench))
            console.print(f"[bold]{done[-1].name}[/] ({done[-1].seconds:.0f} s)")
            done[-1].show(console)
    console.print(f"written: {write(done, size, started, results)}", soft_wrap=True)
    if not all(check.kept for each in done for check in each.checks):
        raise typer.Exit(1)


def _run(run: Callable[[Bench], Awaitable[Phase]], name: str, bench: Bench) -> Phase:
    """One phase; one that cannot run does not keep the others from it."""
    started = time.monotonic()
    try:
        phase = uvloop.run(_awaited(run, bench))
    except pytest.skip.Exception as reason:  # what the machine lacks
        phase = Phase(name, figures={"skipped": str(reason)})
    except Exception as error:
        phase = Phase(name)
        phase.check("the phase runs to its end", False, f"{type(error).__name__}: {error}")
    phase.seconds = time.monotonic() - started
    return phase


async def _awaited(run: Callable[[Bench], Awaitable[Phase]], bench: Bench) -> Phase:
    return await run(bench)


if __name__ == "__main__":
    typer.run(soak)
