"""The words of reports and model cards, explained inside them: somebody may have nothing but the one file.

The same rows are the table of docs/concepts.md; a test holds the two against each other.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

CONCEPTS = "docs/concepts.md"  # of the project, which has no address of its own


@dataclass(frozen=True)
class Term:
    """A word, what it means, and the other forms in which reports have it, as a regular expression."""

    name: str
    meaning: str
    forms: str = ""

    @property
    def anchor(self) -> str:
        """Its id on a page."""
        return "word-" + re.sub(r"[^a-z0-9]+", "-", self.name.lower())


TERMS = (
    Term("embedding", "the numbers, a vector, that a model makes of a picture or of a text", "embeddings?"),
    Term(
        "cosine",
        "how near two vectors are: 1 where they point the same way, 0 where they have nothing in common; what is high "
        "for one model is low for another, so only the order counts",
        "cosines?",
    ),
    Term(
        "zero-shot",
        "the labels are made sentences, and the one whose vector is nearest to the picture's is the answer; nothing is "
        "trained for these labels",
    ),
    Term(
        "logit scale",
        "what cosines are multiplied by before the softmax, learned in training; the temperature is one divided by it, "
        "and the larger the scale, the surer the scores",
        "logit scale|temperature",
    ),
    Term("score", "after the softmax, how much better a label fits than the other labels, from 0 to 1", "scores?"),
    Term(
        "calibrated",
        "of the answers with a score of 0.8, eight in ten are right; the expected calibration error is how far scores "
        "and shares of right answers are apart on average, 0 at best",
        "(?:expected )?calibration(?: error)?|calibrated",
    ),
    Term("top-1", "share of the pictures whose first answer is right; top-5: one of the first five", "top-[15]"),
    Term("mean per class", "top-1 of each class, averaged, so that rare classes count as much as frequent ones"),
    Term(
        "recall at k",
        "share of the queries that find one of their own among the first k: captions by a picture (text), or pictures "
        "by a caption (image)",
        r"recall at \w+|(?:text|image) R@\d+",
    ),
    Term(
        "ROC AUC",
        "how often a picture of the one class has a higher score for it than one of the other; 50 % is chance",
    ),
    Term(
        "mAP",
        "mean average precision: how far the pictures of a class come first when all are sorted by it",
        "(?:11-point )?mAP",
    ),
    Term(
        "linear probe",
        "labels learned from labelled pictures by logistic regression on the vectors, which stay as they are; "
        "few-shot: from a few pictures of each class",
        "linear probes?|few-shot",
    ),
    Term(
        "95 % interval",
        "what the figure may be on other pictures of the kind; narrow where there are many, and it says nothing of "
        "another training",
        "95 % intervals?|[Ii]ntervals?",
    ),
    Term("held out", "kept from training; the held-out pictures choose which checkpoint is exported", "held[- ]out"),
)  # fmt: skip
_ANY = re.compile(
    "|".join(rf"\b(?P<t{number}>{term.forms or re.escape(term.name)})(?!\w)" for number, term in enumerate(TERMS))
)


def linked(text: object) -> Markup:
    """A text of a page as HTML; each of TERMS in it leads to its explanation, which also shows under the pointer."""
    parts, at = [], 0
    plain = str(text)
    for found in _ANY.finditer(plain):
        term = _term_of(found)
        link = Markup('<a class="word" href="#{}" title="{}">{}</a>').format(term.anchor, term.meaning, found[0])
        parts += [escape(plain[at : found.start()]), link]
        at = found.end()
    return Markup("").join([*parts, escape(plain[at:])])


def terms_of(text: str) -> Sequence[Term]:
    """Those of TERMS that a text has, in their order."""
    found = {_term_of(each) for each in _ANY.finditer(text)}
    return [term for term in TERMS if term in found]


def _term_of(found: re.Match[str]) -> Term:
    assert found.lastgroup is not None
    return TERMS[int(found.lastgroup.removeprefix("t"))]
