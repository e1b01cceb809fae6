"""Gathers the pages of the site in build/docs: every Markdown file where it stands, its pictures, and two references.

The HTTP reference is written from the schema that the service gives, the Python one from docstrings. Links to what is
no page, such as a file of code, become its path.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fastapi import FastAPI

from service.app import create_app
from service.settings import Settings
from service.state import Service

ROOT = Path(__file__).parents[2]
STAGED = ROOT / "build" / "docs"
PICTURES = {".webp", ".png", ".svg", ".jpg"}
LINK = re.compile(r"(?<!!)\[(?P<text>(?:[^\[\]]|\[[^\]]*\])+)\]\((?P<target>[^()#\s:]+)(?P<anchor>#[^()\s]*)?\)")
PYTHON = {
    "The client": ("sightword.Client", "sightword.AsyncClient", "sightword.Image", "sightword.errors"),
    "Without a service": ("sightword.load", "model.embedder.Embedder", "model.zeroshot", "model.bundle.Bundle"),
}


def stage() -> None:
    """Write all of build/docs anew."""
    shutil.rmtree(STAGED, ignore_errors=True)
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, text=True)  # noqa: S603
    files = [Path(name) for name in listed.stdout.splitlines()]
    pages = {file for file in files if file.suffix == ".md" and file.parts[0] != "tests" and (ROOT / file).exists()}
    pictures = {file for file in files if file.suffix in PICTURES and file.parts[0] in ("docs", "benchmarks")}
    for file in pictures:
        _target(file).write_bytes((ROOT / file).read_bytes())
    for page in pages:
        text = (ROOT / page).read_text("utf-8")
        _target(page).write_text(_without_dead_links(text, page, pages | pictures), "utf-8")
    _target(Path("reference/http.md")).write_text("\n".join(_http(_schema())), "utf-8")
    _target(Path("reference/python.md")).write_text("\n".join(_python()), "utf-8")


def _target(file: Path) -> Path:
    target = STAGED / file
    target.parent.mkdir(parents=True, exist_ok=True)
    return target


def _without_dead_links(text: str, page: Path, staged: set[Path]) -> str:
    def written(link: re.Match[str]) -> str:
        target = (ROOT / page.parent / link["target"]).resolve().relative_to(ROOT)
        if target in staged:
            return link[0]
        path = f"`{target}`"
        return path if link["text"].strip("`") == str(target) or link["text"] == path else f"{link['text']} ({path})"

    return LINK.sub(written, text)


def _schema() -> dict[str, Any]:
    app: Any = create_app(Service(Settings()))
    while not isinstance(app, FastAPI):
        app = app.app
    return app.openapi()


def _http(schema: dict[str, Any]) -> Iterator[str]:
    yield "# HTTP reference\n"
    yield "Written from `/openapi.json`; `/docs` of a running service is the same to try out.\n"
    by_tag: dict[str, list[str]] = {}
    for path, operations in schema["paths"].items():
        for method, operation in operations.items():
            [tag, *_] = operation.get("tags", ["others"])
            by_tag.setdefault(tag, []).extend(_operation(method, path, operation))
    for tag, lines in by_tag.items():
        yield f"## {tag[:1].upper()}{tag[1:]}\n"
        yield from lines


def _operation(method: str, path: str, operation: dict[str, Any]) -> Iterator[str]:
    yield f"### {method.upper()} {path}\n"
    yield f"{operation.get('summary', '')}. {operation.get('description', '')}\n"
    options = [each for each in operation.get("parameters", []) if each["in"] != "header"]
    for each in options:
        described = each.get("description") or each["schema"].get("description", "")
        yield f"- `{each['name']}` in the {each['in']}: {' '.join(described.split())}"
    body = operation.get("requestBody", {}).get("content", {})
    if body:
        yield f"\nBodies: {', '.join(f'`{media_type}`' for media_type in body)}.\n"
    for name, example in body.get("application/json", {}).get("examples", {}).items():
        yield f"{name[:1].upper()}{name[1:]}:\n"
        yield f"```json\n{json.dumps(example['value'], indent=2, ensure_ascii=False)}\n```\n"
    yield f"Statuses: {', '.join(sorted(operation['responses']))}.\n"


def _python() -> Iterator[str]:
    yield "# Python reference\n"
    for heading, names in PYTHON.items():
        yield f"## {heading}\n"
        for name in names:
            yield f"::: {name}\n"


if __name__ == "__main__":
    stage()
