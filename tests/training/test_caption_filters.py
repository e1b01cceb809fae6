"""Captions that are left out, by length, repetition, file names, language and a teacher's similarity, and counted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model.config import Preprocessing
from model.embedder import Embedder
from model.export.bundle import export_bundle
from model.tokenizers.clip import Tokenizer
from tests.model.conftest import TINY_LLIP, random_network
from tests.training.conftest import COLOURS, further, picture, write_config, write_shard
from training.config import ConfigError, Data, load_config
from training.data.caption_filters import is_file_name
from training.data.caption_similarity import caption_similarities
from training.data.dataset import TrainingSet
from training.data.image_reader import ImageReader
from training.data.index import open_index
from training.data.languages import LanguageFilter, words_of
from training.run import train_and_export

CAPTIONS = {
    "a": ["a dog sleeps under an old tree", "IMG_2034.jpg"],
    "b": ["image", "two dogs play in the snow near a house"],
    "c": ["image", "https://example.org/a.png"],
    "d": ["image", "ein Hund schläft im hohen Gras vor dem Haus", "dog"],
    "e": ["Image", "собака на снегу"],
}


@pytest.fixture
def shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SIGHTWORD_TRAINING_CACHE", str(tmp_path / "cache"))
    members = {}
    for number, (key, captions) in enumerate(CAPTIONS.items()):
        members[f"{key}.png"] = picture(list(COLOURS)[number % 4], number, (16, 16))
        members[f"{key}.json"] = json.dumps({"captions": captions}).encode()
    return write_shard(tmp_path / "a.tar", members)


def data(holdout: float = 0, **captions: Any) -> Data:
    given = {"train": [{"shards": "a.tar"}], "holdout": holdout, "store_pixels": 32, "max_long_text": 0}
    return Data.model_validate({**given, "captions": captions})


def left(folder: Path, **filters: Any) -> tuple[set[str], dict[str, int], int]:
    """The captions that are drawn of 200 pictures, those that were left out by reason, and the pictures left out."""
    training_set = TrainingSet(data(filters=filters), folder, 0)
    assert training_set.filtered is not None
    texts = set(training_set.batch(0, 200).texts)
    return texts, dict(training_set.filtered.counts), training_set.filtered.dropped


ALL = {caption for captions in CAPTIONS.values() for caption in captions}
FILE = "the name of a file or an address"


def test_captions_of_few_or_many_words_are_left_out(shard: Path, capsys: pytest.CaptureFixture[str]) -> None:
    texts, counts, dropped = left(shard.parent, min_words=3)
    assert texts == {text for text in ALL if len(words_of(text)) >= 3}
    assert counts == {"fewer than 3 words": 6}  # IMG_2034.jpg has two
    assert dropped == 0
    told = capsys.readouterr().err
    assert "captions left out: 6 (fewer than 3 words: 6); 0 pictures have nothing else" in told
    texts, counts, dropped = left(shard.parent, min_words=2, max_words=7)
    assert counts == {"fewer than 2 words": 5, "more than 7 words": 2}
    assert texts == {text for text in ALL if 2 <= len(words_of(text)) <= 7}


def test_captions_of_many_pictures_are_left_out_in_whatever_case(shard: Path) -> None:
    texts, counts, _ = left(shard.parent, max_pictures=3)
    assert texts == ALL - {"image", "Image"}
    assert counts == {"said of more than 3 pictures": 4}
    assert left(shard.parent, max_pictures=4)[0] == ALL


def test_names_of_files_and_addresses_are_left_out(shard: Path) -> None:
    texts, counts, _ = left(shard.parent, file_names=True)
    assert counts == {FILE: 2}
    assert texts == ALL - {"IMG_2034.jpg", "https://example.org/a.png"}
    names = (
        "DSC 0001",
        "dscn1234",
        "20240501_120000.jpg",
        "my-cat.JPEG",
        "www.example.org/x",
        "12345",
        "photo (2).png",
    )
    assert all(is_file_name(name) for name in names)
    words = ("a dog", "photo of 2 cats", "Boeing 747", "route 66 at night", "image", "the file a.jpg", "3 dogs")
    assert not any(is_file_name(text) for text in words)


def test_captions_in_other_languages_are_left_out(shard: Path) -> None:
    texts, counts, _ = left(shard.parent, languages="en")
    assert counts == {"in another language than en": 2}
    assert not {text for text in texts if "Hund" in text or "соб" in text}
    assert left(shard.parent, languages=["en", "de"])[1] == {"in another language than en, de": 1}
    with pytest.raises(ConfigError, match=r"data\.captions\.filters\.languages.*english"):
        left(shard.parent, languages="english")


def test_what_is_not_clear_counts_as_one_of_the_languages() -> None:
    english = LanguageFilter(["en"])
    assert not [
        text for text in ("dog", "noodles", "jaguar", "pizza margherita", "IMG 1", "", "🙂") if english.is_other(text)
    ]
    assert english.is_other("雪の中の犬")
    assert english.is_other("un chien qui dort dans la neige devant la maison")
    russian = LanguageFilter(["ru", "uk"])
    assert russian.is_other("dog")
    assert not russian.is_other("собака на снегу")


def test_a_picture_that_loses_everything_is_left_out_and_counted(shard: Path) -> None:
    training_set = TrainingSet(data(filters={"max_pictures": 3, "file_names": True}), shard.parent, 0)
    assert sorted(training_set.keys(np.arange(len(training_set)))) == [f"a.tar/{key}" for key in "abde"]  # not c
    assert training_set.filtered is not None
    assert training_set.filtered.dropped == 1
    members = {"l.png": picture("red", 1), "l.json": json.dumps({"captions": ["image"], "label": "cat"}).encode()}
    write_shard(shard.parent / "a.tar", members)
    training_set = TrainingSet(data(filters={"min_words": 2}), shard.parent, 0)
    assert training_set.filtered is not None
    assert training_set.filtered.dropped == 0
    assert all("cat" in text for text in training_set.batch(0, 40).texts)


def test_what_is_held_out_is_scored_by_captions_that_are_kept(shard: Path) -> None:
    training_set = TrainingSet(data(0.5, filters={"min_words": 3, "languages": "en"}), shard.parent, 0)
    held = [sample.annotation.captions for _, sample in training_set.holdout]
    assert held
    assert all(len(words_of(caption)) >= 3 for captions in held for caption in captions)


def test_captions_below_a_similarity_under_a_teacher_are_left_out_and_it_is_computed_once(
    shard: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedder, expected = Embedder.load(tiny), {}
    for number, (key, captions) in enumerate(CAPTIONS.items()):
        image = embedder.embed_images([picture(list(COLOURS)[number % 4], number, (16, 16))])[0]
        for caption, cosine in zip(captions, embedder.embed_texts(captions) @ image, strict=True):
            expected[key, caption] = float(cosine)
    middle = float(np.median(list(expected.values()))) + 1e-4
    low = [pair for pair, cosine in expected.items() if cosine < middle]
    config = data(teacher=str(tiny), filters={"min_similarity": middle})
    training_set = TrainingSet(config, shard.parent, 0)
    assert training_set.filtered is not None
    assert training_set.filtered.counts == {f"similarity below {middle:g}": len(low)}
    assert set(training_set.batch(0, 300).texts) == {caption for key, caption in expected if (key, caption) not in low}
    (kept,) = (shard.parent / "cache" / "similarities").glob("*.npy")
    assert np.allclose(np.load(kept), list(expected.values()), atol=1e-5)
    np.save(kept, np.array([1, *[-1] * (len(expected) - 1)], np.float32))  # is read, not computed again
    again = TrainingSet(config, shard.parent, 0)
    assert set(again.batch(0, 20).texts) == {CAPTIONS["a"][0]}
    # Other pictures under the same names are compared anew; where nothing can be kept, too.
    write_shard(shard, {"a.png": picture("red", 0), "a.json": b'{"captions": ["x y"]}'})
    (shard.parent / "file").write_bytes(b"")
    monkeypatch.setenv("SIGHTWORD_TRAINING_CACHE", str(shard.parent / "file"))
    few = TrainingSet(data(teacher=str(tiny), filters={"min_similarity": -1}), shard.parent, 0)
    assert few.batch(0, 2).texts == ["x y"]


def test_a_broken_picture_has_no_similarity_under_a_teacher_of_several_vectors_either(
    shard: Path, tmp_path: Path
) -> None:
    members = {"a.png": picture("red", 0), "a.json": b'{"captions": ["x y"]}', "b.png": b"\x89PNG"}
    write_shard(shard, {**members, "b.json": b'{"captions": ["z"]}'})
    bundle = export_bundle(
        random_network(TINY_LLIP),
        tmp_path / "llip",
        tokenizer=Tokenizer.clip(1024, 77),
        preprocessing=Preprocessing(size=48),
    )
    index = open_index(Data.model_validate({"train": [{"shards": "a.tar"}]}).train[0], shard.parent)
    [found] = caption_similarities([index], str(bundle.path), ImageReader(), shard.parent)
    assert np.isfinite(found).tolist() == [True, False]


@pytest.mark.parametrize(
    ("captions", "message"),
    [
        ({"filters": {"min_similarity": 0.2}}, "name a bundle as teacher, or stored"),
        ({"filters": {"min_words": 5, "max_words": 4}}, "max_words 4 is less than min_words 5"),
        ({"filters": {"max_pictures": 0}}, "greater than 0"),
        ({"filters": {"minwords": 5}}, "did you mean min_words"),
    ],
)
def test_filters_that_cannot_be_are_refused(tmp_path: Path, captions: Any, message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        load_config(write_config(tmp_path, data={"train": [{"shards": ["a.tar"]}], "captions": captions}))
    assert message in str(refused.value)


def test_a_run_tells_what_it_left_out_in_manifest_report_and_card(shard: Path, tiny: Path, tmp_path: Path) -> None:
    captions = {"filters": {"min_words": 2, "min_similarity": -1}, "teacher": str(tiny), "mix": {"human": [1, 2]}}
    given = data(filters={}).model_dump(mode="json") | {"captions": captions}
    file = write_config(shard.parent, data=given, **further(tiny, steps=2, evaluate_every=2, batch_size=8))
    bundle = train_and_export(load_config(file), shard.parent, tmp_path / "run")
    assert bundle is not None
    source = json.loads((bundle.path / "bundle.json").read_text("utf-8"))["source"]
    assert source["filtered_captions"] == {"fewer than 2 words": 5}
    assert source["dropped_by_filters"] == 0
    assert source["configuration"]["data"]["captions"]["teacher"] == tiny.name
    sentence = "Captions left out: fewer than 2 words 5; 0 pictures had nothing else"
    assert sentence in (tmp_path / "run" / "report.html").read_text("utf-8")
    assert sentence in (bundle.path / "MODEL_CARD.md").read_text("utf-8")
