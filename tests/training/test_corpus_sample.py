"""The sample shards that the repository carries."""

import io
from pathlib import Path

import pytest
from PIL import Image

from training.corpus.concepts import is_held_out
from training.corpus.duplicates import find_duplicates
from training.corpus.photographs import load_photographs, photographs
from training.corpus.sample_shards import sample_concepts
from training.corpus.shards import read_shard

SAMPLE = Path(__file__).parents[2] / "training" / "sample"
TRAIN, TEST = SAMPLE / "train-sample-000000.tar", SAMPLE / "test-sample-000000.tar"


def picture(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data)).convert("RGBA")


def test_the_sample_is_small_and_every_picture_reads() -> None:
    assert sum(path.stat().st_size for path in SAMPLE.iterdir()) < 2_000_000
    for shard, count in ((TRAIN, 243), (TEST, 72)):
        items = list(read_shard(shard))
        assert len({key for key, _, _ in items}) == len(items) == count
        for _, data, words in items:
            image = picture(data)
            assert 32 <= min(image.size) <= 128
            assert image.getextrema() != ((0, 0), (0, 0), (0, 0), (0, 0))
            assert {"label", "captions", "tags", "source", "licence"} <= set(words)


def test_the_sample_has_only_free_licences() -> None:
    for shard in (TRAIN, TEST):
        for key, _, words in read_shard(shard):
            assert words["licence"] in {"MIT", "Apache-2.0", "public domain", "CC0"}, key
            assert words.get("attribution") or words["licence"] == "public domain", key


def test_the_sample_asks_for_what_it_teaches_by_an_artist_it_does_not_show() -> None:
    train, test = list(read_shard(TRAIN)), list(read_shard(TEST))
    taught = [words["label"] for key, _, words in train if key.startswith(("fluent-", "fxemoji-"))]
    asked = [words["label"] for _, _, words in test]
    assert sorted(map(str, asked)) == sorted(sample_concepts())
    assert all(taught.count(label) == 3 for label in asked)
    assert {words["source"] for _, _, words in test}.isdisjoint({words["source"] for _, _, words in train})
    assert find_duplicates([TRAIN], [TEST]) == []


def test_the_sample_shows_no_held_out_concept() -> None:
    drawings = [str(words["label"]) for key, _, words in read_shard(TRAIN) if "hexcode" in words]
    assert drawings
    assert not [label for label in drawings if is_held_out(label)]


def test_the_photographs_of_the_sample_can_be_cut_again_from_the_wheel() -> None:
    pytest.importorskip("skimage")
    cut = {key: (data, words) for key, data, words in load_photographs()}
    shipped = {key: (data, words) for key, data, words in read_shard(TRAIN) if key.startswith("photo-")}
    assert set(cut) == set(shipped)
    assert len(cut) == sum(len(photograph.crops) for photograph in photographs())
    for key, (data, annotation) in cut.items():
        assert annotation.to_record() == shipped[key][1]
        assert picture(data).size == picture(shipped[key][0]).size
