"""`sightword doctor`: what is wrong with an installation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict

import typer

from sightword.command import screen
from sightword.command.doctor.finding import Finding, fail
from sightword.command.screen import JsonOption
from sightword.command.status import SOME_FAILED

MARKS = {"ok": "[green]ok[/]", "warn": "[yellow]warn[/]", "fail": "[red]fail[/]"}


def doctor(as_json: JsonOption = False) -> None:
    """Look at this installation, say what is wrong, and what to do about it. Changes nothing, and sends nothing away.

    Looked at are Python and the packages, builds of onnxruntime over each other, memory, cores and the limits of a
    container, misspelt variables and settings, Redis, what computes, the GPU and its libraries, and the models: their
    digests, and a picture whose vector is known. Give its output with every question.

        sightword doctor

        sightword doctor --json | jq 'select(.status != "ok")'
    """
    people, failed = screen.for_people(as_json), 0
    for finding in _findings():
        failed += finding.status == "fail"
        if people:
            _show(finding)
        else:
            screen.write_json(asdict(finding))
    if people:
        typer.echo(f"\n{failed} to mend" if failed else "\nNothing is wrong.")
    if failed:
        raise typer.Exit(SOME_FAILED)


def _findings() -> Iterator[Finding]:
    """Each as soon as it is known. What imports more than what may be missing comes last."""
    from sightword.command.doctor.packages import check_packages

    yield from check_packages()
    try:
        from sightword.command.doctor.computing import check_computing
        from sightword.command.doctor.machine import check_machine
        from sightword.command.doctor.settings import check_redis, check_service, check_variables, read_settings
    except ImportError as error:
        yield fail("imports", f"the rest cannot be looked at: {error}", "mend what is above first")
        return
    yield from check_variables()
    settings, wrong = read_settings()
    yield from wrong
    yield from check_machine(settings)
    yield from check_redis(settings)
    yield from check_service()
    yield from check_computing(settings)


def _show(finding: Finding) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    table.add_column(width=4)
    table.add_column(width=12, overflow="fold")
    table.add_column(overflow="fold")
    advice = f"\n→ {escape(finding.advice)}" if finding.advice else ""
    table.add_row(MARKS[finding.status], escape(finding.about), escape(finding.seen) + advice)
    Console().print(table)
