"""What a soak found, for the eye, for git and for programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import orjson
from rich.console import Console

from benchmarks.machine import machine


@dataclass
class Check:
    """One promise. `speed` is whether a busy machine can break it."""

    promise: str
    kept: bool
    measured: str
    speed: bool = False


@dataclass
class Phase:
    """One part of a soak."""

    name: str
    seconds: float = 0.0
    checks: list[Check] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)

    def check(self, promise: str, kept: bool, measured: object, *, speed: bool = False) -> None:
        """Note whether a promise was kept, and what says so."""
        self.checks.append(Check(promise, bool(kept), str(measured), speed))

    def show(self, console: Console) -> None:
        """Print it."""
        for check in self.checks:
            mark = "[green]pass[/]" if check.kept else "[red]FAIL[/]"
            console.print(f"  {mark} {check.promise}: {check.measured}", highlight=False, soft_wrap=True)
        figures = ", ".join(f"{name} {value}" for name, value in self.figures.items())
        console.print(f"       [dim]{figures}[/]", highlight=False, soft_wrap=True)


def write(phases: Sequence[Phase], size: str, started: str, folder: Path) -> Path:
    """Write soak-DATE.json and soak-DATE.md; the path of the second."""
    folder.mkdir(parents=True, exist_ok=True)
    name = f"soak-{started.replace(':', '').replace(' ', '-')}"
    document: dict[str, Any] = {
        "started": started,
        "size": size,
        "machine": machine(),
        "phases": [asdict(phase) for phase in phases],
    }
    (folder / f"{name}.json").write_bytes(orjson.dumps(document, option=orjson.OPT_INDENT_2))
    page = folder / f"{name}.md"
    page.write_text(_page(phases, size, started, document["machine"]), "utf-8")
    return page


def _page(phases: Sequence[Phase], size: str, started: str, on: dict[str, Any]) -> str:
    lines = [f"# Soak of {started}, size {size}", "", ", ".join(f"{name} {value}" for name, value in on.items())]
    for phase in phases:
        lines += ["", f"## {phase.name} ({phase.seconds:.0f} s)", "", "| promise | | measured |", "| --- | --- | --- |"]
        lines += [
            f"| {check.promise} | {'kept' if check.kept else '**broken**'} | {check.measured} |"
            for check in phase.checks
        ]
        lines += ["", ", ".join(f"{name} {value}" for name, value in phase.figures.items())]
    return "\n".join(lines) + "\n"
