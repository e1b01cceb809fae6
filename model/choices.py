"""Options that take one of a few names, and offer the nearest where they are given another."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import typer

from model.suggestions import not_one_of


def one_of(*names: str) -> Callable[[Any], Any]:
    """A callback for an option of one name or of several. Raises typer.BadParameter for what is none of `names`."""

    def check(value: str | list[str] | None) -> str | list[str] | None:
        for given in [value] if isinstance(value, str) else value or ():
            if given not in names:
                raise typer.BadParameter(not_one_of(given, names))
        return value

    return check
