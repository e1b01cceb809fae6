"""Prints what pyproject.toml asks for, without the project itself: `requirements.py EXTRA...`, one requirement a line.

An image installs this list in a layer of its own, so that a change of our code does not install all of it again.
"""

import re
import sys
import tomllib
from pathlib import Path

with Path("pyproject.toml").open("rb") as file:
    project = tomllib.load(file)["project"]
extras = project["optional-dependencies"]
unknown = set(sys.argv[1:]) - set(extras)
if unknown:
    sys.exit(f"pyproject.toml has no extra {', '.join(sorted(unknown))}; it has {', '.join(extras)}")


def lines(extra: str) -> list[str]:
    """Its requirements, and in the place of an extra of this project what that asks for."""
    found = []
    for line in extras[extra]:
        own = re.fullmatch(rf"{project['name']}\[([\w-]+)\]", line)
        found += lines(own[1]) if own else [line]
    return found


print(*project["dependencies"], *dict.fromkeys(line for extra in sys.argv[1:] for line in lines(extra)), sep="\n")
