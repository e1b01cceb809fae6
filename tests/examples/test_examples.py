"""What all examples share: they are short, say what they do, and say what is wrong."""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path

import pytest

from tests.examples import EXAMPLES, ROOT, run

STORES = {"chromadb", "lancedb", "pgvector", "psycopg", "qdrant_client", "usearch"}
MOST_LINES = 79


def require_stores(example: Path) -> None:
    """Skip where a store that the example imports is not installed."""
    for node in ast.walk(ast.parse(example.read_text("utf-8"))):
        names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        for name in {name.partition(".")[0] for name in names} & STORES:
            if importlib.util.find_spec(name) is None:
                pytest.skip(f"{name} is not installed")


@pytest.fixture(params=EXAMPLES, ids=lambda example: example.stem)
def example(request: pytest.FixtureRequest) -> Path:
    return Path(request.param)


def test_it_is_short(example: Path) -> None:
    assert len(example.read_text("utf-8").splitlines()) <= MOST_LINES


def test_the_readme_lists_it(example: Path) -> None:
    assert f"]({example.name})" in (ROOT / "examples" / "README.md").read_text("utf-8")


def test_help_says_what_it_does(example: Path) -> None:
    require_stores(example)
    first_line = (ast.get_docstring(ast.parse(example.read_text("utf-8"))) or "").splitlines()[0]
    assert first_line in run(example.stem, "--help").stdout


def test_a_service_that_is_not_there_is_named(example: Path, library: Path) -> None:
    require_stores(example)
    arguments = {
        "find_duplicates": [library],
        "shop_search": ["--database", library / "shop", "search", "a cat"],
        "tag_photos": [library, "cat,dog"],
    }.get(example.stem, [library, "a cat", "--database", library / "vectors"])
    done = run(example.stem, *arguments, url="http://127.0.0.1:9", code=1)
    assert done.stderr.startswith("error: Nothing answers at http://127.0.0.1:9")
