"""Overlap of what paraphrases find, against sets in plain Python; pairs from captions, names, templates and files."""

from __future__ import annotations

import json
import logging
import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from tests.training.conftest import COLOURS, picture, write_shard
from training.__main__ import app
from training.evaluation import paraphrase
from training.evaluation.datasets import DataError
from training.evaluation.paraphrase import average_overlap, jaccard, measure_paraphrases, top_pictures
from training.evaluation.paraphrase_file import MAX_TEXT, read_pairs
from training.evaluation.paraphrase_pairs import (
    Pair,
    PairSample,
    pairs_of_captions,
    pairs_of_names,
    pairs_of_templates,
    sample_pairs,
)

Array = np.ndarray
WORDS = ["red", "crimson", "blue", "azure", "green", "emerald", "yellow"]
PAIRS = [Pair("red", "crimson", "r"), Pair("blue", "azure", "b"), Pair("green", "emerald", "g"),
         Pair("red", "yellow", "r")]  # fmt: skip


def unit(count: int, seed: int) -> Array:
    vectors = np.random.default_rng(seed).normal(size=(count, 8)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def plain_overlap(one: list[int], other: list[int]) -> float:
    return sum(len(set(one[:d]) & set(other[:d])) / d for d in range(1, len(one) + 1)) / len(one)


def plain_jaccard(one: list[int], other: list[int]) -> float:
    return len(set(one) & set(other)) / len(set(one) | set(other))


def plain_list(cosines: Array, k: int) -> list[int]:
    return sorted(range(len(cosines)), key=lambda number: (-float(cosines[number]), number))[:k]


def embed(texts: list[str]) -> Array:
    return unit(len(WORDS), 1)[[WORDS.index(text) for text in texts]]


def test_overlap_and_similarity_are_those_of_sets() -> None:
    rng = np.random.default_rng(0)
    lists = np.stack([rng.permutation(14)[:10] for _ in range(80)])
    one, other = lists[:40], lists[40:]
    pairs = list(zip(one.tolist(), other.tolist(), strict=True))
    assert average_overlap(one, other).tolist() == pytest.approx([plain_overlap(*pair) for pair in pairs])
    assert jaccard(one, other).tolist() == pytest.approx([plain_jaccard(*pair) for pair in pairs])


def test_overlap_of_lists_that_were_counted_by_hand() -> None:
    one = np.array([[1, 2, 3], [1, 2, 3], [1, 2, 3], [1, 2, 3]])
    other = np.array([[1, 2, 3], [7, 8, 9], [2, 1, 9], [8, 9, 3]])
    assert average_overlap(one, other).tolist() == pytest.approx([1, 0, (0 + 1 + 2 / 3) / 3, 1 / 9])
    assert jaccard(one, other).tolist() == pytest.approx([1, 0, 2 / 4, 1 / 5])


@pytest.mark.parametrize("most", [1, 150, 2**22])
def test_lists_are_of_the_best_pictures_and_equals_in_their_order(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    monkeypatch.setattr(paraphrase, "MAX_SIMILARITIES", most)
    scores = np.random.default_rng(0).integers(0, 9, (13, 50)).astype(np.float32)  # many of them alike
    held: list[int] = []

    def scores_of(rows: slice) -> Array:
        held.append(scores[rows].size)
        return scores[rows]

    assert top_pictures(scores_of, scores.shape, 10).tolist() == [plain_list(row, 10) for row in scores]
    assert max(held) == min(scores.size, max(50, most))


def test_a_measurement_is_what_plain_python_makes_of_the_same_vectors() -> None:
    images, texts = unit(60, 0), unit(len(WORDS), 1)
    lists = {word: plain_list(images @ texts[number], 10) for number, word in enumerate(WORDS)}
    found = measure_paraphrases("set", images, PairSample(PAIRS, 9), embed, lambda i, t: i @ t.T, ["b", "r", "none"])
    overlaps = [plain_overlap(lists[pair.query], lists[pair.paraphrase]) for pair in PAIRS]
    assert found.value == found.metrics["average_overlap@10"] == pytest.approx(np.mean(overlaps))
    shared = [plain_jaccard(lists[pair.query], lists[pair.paraphrase]) for pair in PAIRS]
    assert found.metrics["jaccard@10"] == pytest.approx(np.mean(shared))
    others = [plain_overlap(lists["red"], lists["emerald"]), plain_overlap(lists["blue"], lists["yellow"]),
              plain_overlap(lists["green"], lists["crimson"]), plain_overlap(lists["red"], lists["azure"])]  # fmt: skip
    assert found.metrics["average_overlap@10_of_others"] == pytest.approx(np.mean(others))
    assert found.per_class == pytest.approx({"r": (overlaps[0] + overlaps[3]) / 2, "b": overlaps[1]})
    assert (found.images, found.choices) == (60, 7)
    assert found.settings == {"k": 10, "pairs": 4, "pairs_in_all": 9}


def test_the_interval_is_of_other_origins_not_of_other_pairs() -> None:
    """A hundred wordings of one text say no more than a few: pairs of an origin are drawn together."""
    images = unit(60, 0)
    once = measure_paraphrases("set", images, PairSample(PAIRS[:3], 3), embed, np.inner, k=10)
    many = PairSample([pair for pair in PAIRS[:3] for _ in range(100)], 300)
    often = measure_paraphrases("set", images, many, embed, np.inner, k=10)
    assert often.interval == pytest.approx(once.interval)
    assert once.interval[0] < once.value < once.interval[1]
    apart = PairSample([Pair(*pair[:2], str(number)) for number, pair in enumerate(many.pairs)], 300)
    low, high = measure_paraphrases("set", images, apart, embed, np.inner, k=10).interval
    assert high - low < 0.3 * (once.interval[1] - once.interval[0])


def test_a_model_that_says_the_same_of_all_texts_is_seen_by_the_overlap_of_others() -> None:
    found = measure_paraphrases(
        "set", unit(60, 0), PairSample(PAIRS, 4), lambda t: unit(1, 5).repeat(len(t), axis=0), np.inner
    )
    assert (found.value, found.metrics["average_overlap@10_of_others"]) == (1, 1)


def test_as_many_pictures_as_are_listed_are_refused() -> None:
    with pytest.raises(DataError, match="set: of 10 pictures every text finds the same 10"):
        measure_paraphrases("set", unit(10, 0), PairSample(PAIRS, 4), embed, np.inner)


def test_pairs_are_of_the_first_with_each_other_one() -> None:
    captions = [["a dog", "one dog", "a dog", "dogs"], ["a cat"], [], ["x", "y"]]
    assert list(pairs_of_captions(captions)) == [("a dog", "one dog", "0"), ("a dog", "dogs", "0"), ("x", "y", "3")]
    names, synonyms = [["car", "auto"], ["Cup"], []], {"cup": ["mug"], "tin": ["can"]}
    found = list(pairs_of_names(["car", "Cup", "void"], names, synonyms, "a {}"))
    assert found == [("a car", "a auto", "car"), ("a Cup", "a mug", "Cup")]
    found = list(pairs_of_templates(["car", "Cup", "void"], names, ["{}", "a {}", "the {}"]))
    assert found == [("car", "a car", "car"), ("car", "the car", "car"), ("Cup", "a Cup", "Cup"),
                     ("Cup", "the Cup", "Cup")]  # fmt: skip


def test_of_many_pairs_some_are_drawn_each_as_likely_and_always_the_same() -> None:
    def pairs(count: int) -> list[Pair]:
        return [Pair(str(number), "x", "y") for number in range(count)]

    assert sample_pairs(pairs(7), most=7).pairs == pairs(7)
    drawn = [sample_pairs(iter(pairs(40)), most=10) for _ in range(2)]
    assert drawn[0].pairs == drawn[1].pairs
    assert (len(set(drawn[0].pairs)), drawn[0].total) == (10, 40)
    found = Counter(int(pair.query) // 100 for pair in sample_pairs(pairs(1000), most=500).pairs)
    assert min(found.values()) > 35
    assert "10 of 40 pairs are measured" in drawn[0].warning("set")
    assert "only 1 pair," in sample_pairs(pairs(1)).warning("set")
    assert not sample_pairs(pairs(20)).warning("set")


GOOD = [("a dog", "one dog"), ('a "big" cat', "a cat, a large one")]
FILES = {
    "pairs.csv": 'query,paraphrase\na dog,one dog\n"a ""big"" cat","a cat, a large one"\n',
    "pairs.tsv": 'id\tCaption\tParaphrase\n1\ta dog\tone dog\n2\ta "big" cat\ta cat, a large one\n',
    "pairs.jsonl": "\n".join(json.dumps({"text": one, "paraphrase": other}) for one, other in GOOD),
}


@pytest.mark.parametrize("name", FILES)
def test_files_of_pairs_are_read(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(FILES[name], "utf-8")
    found = read_pairs(tmp_path / name)
    assert [pair[:2] for pair in found.pairs] == GOOD
    assert (found.total, dict(found.skipped.counts)) == (2, {})


def test_rows_that_are_no_pairs_are_told_with_their_lines(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [
        b'{"query": "a dog", "paraphrase": "one dog"}',
        b'{"query": "a dog", "paraphrase": 7}',
        b'{"query": "a dog"}',
        b"",
        b'{"query": "a dog", "paraphrase": " a dog "}',
        b"[" * 5000,
        b'{"query": "a \xff dog", "paraphrase": "a dog"}',
        json.dumps({"query": "a dog", "paraphrase": "a" * (MAX_TEXT + 1)}).encode(),
    ]
    file = tmp_path / "pairs.jsonl"
    file.write_bytes(b"\n".join(rows))
    with caplog.at_level(logging.WARNING):
        found = read_pairs(file)
    assert found.total == 1
    assert found.skipped.counts == {
        "wrong type": 1, "no text": 1, "the same text twice": 1, "unreadable row": 1, "damaged text": 1, "too long": 1
    }  # fmt: skip
    for line in (2, 3, 5, 6, 7):
        assert f"{file}, line {line}: " in caplog.text
    assert f"{file}, line 8" in found.skipped.examples["too long"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "pairs.csv",
            "a dog,one dog\na cat,one cat\n",
            "has no columns `query` and `paraphrase`: its first line",
        ),
        ("pairs.csv", "", "its first line names"),
        ("pairs.jsonl", "", "its first line names none"),
        ("pairs.csv", "query,paraphrase\na dog,\n", r"holds no pair of texts(.|\n)*line 2 \(`paraphrase` is empty\)"),
        ("pairs.xlsx", "x", "is no table of pairs that is read: .csv, .tsv"),
    ],
)
def test_files_that_hold_no_pairs_are_refused(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content, "utf-8")
    with pytest.raises(DataError, match=message):
        read_pairs(tmp_path / name)


def test_pipes_and_missing_files_of_pairs_are_no_wait(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pairs.csv")
    with pytest.raises(OSError, match="no regular file"):
        read_pairs(tmp_path / "pairs.csv")
    with pytest.raises(FileNotFoundError):
        read_pairs(tmp_path / "none.csv")


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Labelled pictures in labelled-0.tar, and others with three captions each in captioned-0.tar."""
    folder = tmp_path_factory.mktemp("shards")
    labelled, captioned = {}, {}
    for number in range(24):
        name = list(COLOURS)[number % 4]
        for members in (labelled, captioned):
            members[f"{number}.png"] = picture(name, number, (16, 16))
        labelled[f"{number}.json"] = json.dumps({"label": name}).encode()
        captions = [f"a {name} wall", f"some {name} paint", f"number {number} in {name}"]
        captioned[f"{number}.json"] = json.dumps({"captions": captions}).encode()
    write_shard(folder / "labelled-0.tar", labelled)
    write_shard(folder / "captioned-0.tar", captioned)
    (folder / "names.json").write_text('{"red": ["red", "crimson"]}')
    (folder / "words.json").write_text('{"blue": ["azure", "navy"]}')
    (folder / "pairs.csv").write_text("query,paraphrase\na red wall,a wall in red\nblue,azure\nx,\n")
    return folder


def measured(model: Path, *arguments: object) -> tuple[dict[str, Any], str]:
    """The records of a measurement by data set, and what it printed."""
    output = model / "results.json"
    given = ["evaluate", model, *arguments, "--task", "paraphrase", "--output", output]
    done = CliRunner().invoke(app, [str(each) for each in given])
    assert done.exit_code == 0, done.output
    return {record["dataset"]: record for record in json.loads(output.read_text())}, done.output


def test_captions_of_a_picture_are_pairs(shards: Path, tiny: Path) -> None:
    found, printed = measured(tiny, "--data", f"walls={shards}/captioned-*.tar")
    record = found["walls (captions)"]
    assert (record["task"], record["headline"]) == ("paraphrase", "average_overlap@10")
    assert record["settings"] == {"k": 10, "pairs": 48, "pairs_in_all": 48}
    assert record["choices"] == 4 + 4 + 24
    low, high = record["interval_95"]
    assert low <= record["metrics"]["average_overlap@10"] <= high
    assert "| walls (captions) | paraphrase | 24 | 32 | average overlap at 10 | " in printed
    assert "Jaccard at 10 " in printed


def test_names_and_templates_and_a_file_are_pairs(shards: Path, tiny: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = "--data", f"walls={shards}/labelled-*.tar"
    words = "--class-names", shards / "names.json", "--template", "a {}", "--template", "{}"
    found, printed = measured(tiny, *data, *words, "--paraphrases", shards / "pairs.csv")
    counts = {name: record["settings"]["pairs"] for name, record in found.items()}
    assert counts == {"walls (synonyms)": 1, "walls (templates)": 4, "walls (pairs.csv)": 2}
    assert list(found["walls (synonyms)"]["per_class"]) == ["red"]
    assert found["walls (synonyms)"]["interval_95"] == [0, 1]
    assert set(found["walls (templates)"]["per_class"]) == set(COLOURS)
    assert found["walls (pairs.csv)"]["skipped"] == {"no text": 1}
    assert "Skipped of walls (pairs.csv): no text 1." in printed
    assert "only 2 pairs, of which no mean says much" in caplog.text


def test_synonyms_are_those_of_the_configuration(shards: Path, tiny: Path) -> None:
    config = shards / "words.yaml"
    settings = {
        "name": "words", "model": "sightword-small", "steps": 2, "batch_size": 4, "templates": ["{}"],
        "stages": [{"start": 0, "pixels": 64}], "optimizer": {"warmup_steps": 1},
        "data": {"train": [{"shards": "x.tar"}], "test": {"walls": "labelled-*.tar"}, "synonyms": "words.json"},
    }  # fmt: skip
    config.write_text(json.dumps(settings))
    found, _ = measured(tiny, "--config", config)
    assert found["walls (synonyms)"]["settings"]["pairs"] == 2
    assert list(found["walls (synonyms)"]["per_class"]) == ["blue"]


def test_a_data_set_without_pairs_is_told_beside_one_that_has_some(
    shards: Path, tiny: Path, caplog: pytest.LogCaptureFixture
) -> None:
    found, _ = measured(tiny, "--data", f"a={shards}/labelled-*.tar", "--data", f"b={shards}/captioned-*.tar")
    assert list(found) == ["b (captions)"]
    assert "a: there are no paraphrases: give pairs by" in caplog.text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--task", "paraphrase"], "there are no paraphrases: give pairs by --paraphrases FILE"),
        (["--task", "zeroshot", "--paraphrases", "pairs.csv"], "--paraphrases gives the pairs of --task paraphrase"),
        (["--task", "paraphrase", "--paraphrases", "none.csv"], "No such file or directory"),
    ],
)
def test_what_cannot_be_measured_says_what_to_do(shards: Path, tiny: Path, arguments: list[str], message: str) -> None:
    given = [str(shards / each) if each.endswith(".csv") else each for each in arguments]
    done = CliRunner().invoke(app, ["evaluate", str(tiny), "--data", f"walls={shards}/labelled-*.tar", *given])
    assert (done.exit_code, message in done.output) == (1, True), done.output
    assert isinstance(done.exception, SystemExit)
