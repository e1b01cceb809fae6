"""Holds the tables of settings: each setting names the test in which changing it changes the outcome."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
Table = Mapping[str, tuple[str, str]]  # setting: (what it changes, "tests/…/test_file.py::test_name")


def check_table(table: Table, settings: Iterable[str]) -> None:
    """Fail for a setting without a row, a row without a setting, and a row whose test does not exist."""
    known = set(settings)
    assert not known - table.keys(), f"no row, so perhaps no test, for {sorted(known - table.keys())}"
    assert not table.keys() - known, f"rows of no setting: {sorted(table.keys() - known)}"
    gone = [f"{name}: {test}" for name, (_, test) in table.items() if not _exists(test)]
    assert not gone, f"tests that do not exist: {gone}"


def _exists(test: str) -> bool:
    file, _, name = test.partition("::")
    return name.startswith("test_") and name in _tests(ROOT / file)


@cache
def _tests(file: Path) -> frozenset[str]:
    if not file.is_file():
        return frozenset()
    tree = ast.parse(file.read_text("utf-8"))
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
