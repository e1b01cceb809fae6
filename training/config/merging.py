"""Fields that are changed in a configuration before it is checked: nested, or by dotted names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def merge_fields(content: dict[str, Any], changes: Mapping[str, Any]) -> None:
    """Put `changes` into `content`: sections are merged field by field, everything else takes the place of what was.

    `objective.kind: sigmoid` is short for `objective: {kind: sigmoid}`. A section that stood there in its short form,
    as in `objective: sigmoid`, is replaced.
    """
    for name, value in changes.items():
        *outer, last = str(name).split(".")
        section = content
        for part in outer:
            section = _section(section, part)
        if isinstance(value, Mapping) and value:
            merge_fields(_section(section, last), value)
        else:
            section[last] = {} if isinstance(value, Mapping) else value  # of its own: later changes are put into it


def changed_fields(changes: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """The dotted name and the value of each field that `merge_fields` would put."""
    for name, value in changes.items():
        if isinstance(value, Mapping) and value:
            yield from changed_fields(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", value


def _section(content: dict[str, Any], name: str) -> dict[str, Any]:
    if not isinstance(content.get(name), dict):
        content[name] = {}
    inner: dict[str, Any] = content[name]
    return inner
