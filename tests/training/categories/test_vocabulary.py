"""The vocabulary of a run, and the categories of its samples."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from model.tokenizers.categories import Category
from tests.training.categories.conftest import category_config
from tests.training.conftest import COLOURS, picture, write_shard
from training.categories.nouns import NounFinder
from training.categories.vocabulary import Vocabulary, build_vocabulary, describe_vocabulary, read_vocabulary
from training.config import ConfigError, load_config
from training.config.data import Data
from training.data.item_categories import TaggedSamples
from training.data.opened_sources import OpenedSources
from training.loop.setup import captions_without_effect
from training.run_categories import choose_categories

COUNTS = {"dog.n.01": 9, "cat.n.01": 9, "fox.n.01": 3, "elk.n.01": 1}
LEMMAS = {name: Counter({name.partition(".")[0]: 5}) for name in COUNTS} | {"dog.n.01": Counter({"dog": 3, "hound": 4})}


def test_categories_are_the_frequent_ones_by_frequency_and_then_by_name() -> None:
    vocabulary = build_vocabulary(COUNTS, LEMMAS, samples=20, min_count=2, max_categories=10)
    assert vocabulary.synsets == ("cat.n.01", "dog.n.01", "fox.n.01")
    assert vocabulary.counts == (9, 9, 3)
    assert vocabulary.categories[1] == Category("dog.n.01", ("hound", "dog"))
    assert (vocabulary.samples, vocabulary.dropped, vocabulary.rare) == (20, 1, {"elk.n.01": 1})
    assert vocabulary.mean_frequency == pytest.approx(21 / 60)
    assert build_vocabulary(COUNTS, LEMMAS, 20, 2, max_categories=1).synsets == ("cat.n.01",)
    with pytest.raises(
        ConfigError, match=r"min_count: no noun .* of 10 training pictures, the most frequent of 4 of 9"
    ):
        build_vocabulary(COUNTS, LEMMAS, 20, min_count=10, max_categories=10)


def test_a_lemma_names_one_category_only() -> None:
    lemmas = {"bass.n.01": Counter({"bass": 3}), "bass.n.08": Counter({"bass": 2})}
    vocabulary = build_vocabulary({"bass.n.01": 3, "bass.n.08": 2}, lemmas, 5, 1, 10)
    assert vocabulary.categories == (Category("bass.n.01", ("bass",)), Category("bass.n.08", ("bass.n.08",)))


def test_a_vocabulary_is_read_as_it_was_written(tmp_path: Path) -> None:
    vocabulary = build_vocabulary(COUNTS, LEMMAS, 20, 1, 10)
    vocabulary.write(tmp_path / "words" / "categories.json")
    assert read_vocabulary(tmp_path / "words" / "categories.json") == vocabulary
    table = describe_vocabulary(vocabulary, shown=2)
    assert "| hound, dog | dog.n.01 | 9 |" in table
    assert "and 2 more" in table
    assert "too rare: elk.n.01 1" in describe_vocabulary(build_vocabulary(COUNTS, LEMMAS, 20, 2, 10))


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        '{"samples": 1, "dropped": 0, "categories": []}',
        '{"samples": 1, "dropped": 0, "categories": [{"synset": "a.n.01", "names": [], "count": 1}]}',
        '{"samples": -1, "dropped": 0, "categories": [{"synset": "a.n.01", "names": ["a"], "count": 1}]}',
        '{"samples": 1, "dropped": 0, "categories": [{"synset": "a.n.01", "names": ["a"], "count": 1},'
        ' {"synset": "a.n.01", "names": ["b"], "count": 1}]}',
    ],
)
def test_a_file_that_is_no_vocabulary_is_refused_by_its_name(tmp_path: Path, content: str) -> None:
    (tmp_path / "words.json").write_text(content)
    with pytest.raises(ConfigError, match=r"words\.json is no vocabulary"):
        read_vocabulary(tmp_path / "words.json")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_vocabulary(tmp_path / "none.json")


def shard(folder: Path, name: str, annotations: list[dict[str, Any]]) -> None:
    members = {}
    for number, said in enumerate(annotations):
        members[f"{number:03d}.png"] = picture(list(COLOURS)[number % 4], number)
        members[f"{number:03d}.json"] = json.dumps(said).encode()
    write_shard(folder / f"{name}.tar", members)


def test_the_categories_of_a_sample_are_the_nouns_of_all_that_is_said_of_it(tmp_path: Path, finder: NounFinder) -> None:
    said: list[dict[str, Any]] = [
        {"captions": ["a dog on a beach", "two dogs"], "label": "poodle", "description": "Far from any city."},
        {"label": "motorbike", "coarse": "vehicle", "tags": ["wheel", "road"]},
        {"captions": ["so beautiful"]},
        {"captions": ["A DOG on a beach"], "tags": ["dog"]},
    ]
    shard(tmp_path, "one", said)
    shard(tmp_path, "two", said[::-1])
    (tmp_path / "words.json").write_text(json.dumps({"Motorbike": ["scooter"]}))
    sources = [{"shards": ["one.tar"]}, {"shards": ["two.tar"]}]
    data = Data.model_validate({"train": sources, "holdout": 0, "synonyms": "words.json"})
    tagged = TaggedSamples(OpenedSources(data, tmp_path), finder)
    of_samples = [{tagged.synsets[number] for number in tagged.tags[sample]} for sample in range(8)]
    assert of_samples[:4] == [
        {"dog.n.01", "beach.n.01", "poodle.n.01"},
        {"minibike.n.01", "vehicle.n.01", "wheel.n.01", "road.n.01", "water_scooter.n.01"},
        set(),
        {"dog.n.01", "beach.n.01"},
    ]
    assert of_samples[4:] == of_samples[3::-1]
    vocabulary = tagged.vocabulary(min_count=4, max_categories=10)
    assert vocabulary.synsets == ("beach.n.01", "dog.n.01")
    assert (vocabulary.counts, vocabulary.samples) == ((4, 4), 6)
    assert vocabulary.categories[1].names == ("dog",)
    given = tagged.counted([Category("vehicle.n.01", ("vehicle",)), Category("elk.n.01", ("elk",))])
    assert given == Vocabulary(given.categories, (2, 0), 2, len(tagged.synsets) - 1)


def test_what_is_held_out_or_excluded_is_not_counted(animals: Path, finder: NounFinder, tmp_path: Path) -> None:
    (animals / "left-out.json").write_text(json.dumps([f"train-0.tar/{number:04d}" for number in range(0, 40)]))
    counts = []
    for changes in ({"holdout": 0.0}, {"holdout": 0.5}, {"holdout": 0.0, "exclude": "left-out.json"}):
        data = Data.model_validate({"train": [{"shards": ["train-0.tar"]}], **changes})
        counts.append(TaggedSamples(OpenedSources(data, animals), finder).vocabulary(1, 100).samples)
    assert counts == [80, counts[1], 40]
    assert 30 < counts[1] < 50


def test_settings_say_which_synsets_become_categories(animals: Path, tmp_path: Path) -> None:
    def synsets(**settings: Any) -> tuple[str, ...]:
        file = category_config(animals, objective={"kind": "categories", "categories": settings})
        chosen = choose_categories(load_config(file), animals)
        assert chosen is not None
        return chosen.vocabulary.synsets

    everything = synsets(min_count=1)
    assert len(everything) == 9
    assert synsets(min_count=20) == everything[:1]
    assert synsets(max_categories=3) == everything[:3]
    Vocabulary((Category("frog.n.01", ("frog",)),), (1,), 1, 0).write(animals / "mine.json")
    assert synsets(vocabulary="mine.json") == ("frog.n.01",)
    with pytest.raises(ConfigError, match="apt-get install wordnet-base"):
        synsets(wordnet=str(tmp_path))


@pytest.mark.parametrize(
    ("objective", "message"),
    [
        ({"kind": "sigmoid", "categories": {"min_count": 2}}, "categories is of another kind than sigmoid"),
        ({"kind": "categories", "teacher": "bundle"}, "teacher compares pictures with texts"),
        (
            {"kind": "categories", "categories": {"vocabulary": "a.json", "min_count": 2}},
            "says how a vocabulary is made",
        ),
    ],
)
def test_settings_that_contradict_each_other_are_refused(tmp_path: Path, objective: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(category_config(tmp_path, objective=objective))


def test_settings_of_captions_that_categories_do_not_follow_are_told(animals: Path) -> None:
    source = {"shards": ["train-*.tar"], "all_labels": True}
    data = {"train": [source], "max_long_text": 0.5, "captions": {"templates": ["a {}"], "filters": {"min_words": 1}}}
    told = captions_without_effect(load_config(category_config(animals, data=data)))
    fields = ["data.captions.templates", "data.max_long_text", "data.train.0.all_labels"]
    assert [line.partition(":")[0] for line in told] == fields
    assert captions_without_effect(load_config(category_config(animals, data=data, objective="sigmoid"))) == []


def test_captions_that_are_filtered_out_say_nothing(animals: Path, finder: NounFinder) -> None:
    filters = {"captions": {"filters": {"max_words": 4}}, "train": [{"shards": ["train-0.tar"]}], "holdout": 0}
    tagged = TaggedSamples(OpenedSources(Data.model_validate(filters), animals), finder)
    said = set(tagged.vocabulary(1, 100).synsets)
    assert {"bowl.n.01", "lemon.n.01"} <= said
    assert {"dog.n.01", "sea.n.01", "frog.n.01"}.isdisjoint(said)
