"""Figures in documents are those of a results file, and none is older than the model that it speaks of."""

from __future__ import annotations

import json
import re
from calendar import month_name
from collections.abc import Iterator
from datetime import date, datetime

import pytest

from benchmarks.speed.record import Record
from benchmarks.speed.report import PAGE, page
from model.bundle import bundled
from model.manifest import MANIFEST
from tests.documents import ROOT, documents

BUNDLE = json.loads((bundled() / MANIFEST).read_text("utf-8"))
CREATED = datetime.fromisoformat(BUNDLE["created"]).date()
CARD = str((bundled() / "MODEL_CARD.md").relative_to(ROOT))
HEAD = "| test | pictures |"  # of tables of what the bundled model scores
BUNDLED = re.compile(rf"{BUNDLE['id']}|bundled (?:model|checkpoint)", re.IGNORECASE)
ANOTHER = re.compile(r"bundled (?:then|before)|predecessor", re.IGNORECASE)
WRITTEN = re.compile(rf"\b(\d{{1,2}}) ({'|'.join(month_name[1:])}) (\d{{4}})\b|\b(\d{{4}}-\d\d-\d\d)\b")


def dates(text: str) -> list[date]:
    return [
        date.fromisoformat(iso) if iso else datetime.strptime(f"{day} {month} {year}", "%d %B %Y").date()
        for day, month, year, iso in WRITTEN.findall(text)
    ]


def undated(text: str) -> Iterator[str]:
    """Paragraphs with a date before the bundled model was made that speak of it, and do not say that it was another."""
    for paragraph in re.split(r"\n\s*\n", text):
        old = any(each < CREATED for each in dates(paragraph))
        if old and BUNDLED.search(paragraph) and not ANOTHER.search(paragraph):
            yield paragraph


def scored(text: str) -> Iterator[tuple[int, float]]:
    """(pictures, percent) of each row of the tables under HEAD."""
    for table in re.findall(rf"^{re.escape(HEAD)}.*\n(?:\|.*\n)+", text, re.MULTILINE):
        head, _, *rows = [[cell.strip(" *") for cell in line.strip("|").split("|")] for line in table.splitlines()]
        for row in rows:
            yield int(row[1].replace(",", "")), float(row[head.index("top-1 %")])


def test_the_page_of_speed_is_made_from_its_file() -> None:
    """Which says date, machine and commit; the page also says where the bundled model is another one by now."""
    written = PAGE.read_text("utf-8")
    started = re.match(r"# Speed, (\S+) (\d\d):(\d\d),", written)
    assert started is not None
    record = Record.read(PAGE.parent / "results" / f"speed-{started[1]}-{started[2]}{started[3]}.json")
    assert {"processor", "cores", "commit"} <= set(record.machine)
    assert written == page(record, PAGE.with_suffix(".svg").name)


@pytest.mark.parametrize("document", documents())
def test_what_the_bundled_model_scores_stands_in_its_bundle(document: str) -> None:
    known = {(score["pictures"], round(100 * score["value"], 1)) for score in BUNDLE["scores"].values()}
    rows = set(scored((ROOT / document).read_text("utf-8")))
    assert rows <= known
    assert document != CARD or len(rows) == len(known)


@pytest.mark.parametrize("document", documents())
def test_no_figure_is_older_than_the_bundled_model(document: str) -> None:
    assert list(undated((ROOT / document).read_text("utf-8"))) == []


@pytest.mark.parametrize("document", documents())
def test_results_that_are_named_exist(document: str) -> None:
    named = re.findall(r"\b(?:benchmarks/)?results/([\w-]+\d\.\w+)", (ROOT / document).read_text("utf-8"))
    assert [name for name in named if not (ROOT / "benchmarks" / "results" / name).exists()] == []


def test_old_figures_are_found() -> None:
    old = "The bundled checkpoint does 9 pictures/s (1 May 2020)."
    assert list(undated(f"New.\n\n{old}\n\nThe checkpoint that was bundled then did 8 on 2020-05-01.")) == [old]
    assert list(scored(f"{HEAD} top-1 % |\n| --- | --- | --- |\n| cats | 1,086 | **71.2** |\n")) == [(1086, 71.2)]
