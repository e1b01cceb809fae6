"""What a command writes: tables for people on a terminal, JSON lines for programs, failures on standard error."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from sightword.command.inputs import Input
from sightword.errors import SightwordError

JsonOption = Annotated[
    bool, typer.Option("--json", help="JSON lines, as also where standard output is no terminal.", show_default=False)
]
BAR = 20  # characters
SHOWN_FAILURES = 20


def for_people(as_json: bool) -> bool:
    """Whether somebody reads along."""
    return not as_json and sys.stdout.isatty()


def write_json(value: Any) -> None:
    """One line."""
    line = orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE)
    sys.stdout.buffer.write(line)


def error_json(key: str, error: SightwordError) -> dict[str, Any]:
    """An item that failed, in the place of what it would have given."""
    return {"key": key, "error": {"code": error.code, "message": error.message}}


def write_table(columns: Mapping[str, str], rows: Iterable[Iterable[Any]]) -> None:
    """`columns` are names with what justifies them: left or right."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name, justify in columns.items():
        table.add_column(name, justify="right" if justify == "right" else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    Console().print(table)


def bar(share: float) -> str:
    """A bar of `share`, from 0 to 1."""
    eighths = round(min(max(share, 0.0), 1.0) * BAR * 8)
    whole, part = divmod(eighths, 8)
    return "█" * whole + (" ▏▎▍▌▋▊▉"[part] if part else "")


def name_of(entry: Input | str, item: Path | str | None = None) -> Any:
    """A name for the terminal, which a click opens if it is that of a file; control characters do nothing."""
    from rich.style import Style
    from rich.text import Text

    key, item = (entry.key, entry.item) if isinstance(entry, Input) else (entry, item)
    text = "".join(character if character.isprintable() else ascii(character)[1:-1] for character in key)
    link = item.absolute().as_uri() if isinstance(item, Path) else None
    return Text(text, Style(link=link))


def report_failures(failed: Mapping[str, SightwordError], count: int) -> None:
    """Name those of the `count` items that failed on standard error, the first of them with their reasons."""
    for key, error in list(failed.items())[:SHOWN_FAILURES]:
        typer.echo(f"{ascii(key)[1:-1] if not key.isprintable() else key}: {error.message}", err=True)
    if len(failed) > SHOWN_FAILURES:
        typer.echo(f"and {len(failed) - SHOWN_FAILURES} more", err=True)
    if failed:
        typer.echo(f"{len(failed)} of {count} items failed", err=True)
