"""One version, which is that of the changelog; what docs/releases.md says of it is so."""

from __future__ import annotations

import re
import tomllib
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from packaging.version import Version

import model
import sightword
from model.bundle import Bundle, bundled
from service.app import create_app
from service.settings import Settings
from service.state import Service

ROOT = Path(__file__).parents[1]
RELEASES = (ROOT / "docs" / "releases.md").read_text("utf-8")
FIRST = "0.1.0"  # which the code has until it is released
HEADING = re.compile(r"^## (.+)$", re.MULTILINE)
RELEASED = re.compile(r"\[(\d+\.\d+\.\d+)\] - (\d{4}-\d{2}-\d{2})")


def mistakes(changelog: str, version: str) -> list[str]:
    """What is wrong with the sections of a changelog, for code of that version."""
    unreleased, *sections = HEADING.findall(changelog)
    found = [] if unreleased == "[Unreleased]" else [f"the first section is {unreleased}"]
    matches = [RELEASED.fullmatch(section) for section in sections]
    found += [
        f"{section} is no [VERSION] - DATE" for section, match in zip(sections, matches, strict=True) if not match
    ]
    released = [(Version(match[1]), date.fromisoformat(match[2])) for match in matches if match]
    if released != sorted(released, reverse=True) or len({number for number, _ in released}) < len(released):
        found.append("the newest is not first, or one is there twice")
    newest = str(released[0][0]) if released else FIRST
    return found + [f"the code is {version}, the newest section {newest}"] * (version != newest)


def rows(heading: str) -> list[list[str]]:
    """The cells of the one table below a heading of docs/releases.md, without its head."""
    section = RELEASES.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[2:]]


def schema() -> dict[str, Any]:
    app: Any = create_app(Service(Settings()))
    while not isinstance(app, FastAPI):
        app = app.app
    return app.openapi()


def test_the_version_of_the_code_is_the_newest_of_the_changelog() -> None:
    assert mistakes((ROOT / "CHANGELOG.md").read_text("utf-8"), model.__version__) == []


def test_all_that_is_distributed_has_that_version() -> None:
    assert sightword.__version__ == model.__version__
    for file, attribute in (("pyproject.toml", "model"), ("sightword/pyproject.toml", "sightword")):
        project = tomllib.loads((ROOT / file).read_text("utf-8"))
        assert project["project"]["dynamic"] == ["version"]
        assert project["tool"]["setuptools"]["dynamic"]["version"] == {"attr": f"{attribute}.__version__"}


@pytest.mark.parametrize(
    ("changelog", "version", "mistake"),
    [
        ("## [Unreleased]\n## [0.2.0] - 2027-01-02\n## [0.1.0] - 2027-01-01\n", "0.2.0", ""),
        ("## [Unreleased]\n", "0.2.0", "the code is 0.2.0, the newest section 0.1.0"),
        ("## [Unreleased]\n## [0.2.0] - 2027-01-02\n", "0.1.0", "the code is 0.1.0, the newest section 0.2.0"),
        ("## [0.1.0] - 2027-01-02\n", "0.1.0", "the first section is [0.1.0] - 2027-01-02"),
        ("## [Unreleased]\n## 0.1.0\n", "0.1.0", "0.1.0 is no [VERSION] - DATE"),
        ("## [Unreleased]\n## [0.9.0] - 2027-01-02\n## [0.10.0] - 2027-01-03\n", "0.9.0", "the newest is not first"),
    ],
)
def test_a_changelog_that_says_otherwise_is_found(changelog: str, version: str, mistake: str) -> None:
    found = mistakes(changelog, version)
    assert any(each.startswith(mistake) for each in found) if mistake else not found


def test_the_digest_of_the_bundled_model_is_that_of_its_version() -> None:
    """Where this fails, stored vectors no longer compare: say so in the changelog, and add a row."""
    digests = {version: digest.strip("`") for version, _, digest in rows("Vectors of older versions")}
    assert digests[model.__version__] == Bundle.load(bundled()).digest


def test_what_is_deprecated_is_listed_and_is_gone_in_time() -> None:
    properties = [
        name
        for each in schema()["components"]["schemas"].values()
        for name, field in each.get("properties", {}).items()
        if field.get("deprecated")
    ]
    operations = [
        path
        for path, methods in schema()["paths"].items()
        for operation in methods.values()
        if operation.get("deprecated")
    ]
    table = rows("What goes away, and how you are told")
    assert sorted({*properties, *operations}) == sorted(re.findall("`(.+?)`", row[0])[0] for row in table)
    for name, _, since, gone in table:
        assert Version(since) <= Version(model.__version__) < Version(gone), name
