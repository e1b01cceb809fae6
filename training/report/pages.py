"""The templates of pages and model cards, and the style of pages."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib import resources

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from training.report.curves import reliability_diagram
from training.report.glossary import CONCEPTS, TERMS, linked
from training.report.tables import metric_name


@cache
def stylesheet() -> str:
    """The CSS of all pages."""
    return resources.files("training.report").joinpath("templates/report.css").read_text("utf-8")


@cache
def templates() -> Environment:
    """The template environment; values are escaped, since names of classes and data sets are anybody's."""
    environment = Environment(
        loader=PackageLoader("training.report"),
        autoescape=select_autoescape(["html.j2"]),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
    )
    filters: dict[str, Callable[..., str]] = {
        "count": lambda number: f"{number:,}",
        "percent": lambda share: f"{100 * share:.1f}",
        "share": lambda share: f"{share:.4f}",
        "metric_name": metric_name,
        "cell": _markdown_cell,
        "reliability": reliability_diagram,
        "linked": linked,
    }
    environment.filters.update(filters)
    environment.globals.update(glossary=TERMS, concepts=CONCEPTS)
    return environment


def _markdown_cell(text: object) -> str:
    """Escape a text for a table of Markdown: one line, no markup, no HTML."""
    plain = " ".join(str(text).split())
    for special in "\\|`<>[]*_":
        plain = plain.replace(special, f"\\{special}")
    return plain
