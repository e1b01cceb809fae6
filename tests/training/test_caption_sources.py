"""Captions of several sources: each keeps the field that it is from, and a mix says how often each source is drawn."""

from __future__ import annotations

import csv
import json
import random
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from tests.training.conftest import picture, write_config, write_shard
from tests.training.plain_batches import Caption, Phrases, PlainBatches
from training.__main__ import app
from training.config import ConfigError, Data, Source, load_config
from training.config.captions import SOURCES
from training.data.dataset import TrainingSet
from training.data.index import open_index

RED = picture("red", 0, (8, 8))
RECORD = {"captions": ["h1", "h2"], "alt_text": "a", "Title": "t", "syn_text": ["s1", "s2", "h1"], "mine": "m"}


def fields(base: Path, names: tuple[str, ...] = (), **source: Any) -> list[dict[str, str]]:
    """Of each sample its captions with their fields, from the index that is kept and read again."""
    given = Source.model_validate(source)
    first = open_index(given, base, base / "cache", names)
    again = open_index(given, base, base / "cache", names)
    assert again.fields == first.fields
    found = []
    for number in range(len(again)):
        start, count = (int(again.samples[name][number]) for name in ("phrase", "phrase_count"))
        rows = again.phrases[start : start + count]
        texts = [again.texts[row["start"] : row["start"] + row["size"]].tobytes().decode() for row in rows]
        kinds, numbers = rows["kind"].tolist(), rows["field"].tolist()
        found.append({text: again.fields[f] for text, kind, f in zip(texts, kinds, numbers, strict=True) if kind == 0})
    return found


def test_a_caption_keeps_the_field_it_is_from_in_every_form(tmp_path: Path) -> None:
    members = {"a.png": RED, "a.json": json.dumps(RECORD).encode(), "b.png": RED, "b.txt": b"one\ntwo"}
    members |= {"c.png": RED, "c.json": b'{"description": "all of it."}'}
    write_shard(tmp_path / "a.tar", members)
    expected = {"t": "title", "h1": "captions", "h2": "captions", "a": "alt_text", "s1": "syn_text", "s2": "syn_text"}
    described = {"all of it.": "description"}
    assert fields(tmp_path, shards="a.tar") == [expected, {"one": "txt", "two": "txt"}, described]
    assert fields(tmp_path, ("mine",), shards="a.tar")[0] == {**expected, "m": "mine"}
    with (tmp_path / "t.csv").open("w", newline="") as file:
        names = ["file_name", "caption", "Alt Text", "mine"]
        csv.writer(file).writerows([names, ["p.png", "c", "a", "m"], ["p.png", "a", "b", ""]])
    (tmp_path / "p.png").write_bytes(RED)
    # Of a text that is in two columns, the first.
    assert fields(tmp_path, table="t.csv") == [{"c": "caption", "a": "alt_text", "b": "alt_text"}]
    assert fields(tmp_path, ("mine",), table="t.csv")[0]["m"] == "mine"
    assert fields(tmp_path, table="t.csv", columns={"captions": ["mine"]}) == [{"m": "mine"}]
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "k.png").write_bytes(RED)
    (tmp_path / "set" / "k.caption").write_bytes(b"x")
    assert fields(tmp_path, folder="set") == [{"x": "caption"}]


def test_shards_out_of_prepare_keep_the_sources_of_captions(tmp_path: Path) -> None:
    members = {"a.png": RED, "a.json": json.dumps(RECORD).encode(), "b.png": RED, "b.txt": b"one\ntwo"}
    members |= {"c.png": RED, "c.json": b'{"captions": ["only"]}'}
    write_shard(tmp_path / "a.tar", members)
    done = CliRunner().invoke(app, ["prepare", str(tmp_path / "a.tar"), "--to", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    kept = fields(tmp_path, ("mine",), shards="out/*.tar")
    assert kept == fields(tmp_path, ("mine",), shards="a.tar")
    record = {"captions": ["x", "y"], "caption_fields": ["alt_text"]}
    write_shard(tmp_path / "wrong.tar", {"k.png": RED, "k.json": json.dumps(record).encode(), **members})
    assert "`caption_fields` names 1 fields of 2 captions" in str(
        open_index(Source(shards=["wrong.tar"]), tmp_path).skipped.examples
    )


def corpus(folder: Path, count: int = 240, label: bool = False) -> None:
    """Pictures with one human, two alt and four synthetic captions; of every fourth the human one is missing."""
    members: dict[str, bytes] = {}
    for number in range(count):
        record: dict[str, Any] = {"alt_text": [f"a{number}.{i}" for i in range(2)]}
        record["syn_text"] = [f"s{number}.{i}" for i in range(4)]
        if number % 4:
            record["captions"] = [f"h{number}"]
        members[f"{number}.png"] = RED
        members[f"{number}.json"] = json.dumps(record | ({"label": "cat"} if label else {})).encode()
    write_shard(folder / "a.tar", members)


def data(**captions: Any) -> Data:
    given: dict[str, Any] = {"train": [{"shards": "a.tar", "resample": False}], "holdout": 0, "store_pixels": 32}
    return Data.model_validate({**given, "max_long_text": 0, "captions": captions})


def shares(training_set: TrainingSet, step: int, size: int = 960) -> tuple[Counter[str], Counter[str]]:
    """How often a caption of each source is drawn for pictures with a human one, and for those without."""
    batch = training_set.batch(step, size)
    of: tuple[Counter[str], Counter[str]] = Counter(), Counter()
    for place in batch.drawn.tolist():
        text = batch.texts[place]
        of[int(text[1:].split(".")[0]) % 4 == 0][text[0]] += 1
    return of


def test_a_mix_weighs_sources_and_leaves_the_share_of_one_that_is_missing_to_the_others(tmp_path: Path) -> None:
    corpus(tmp_path)
    mixed = TrainingSet(data(mix={"human": 3, "alt": 1, "synthetic": [0, 4]}), tmp_path, 0, steps=100)
    (with_human, without) = shares(mixed, 0)
    assert with_human.total() == 720
    assert 0.68 < with_human["h"] / 720 < 0.82
    assert with_human["s"] == without["s"] == 0
    assert without["a"] == 240
    (with_human, without) = shares(mixed, 50)  # human 3, alt 1, synthetic 2
    assert 0.43 < with_human["h"] / 720 < 0.57
    assert 0.26 < with_human["s"] / 720 < 0.41
    assert 0.57 < without["s"] / 240 < 0.77
    (with_human, without) = shares(mixed, 99)
    assert 0.43 < with_human["s"] / 720 < 0.57
    assert 0.72 < without["s"] / 240 < 0.88
    # Within a source, and where nothing is mixed, every caption counts alike.
    (with_human, _) = shares(TrainingSet(data(), tmp_path, 0, steps=100), 99)
    assert 0.09 < with_human["h"] / 720 < 0.20


def test_a_batch_of_a_mix_is_a_function_of_seed_and_step(tmp_path: Path) -> None:
    corpus(tmp_path)
    config = data(mix={"human": [1, 0.5], "synthetic": [0.2, 1]})
    one, other = (TrainingSet(config, tmp_path, 3, steps=50) for _ in range(2))
    for step in range(8):
        one.batch(step, 40)
    assert one.batch(8, 40).texts == other.batch(8, 40).texts
    assert one.batch(8, 40).texts != TrainingSet(config, tmp_path, 3, steps=9).batch(8, 40).texts  # further on


class PlainMix(PlainBatches):
    """The captions of a mix drawn one by one."""

    source_of: Mapping[str, str]
    weights_now: Mapping[str, float]

    def sample(self, phrases: Phrases, rng: random.Random, worded: Mapping[str, Caption]) -> Caption:
        kinds = dict(phrases.kinds)
        sources = sorted({self.source_of[text[0]] for text in kinds["caption"]}, key=list(SOURCES).index)
        if not any(self.weights_now[source] for source in sources):
            return super().sample(Phrases(**{**vars(phrases), "kinds": phrases.kinds[1:]}), rng, worded)
        rng.random()
        kind = rng.choices(list(kinds), [self.weights[kind] for kind in kinds])[0]
        if kind != "caption":
            label = rng.choice(kinds[kind])
            return rng.choice(self.templates).replace("{}", label), (label,)
        source = rng.choices(sources, [self.weights_now[each] for each in sources])[0]
        text = rng.choice([text for text in kinds["caption"] if self.source_of[text[0]] == source])
        return text, (text.lower(),)


def test_a_batch_of_a_mix_is_what_is_drawn_image_by_image(tmp_path: Path) -> None:
    corpus(tmp_path, 60, label=True)
    config = data(mix={"human": [0, 2], "synthetic": [1, 0]})
    training_set = TrainingSet(config, tmp_path, 3, steps=6)
    plain = PlainMix(config, tmp_path, training_set)
    plain.source_of = {"h": "human", "a": "alt", "s": "synthetic"}
    for step in range(6):
        plain.weights_now = {"human": 2 * step / 6, "alt": 0, "synthetic": 1 - step / 6}
        batch, expected = training_set.batch(step, 40), plain.batch(step, 40)
        assert batch.texts == expected.texts
        assert batch.drawn.tolist() == expected.drawn
        assert torch.equal(batch.positive, torch.from_numpy(expected.positive))
        assert torch.equal(batch.ignored, torch.from_numpy(expected.ignored))


def test_what_a_mix_never_draws_is_told_and_a_label_takes_its_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus(tmp_path, label=True)
    texts = TrainingSet(data(mix={"human": 1}), tmp_path, 0).batch(0, 240).texts
    assert not [text for text in texts if text[0] == "s" and text[1:2].isdigit()]
    told = capsys.readouterr().err
    assert "no weight to captions from `alt_text`: 480 are not drawn" in told
    assert "no weight to captions from `syn_text`: 960 are not drawn" in told
    assert "are left out" not in told
    corpus(tmp_path)  # without a label there is nothing to say of those without a human caption
    training_set = TrainingSet(data(mix={"human": 1}), tmp_path, 0)
    assert len(training_set) == 180
    assert training_set.skip_counts == {"no caption that the mix draws": 60}
    assert "60 pictures have only such captions, and are left out" in capsys.readouterr().err
    assert all(text[0] == "h" for text in training_set.batch(0, 240).texts)


def test_a_source_without_weight_now_is_drawn_where_a_picture_has_no_other(tmp_path: Path) -> None:
    corpus(tmp_path)
    mixed = TrainingSet(data(mix={"human": 1, "synthetic": [0, 1]}), tmp_path, 0, steps=10)
    drawn = [text for text in mixed.batch(0, 240).texts if text[0] != "h"]
    assert len(drawn) == 60
    assert all(text[0] == "s" for text in drawn)  # never alt


def test_long_texts_leave_out_what_weighs_nothing(tmp_path: Path) -> None:
    corpus(tmp_path, 40)
    config = data(mix={"human": 1, "alt": 1}).model_copy(update={"max_long_text": 1.0})
    joined = TrainingSet(config, tmp_path, 0).batch(0, 40).texts
    assert all("a" in text and "s" not in text for text in joined)


def test_sources_name_fields_that_are_read_as_captions(tmp_path: Path) -> None:
    record = {"captions": ["human"], "Llava Caption": ["machine"]}
    write_shard(tmp_path / "a.tar", {"a.png": RED, "a.json": json.dumps(record).encode()})
    assert TrainingSet(data(), tmp_path, 0).batch(0, 4).texts == ["human"]
    own = {"sources": {"human": "captions", "machine": "llava-caption"}, "mix": {"machine": 1}}
    assert TrainingSet(data(**own), tmp_path, 0).batch(0, 4).texts == ["machine"]


@pytest.mark.parametrize(
    ("captions", "message"),
    [
        ({"mix": {"humans": 1}}, "did you mean human"),
        ({"mix": {"human": [0, 1], "alt": [0, 2]}}, "at the start of the run no source has a weight"),
        ({"mix": {"human": [1, 0]}}, "at the end of the run no source has a weight"),
        ({"mix": {"human": 1e307, "alt": 1e308}}, "less than or equal to 1000000"),  # their sum is no number
        ({"weights": {"label": 1e308}}, "less than or equal to 1000000"),
        ({"mix": {"human": -1}}, "greater than or equal to 0"),
        ({"mix": {"human": [1, 2, 3]}}, "mix.human"),
        ({"sources": {"a": ["alt"], "b": ["Alt"]}}, "the field alt is of a and of b"),
        ({"sources": {}}, "sources"),
    ],
)
def test_a_mix_that_cannot_be_is_refused_by_its_field(tmp_path: Path, captions: Any, message: str) -> None:
    given = {"train": [{"shards": ["a.tar"]}], "captions": captions}
    with pytest.raises(ConfigError) as refused:
        load_config(write_config(tmp_path, data=given))
    assert message in str(refused.value)
    assert "data.captions" in str(refused.value)
