"""A report and a model card explain their own words, as docs/concepts.md does."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.training.report.conftest import TwoRuns
from training.report.glossary import CONCEPTS, TERMS, linked, terms_of

ROOT = Path(__file__).parents[3]
WORDS = {
    "recall at 1, text R@5": "recall at k",
    "11-point mAP": "mAP",
    "top-5": "top-1",
    "few-shot": "linear probe",
    "Expected calibration error": "calibrated",
    "temperature": "logit scale",
    "held-out top-1, %": "held out",
}


class Links(HTMLParser):
    """Where links of a page lead, and the ids of its terms."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.targets: set[str] = set()
        self.terms: set[str] = set()
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag == "a":
            self.targets.add(found["href"] or "")
        elif tag == "dt":
            self.terms.add(f"#{found['id']}")


def test_a_page_leads_from_its_words_to_what_they_mean_and_nowhere_else(runs: TwoRuns) -> None:
    page = (runs.first / "report.html").read_text("utf-8")
    links = Links(page)
    assert links.terms == {f"#{term.anchor}" for term in TERMS}
    used = {"zero-shot", "top-1", "95 % interval", "logit scale", "held out", "calibrated", "cosine", "mean per class"}
    assert {f"#{term.anchor}" for term in TERMS if term.name in used} <= links.targets <= links.terms
    assert f"{CONCEPTS} of Sightword" in page
    assert "://" not in re.sub(r'xmlns(:xlink)?="[^"]*"', "", page)


def test_a_card_explains_the_words_that_it_has_and_no_others(runs: TwoRuns) -> None:
    card = (runs.first / "bundle" / "MODEL_CARD.md").read_text("utf-8")
    body, _, words = card.rpartition("\n## ")
    explained = re.findall(r"^- \*\*(.+?)\*\*: ", words, re.MULTILINE)
    assert {"zero-shot", "top-1", "95 % interval", "calibrated", "held out"} <= {*explained}
    assert "mAP" not in explained
    assert explained == [term.name for term in terms_of(body)]
    assert CONCEPTS in words


def test_what_reports_say_is_what_the_document_says() -> None:
    section = (ROOT / CONCEPTS).read_text("utf-8").partition("## Words of reports\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (.+?) \| (.+) \|$", section, re.MULTILINE)[2:]
    assert rows == [(term.name, term.meaning) for term in TERMS]


@pytest.mark.parametrize("text", WORDS)
def test_other_forms_of_a_word_are_that_word(text: str) -> None:
    assert WORDS[text] in [term.name for term in terms_of(text)]


def test_only_whole_words_are_linked_and_the_rest_stays_text() -> None:
    assert str(linked("<b>scoreboard</b> & cosineses")) == "&lt;b&gt;scoreboard&lt;/b&gt; &amp; cosineses"
    assert str(linked("a cosine<")).startswith('a <a class="word" href="#word-cosine" title="')
