"""RESULTS-<device>.md: every promise with what was measured, the figures beside them, and what was not run."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from benchmarks.gpu_check.device import device_name
from benchmarks.gpu_check.findings import Findings, Options, mark
from benchmarks.gpu_check.outcome import Outcome
from benchmarks.machine import machine


def page_name(device: str) -> str:
    """The name of the page for the GPU that is here, or the CPU."""
    name = re.sub(r"[^a-z0-9]+", "-", device_name(device).lower()).strip("-")
    return f"RESULTS-{name}.md"


def write(outcomes: Sequence[Outcome], page: Path, options: Options, date: str, left: Sequence[str]) -> None:
    """Write the page; `left` are the sections that are still to come."""
    page.parent.mkdir(parents=True, exist_ok=True)
    draft = page.with_suffix(".draft")
    draft.write_text(_page(outcomes, options, date, left), "utf-8")
    draft.replace(page)


def _page(outcomes: Sequence[Outcome], options: Options, date: str, left: Sequence[str]) -> str:
    command = f"python -m benchmarks.gpu_check --device {options.device}{' --quick' if options.quick else ''}"
    lines = [f"# {device_name(options.device)}, {date}", "", f"Written by `{command}`. {_verdict(outcomes, left)}", ""]
    lines += [", ".join(f"{name} {value}" for name, value in machine().items())]
    lines += ["", "| section | seconds | promises | kept | broken | not judged | |", f"|{' --- |' * 7}"]
    for outcome in outcomes:
        kept = [promise.kept for promise in outcome.findings.promises]
        counts = f"{len(kept)} | {kept.count(True)} | {kept.count(False)} | {kept.count(None)}"
        failed = "**failed**" if outcome.error else ""
        lines += [f"| {outcome.section.title} | {outcome.seconds:.0f} | {counts} | {failed} |"]
    for outcome in outcomes:
        lines += ["", f"## {outcome.section.title}", "", *_section(outcome.findings, outcome.error)]
    return "\n".join(lines).rstrip() + "\n"


def _verdict(outcomes: Sequence[Outcome], left: Sequence[str]) -> str:
    if left:
        return f"**Not finished**: still to come {', '.join(left)}."
    bad = [outcome.section.title for outcome in outcomes if not outcome.kept]
    return f"**Not everything holds**: {', '.join(bad)}." if bad else "Every promise that was judged was kept."


def _section(findings: Findings, error: str | None) -> list[str]:
    lines = []
    if error:
        lines += ["**Failed:**", "", "```text", error, "```", ""]
    if findings.promises:
        lines += ["| promise | | measured |", "| --- | --- | --- |"]
        for promise in findings.promises:
            word = f"**{mark(promise.kept)}**" if promise.kept is False else mark(promise.kept)
            lines += [f"| {_cell(promise.what)} | {word} | {_cell(promise.measured)} |"]
        lines += [""]
    for table in findings.tables:
        lines += [f"{table.title}:", "", f"| {' | '.join(table.columns)} |", f"|{' --- |' * len(table.columns)}"]
        lines += [f"| {' | '.join(map(_cell, row))} |" for row in table.rows]
        lines += [""]
    lines += [f"- {name}: {_cell(value)}" for name, value in findings.figures.items()]
    lines += [f"- not run: {_cell(each)}" for each in findings.not_run]
    return lines


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
