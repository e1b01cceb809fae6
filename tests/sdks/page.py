"""The tables of docs/clients.md, from what the tests declare: `python -m tests.sdks.page` writes them."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.sdks.clients import Client

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "clients.md"
BEGIN = "<!-- from here to the end of the settings: written by python -m tests.sdks.page -->\n"
END = "<!-- the end of the settings -->\n"
APIS = (  # in the order of the page
    "OpenAI", "Jina", "Cohere", "Voyage", "Hugging Face", "Text Embeddings Inference", "Infinity", "Ollama", "Roboflow",
    "Open Inference Protocol",
)  # fmt: skip


class Row(NamedTuple):
    """A client, and what the tests of its class do with it."""

    client: Client
    works: list[str]
    file: str


def rows() -> list[Row]:
    """Of all tests, in the order of the page."""
    found = [row for file in sorted(HERE.glob("test_*.py")) for row in _rows(file)]
    return sorted(found, key=lambda row: (APIS.index(row.client.api), row.client.from_npm, row.client.name.lower()))


def _rows(file: Path) -> Iterator[Row]:
    try:
        module = importlib.import_module(f"tests.sdks.{file.stem}")
    except pytest.skip.Exception as skipped:  # which would skip the test of the page, in silence
        raise ImportError(f"{file.name} is skipped as it is imported: let its setting import the client") from skipped
    for value in vars(module).values():
        if isinstance(client := getattr(value, "client", None), Client):
            names = [name.removeprefix("test_") for name in vars(value) if name.startswith("test_")]
            yield Row(client, [name.replace("_", " ") for name in names], file.name)


def render() -> str:
    """What stands between the marks."""
    parts: list[str] = []
    for api in APIS:
        found = [row for row in rows() if row.client.api == api]
        if found:
            parts += [f"### {api}\n", *_table(found), *(_setting(row) for row in found)]
    return "\n".join(parts)


def _table(found: list[Row]) -> list[str]:
    lines = ["| client | version | works | limits |", "| --- | --- | --- | --- |"]
    for client, works, _ in found:
        lines.append(f"| {client.name} | {', '.join(client.versions())} | {', '.join(works)} | {client.limits} |")
    return [*lines, ""]


def _setting(row: Row) -> str:
    language = "javascript" if row.client.from_npm else "python"
    setting = row.client.setting.strip()
    return f"{row.client.name}:\n\n<!-- not run: run by tests/sdks/{row.file} -->\n```{language}\n{setting}\n```\n"


def with_tables(page: str) -> str:
    """The page, with what the tests say now."""
    head, _, rest = page.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return f"{head}{BEGIN}\n{render()}\n{END}{tail}"


if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text("utf-8")), "utf-8")
