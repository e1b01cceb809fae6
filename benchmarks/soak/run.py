"""One run of the soak: its phases one after another, and the report of what held."""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from pathlib import Path

import uvloop
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks.inputs import jpeg_files
from benchmarks.redis_server import RedisNotInstalledError
from benchmarks.soak import failures, load
from benchmarks.soak.bench import SIZES, Bench
from benchmarks.soak.report import Phase, write
from model.bundle import bundled

PHASES: dict[str, Callable[[Bench], Awaitable[Phase]]] = {
    "texts": lambda bench: load.overload(bench, "texts"),
    "pictures": lambda bench: load.overload(bench, "pictures"),
    "memory": load.memory,
    "fairness": load.fairness,
    "redis": failures.redis,
    "reload": failures.reload,
    "stop": failures.stop,
}


def run(size: str, phases: Sequence[str], bundle: Path | None, results: Path) -> bool:
    """Run the phases and write the report into the folder `results`; whether every promise was kept."""
    logging.getLogger("httpx").setLevel(logging.WARNING)
    console = Console()
    started = datetime.now().strftime("%Y-%m-%d %H:%M")
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    done: list[Phase] = []
    with tempfile.TemporaryDirectory() as folder, Progress(*columns, console=console, transient=True) as progress:
        bench = Bench(SIZES[size], bundle or bundled(), Path(folder), jpeg_files(SIZES[size].pictures), progress)
        for name in phases or PHASES:
            done.append(_run(PHASES[name], name, bench))
            console.print(f"[bold]{done[-1].name}[/] ({done[-1].seconds:.0f} s)")
            done[-1].show(console)
    console.print(f"written: {write(done, size, started, results)}", soft_wrap=True)
    return all(check.kept for each in done for check in each.checks)


def _run(run: Callable[[Bench], Awaitable[Phase]], name: str, bench: Bench) -> Phase:
    """One phase; one that cannot run does not keep the others from it."""
    started = time.monotonic()
    try:
        phase = uvloop.run(_awaited(run, bench))
    except RedisNotInstalledError as reason:  # what the machine lacks
        phase = Phase(name, figures={"skipped": str(reason)})
    except Exception as error:
        phase = Phase(name)
        phase.check("the phase runs to its end", False, f"{type(error).__name__}: {error}")
    phase.seconds = time.monotonic() - started
    return phase


async def _awaited(run: Callable[[Bench], Awaitable[Phase]], bench: Bench) -> Phase:
    return await run(bench)
