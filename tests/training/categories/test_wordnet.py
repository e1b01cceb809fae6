"""WordNet's data files, against NLTK's reader of the same files."""

from __future__ import annotations

import io
import random
import warnings
from pathlib import Path
from typing import Any

import pytest

from training.categories.transfer import ClassFinder
from training.categories.wordnet import NOUN, WORDNET, WordNet
from training.config import ConfigError


def test_synsets_and_lemmas_are_those_that_nltk_reads(wordnet: WordNet, monkeypatch: pytest.MonkeyPatch) -> None:
    nltk = pytest.importorskip("nltk", reason="nltk is not installed")
    from nltk.corpus.reader.wordnet import WordNetCorpusReader

    class Reader(WordNetCorpusReader):
        """With the names of lexicographer files, which the package of Debian leaves out."""

        def open(self, file: str) -> Any:
            names = "".join(f"{number:02d}\tname\t1\n" for number in range(45))
            return io.StringIO(names) if file == "lexnames" else super().open(file)

        def map_wn(self, *_: object) -> dict[str, str]:
            return {}

    monkeypatch.setattr(nltk.data, "path", [str(WORDNET)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = Reader(str(WORDNET), None)
    words = [line.split()[0] for line in (WORDNET / "index.noun").read_text().splitlines() if line[0] != " "]
    for lemma in random.Random(0).sample(words, 300):
        senses = [wordnet.synset(offset).name for offset in wordnet.senses(lemma)]
        assert [each.name() for each in theirs.synsets(lemma, "n")][: len(senses)] == senses
        for form in (lemma, f"{lemma}s", f"{lemma}es"):
            assert set(wordnet.lemmas(form, NOUN)) >= {theirs.morphy(form, "n")} - {None}
        synset = theirs.synset(senses[0])
        above = {each.offset() for each in synset.closure(lambda s: s.hypernyms() + s.instance_hypernyms())}
        assert set(wordnet.kinds_of(wordnet.synset(synset.offset()))) == above | {synset.offset()}
        assert wordnet.find(senses[0]) == wordnet.synset(synset.offset())
    assert wordnet.find("dog.n.99") is wordnet.find("dog.n.x") is wordnet.find("dog") is None


def test_a_folder_without_wordnet_says_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"objective\.categories\.wordnet: .*apt-get install wordnet-base"):
        WordNet(tmp_path)


@pytest.mark.parametrize("content", ["dog n one", "\xff\xfe", "dog n 1 0 x y z"])
def test_files_that_are_not_wordnets_are_refused(tmp_path: Path, content: str) -> None:
    for part in ("noun", "verb", "adj", "adv"):
        (tmp_path / f"index.{part}").write_text(content, "latin-1")
    with pytest.raises(ConfigError, match="is not WordNet's"):
        WordNet(tmp_path)


def test_classes_find_their_row_or_those_of_their_kinds_or_of_what_they_are(wordnet: WordNet) -> None:
    synsets = ["dog.n.01", "apple.n.01", "poodle.n.01", "vehicle.n.01", "lemon.n.01", "no synset"]
    classes = ClassFinder(wordnet, synsets)
    assert classes.find("dogs") == [0]
    assert classes.find("poodle.n.01") == [2]
    assert classes.find("fruit") == [1, 4]
    assert classes.find("golden retriever") == [0]
    assert classes.find("airplane") == [3]
    assert classes.find("happiness") == classes.find("") == classes.find("xyzzy") == []
