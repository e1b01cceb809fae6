"""Nouns of captions, their synsets, and how often both are right, by lists that were written by hand."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest

from training.categories.nouns import NounFinder
from training.categories.wordnet import WordNet

HERE = Path(__file__).parent


class Measured(NamedTuple):
    """Shares: of what was found that is a noun of the caption, and with its meaning; of its nouns that were found."""

    precision: float
    recall: float
    meant: float


def measure(file: Path, finder: NounFinder, wordnet: WordNet) -> Measured:
    """A line is a caption, a tab and its nouns; `noun=synset` where another sense than the first is meant."""
    right = found = expected = matched = meant = 0
    for line in file.read_text("utf-8").splitlines():
        caption, _, nouns = line.partition("\t")
        wanted: dict[str, set[str]] = {}  # every sense of a noun that is there, and the meant one
        intended = set()
        for noun in nouns.split():
            lemma, _, synset = noun.partition("=")
            first = finder.first_sense(lemma)
            assert first is not None, lemma
            assert not synset or wordnet.find(synset) is not None, synset
            wanted[lemma] = {wordnet.synset(offset).name for offset in wordnet.senses(lemma)}
            intended.add(synset or first.name)
        got = {noun.lemma: noun.synset.name for noun in finder.nouns(caption)}
        right += sum(
            any(lemma == own or name in senses for own, senses in wanted.items()) for lemma, name in got.items()
        )
        matched += sum(
            any(lemma == own or name in senses for lemma, name in got.items()) for own, senses in wanted.items()
        )
        found, expected = found + len(got), expected + len(wanted)
        meant += len(intended & set(got.values()))
    return Measured(right / found, matched / expected, meant / expected)


def test_nouns_of_a_hundred_captions_are_found(finder: NounFinder, wordnet: WordNet) -> None:
    """The rules were written with these in sight; 13 % of the nouns have another sense than their first."""
    measured = measure(HERE / "captions.tsv", finder, wordnet)
    assert measured.precision > 0.97, measured
    assert measured.recall > 0.97, measured
    assert measured.meant > 0.86, measured


def test_nouns_of_captions_that_no_rule_was_written_for_are_found(finder: NounFinder, wordnet: WordNet) -> None:
    measured = measure(HERE / "captions_unseen.tsv", finder, wordnet)
    assert measured.precision > 0.97, measured
    assert measured.recall > 0.97, measured
    assert measured.meant > 0.84, measured


@pytest.mark.parametrize(
    ("text", "synsets"),
    [
        ("Geese and mice", ["goose.n.01", "mouse.n.01"]),
        ("an ice cream by the traffic lights", ["ice_cream.n.01", "traffic_light.n.01"]),
        ("a t-shirt", ["jersey.n.03"]),
        ("a sail boat", ["sailboat.n.01"]),
        ("a red fire hydrant", ["fireplug.n.01"]),
        ("he saw it in a can", ["can.n.01"]),
        ("a close-up photo of a cat", ["cat.n.01"]),
        ("a photo", ["photograph.n.01"]),
        ("a plate made of china", ["home_plate.n.01", "china.n.02"]),  # no country, which is an individual
        ("the dog's bone", ["dog.n.01", "bone.n.01"]),
        ("the white house", ["house.n.01"]),
        ("a hot dog", ["hotdog.n.02"]),  # and nobody who shows off
        ("a cup of tea", ["cup.n.01", "tea.n.01"]),
        ("a dog, a dog and two dogs", ["dog.n.01"]),
        ("", []),
        ("🙂 123 ... — é \0", []),
    ],
)
def test_a_text_has_these_synsets(finder: NounFinder, text: str, synsets: list[str]) -> None:
    assert [noun.synset.name for noun in finder.nouns(text)] == synsets


def test_the_last_word_of_a_label_is_a_noun(finder: NounFinder) -> None:
    """A label stands without a sentence that would tell."""
    assert [noun.lemma for noun in finder.nouns("running", phrase=True)] == ["running"]
    assert finder.nouns("running") == []
    assert [noun.lemma for noun in finder.nouns("orange", phrase=True)] == ["orange"]


def test_long_and_hostile_texts_take_no_time(finder: NounFinder) -> None:
    assert len(finder.nouns("dog " * 200_000)) == 1
    assert finder.nouns("-" * 100_000 + "a-" * 50_000) == []
    assert [noun.lemma for noun in finder.nouns("-".join(["dog"] * 2_000))] == ["dog"]
