"""The lowest versions that `make test-lowest` installs are those that pyproject.toml admits."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]


def pinned(file: str) -> dict[str, Version]:
    requirements = [
        Requirement(line) for line in (ROOT / file).read_text("utf-8").splitlines() if not line.startswith("#")
    ]
    return {canonicalize_name(each.name): Version(next(iter(each.specifier)).version) for each in requirements}


def declared() -> list[Requirement]:
    """By the service on a CPU."""
    project: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    return [Requirement(each) for each in (*project["dependencies"], *project["optional-dependencies"]["cpu"])]


def bound(requirement: Requirement, operator: str) -> Version:
    [version] = [each.version for each in requirement.specifier if each.operator == operator]
    return Version(version)


@pytest.mark.parametrize("requirement", declared(), ids=str)
def test_the_lowest_version_is_tested(requirement: Requirement) -> None:
    """Where it is not, the head of constraints-lowest.txt has the command that renews it."""
    assert pinned("constraints-lowest.txt")[canonicalize_name(requirement.name)] == bound(requirement, ">=")


def test_no_minor_version_of_uvicorn_is_admitted_above_the_one_that_is_tested() -> None:
    [uvicorn] = [each for each in declared() if each.name == "uvicorn"]
    tested = pinned("constraints.txt")["uvicorn"]
    assert bound(uvicorn, "<") == Version(f"{tested.major}.{tested.minor + 1}")
