"""What a test of a client declares: the row that it has in docs/clients.md, and the code by which it is set up."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ENVIRONMENTS = Path(__file__).parent / "environments"
NAMES = ("current", "older", "npm")
ADDRESS, MODEL = "localhost:8000", "sightword-small"  # as a setting has them
_PIN = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[^]]*])?==([^\s;]+)", re.MULTILINE)


@cache
def pinned(environment: str) -> dict[str, str]:
    """Versions of the packages in an environment, by name; those of npm are `npm:NAME`."""
    if environment == "npm":
        packages = json.loads((ENVIRONMENTS / "package-lock.json").read_text("utf-8"))["packages"]
        return {path.replace("node_modules/", "npm:", 1): each["version"] for path, each in packages.items() if path}
    return dict(_PIN.findall((ENVIRONMENTS / f"{environment}.txt").read_text("utf-8")))


@dataclass(frozen=True)
class Client:
    """A client as people set it up. What it does here is said by the names of its tests."""

    api: str  # whose wire shape it speaks: the heading that it stands under
    name: str
    package: str  # as the registry has it; of npm, with npm: before it
    setting: str  # run by the tests, at the address of the service in place of ADDRESS
    limits: str = ""

    @property
    def from_npm(self) -> bool:
        """Whether it is JavaScript."""
        return self.package.startswith("npm:")

    def versions(self) -> list[str]:
        """Those that are pinned, which are those that the tests run."""
        found = [pinned(name)[self.package] for name in NAMES if self.is_in(name)]
        return sorted({*found})

    def is_in(self, environment: str) -> bool:
        """Whether it is installed there."""
        return self.package in pinned(environment)
