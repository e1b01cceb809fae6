"""Shards as DataCompDR's: synthetic captions are a source, and vectors of a teacher are read, never from a pickle."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from tests.training.conftest import picture, write_shard
from tests.training.reinforced import members_of, npz, unit, write_reinforced
from training.__main__ import app
from training.config import ConfigError, Data, Source
from training.data.dataset import TrainingSet
from training.data.index import SampleIndex, open_index
from training.data.sample import SampleLocation
from training.data.stored_vectors import MAX_ARRAY_BYTES, read_vectors

RED = picture("red", 0, (8, 8))


def index_of(folder: Path, pattern: str = "a.tar") -> SampleIndex:
    return open_index(Source(shards=[pattern]), folder)


def rows(index: SampleIndex, number: int) -> list[int]:
    first, count = int(index.samples["phrase"][number]), int(index.samples["phrase_count"][number])
    return index.phrases["row"][first : first + count].tolist()


def stored(index: SampleIndex, number: int) -> tuple[np.ndarray, np.ndarray]:
    location = index.vectors(number)
    assert location is not None
    vectors = read_vectors(location)
    return vectors.image, vectors.texts


def test_synthetic_captions_are_a_source_and_a_text_beside_them_is_one_caption(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_reinforced(tmp_path / "a.tar")
    index = index_of(tmp_path)
    assert len(index) == 40
    assert index.fields == ["txt", "syn_text"]
    annotation = index.annotation(5)
    assert annotation.captions[:2] == ["alt text of 5", "a green square number 5"]
    assert annotation.caption_fields == ["txt", "syn_text", "syn_text", "syn_text"]
    assert index.record(5).key == "a.tar/00000005"
    told = capsys.readouterr().err
    assert "KEY.syn.json: captions from `syn_text`" in told
    assert "a part that is not read, .paug.json: 40" in told
    given = {"train": [{"shards": "a.tar"}], "holdout": 0, "store_pixels": 32, "max_long_text": 0}
    drawn = TrainingSet(Data.model_validate({**given, "captions": {"mix": {"alt": 1}}}), tmp_path, 0)
    assert all(text.startswith("alt text of") for text in drawn.batch(0, 60).texts)


@pytest.mark.parametrize("form", ["npz", "json"])
def test_each_caption_has_its_row_of_the_vectors(tmp_path: Path, form: str) -> None:
    synthetic = ["one", " ", "one", "the alt", "two"]
    write_shard(tmp_path / "a.tar", members_of("k", 3, "the alt", synthetic, form))
    index = index_of(tmp_path)
    assert index.annotation(0).captions == ["the alt", "one", "two"]
    assert rows(index, 0) == [0, 1, 5]
    rng = np.random.default_rng(3)
    image = rng.normal(size=(3, 6)).astype(np.float32) + 4 * np.eye(6)[3]
    text = rng.normal(size=(6, 6)).astype(np.float32) + 4 * np.eye(6)[3]
    found_image, found_texts = stored(index, 0)
    assert np.allclose(found_image, unit(unit(image).mean(0)), atol=1e-6)
    assert np.allclose(found_texts, unit(text), atol=1e-6)


def test_all_in_one_json(tmp_path: Path) -> None:
    record = {"syn_text": ["s", "", "t"], "caption": "c", "image_emb": [3.0, 4.0]}
    record["text_emb"] = [[1, 0], [0, 1], [0, 0.1], [1, 1]]
    write_shard(tmp_path / "a.tar", {"k.png": RED, "k.json": json.dumps(record).encode()})
    index = index_of(tmp_path)
    assert index.annotation(0).captions == ["c", "s", "t"]
    assert rows(index, 0) == [0, 1, 3]
    assert np.allclose(stored(index, 0)[0], [0.6, 0.8])
    assert "image_emb" not in index.annotation(0).model_dump()


@pytest.mark.parametrize("form", ["npz", "json"])
def test_prepare_keeps_vectors_and_which_caption_each_belongs_to(tmp_path: Path, form: str) -> None:
    members = members_of("k", 1, "alt", ["one", "one", "two"], form) | members_of("l", 2, "alt 2", ["x", "y"], "none")
    write_shard(tmp_path / "a.tar", members)
    for _ in range(2):
        done = CliRunner().invoke(app, ["prepare", str(tmp_path / "a.tar"), "--to", str(tmp_path / "b"), "--overwrite"])
        assert done.exit_code == 0, done.output
    first, again = index_of(tmp_path), index_of(tmp_path, "b/*.tar")
    assert rows(again, 0) == rows(first, 0) == [0, 1, 3]
    assert all(np.array_equal(*pair) for pair in zip(stored(first, 0), stored(again, 0), strict=True))
    assert again.vectors(1) is None
    assert [again.annotation(n).caption_fields for n in range(2)] == [["txt", "syn_text", "syn_text"]] * 2


def test_a_pickle_is_passed_over_and_it_is_told_how_to_convert_it(tmp_path: Path) -> None:
    write_reinforced(tmp_path / "a.tar", 3, "pickle")
    index = index_of(tmp_path)
    assert index.vectors(0) is None
    assert rows(index, 0) == [-1] * 4
    (reason,) = [reason for reason in index.skipped.passed_over if "pickle" in reason]
    assert index.skipped.passed_over[reason] == 3
    assert "numpy.savez(file, image_emb=..., text_emb=...)" in reason


def test_captions_are_judged_by_stored_vectors(tmp_path: Path) -> None:
    write_reinforced(tmp_path / "a.tar", 12)
    index = index_of(tmp_path)
    cosines = {}
    for number in range(12):
        image, texts = stored(index, number)
        for caption, row in zip(index.annotation(number).captions, rows(index, number), strict=True):
            cosines[number, caption] = float(texts[row] @ image)
    middle = float(np.median(list(cosines.values()))) + 1e-5
    captions = {"teacher": "stored", "filters": {"min_similarity": middle}}
    given = {"train": [{"shards": "a.tar"}], "holdout": 0, "store_pixels": 32, "max_long_text": 0}
    training_set = TrainingSet(Data.model_validate({**given, "captions": captions}), tmp_path, 0)
    low = sum(cosine < middle for cosine in cosines.values())
    assert training_set.filtered is not None
    assert training_set.filtered.counts.total() == low == 24
    assert set(training_set.batch(0, 400).texts) == {text for (_, text), cosine in cosines.items() if cosine >= middle}
    write_shard(tmp_path / "a.tar", {"k.png": RED, "k.txt": b"x"})
    with pytest.raises(ConfigError, match="no sample has vectors"):
        TrainingSet(Data.model_validate({**given, "captions": captions}), tmp_path, 0)


GOOD = np.ones((2, 4), np.float32)


def claimed(shape: str, compression: int = zipfile.ZIP_STORED) -> bytes:
    """An archive whose array says that it is of another shape than it has numbers."""
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    array = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + GOOD.tobytes()
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as archive:
        archive.writestr("image_emb.npy", array)
        archive.writestr("text_emb.npy", array)
    return out.getvalue()


def bomb() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("image_emb.npy", bytes(MAX_ARRAY_BYTES + 2))
    return out.getvalue()


def encrypted() -> bytes:
    """An archive whose first member says that it is, in the table of contents and before its bytes."""
    content = bytearray(npz(GOOD, GOOD))
    for signature, flags in ((b"PK\x01\x02", 8), (b"PK\x03\x04", 6)):
        content[content.index(signature) + flags] |= 1
    return bytes(content)


def pickled() -> bytes:
    return npz(np.array([{"a": 1}], dtype=object), GOOD)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (claimed("(1000000000000, 1000)"), "no floating-point numbers in the shape"),
        (claimed("(2, -4)"), "no floating-point numbers|is not valid"),
        (bomb, "more than 67,108,864 bytes"),
        (pickled, "no floating-point numbers"),
        (npz(GOOD.astype(np.int64), GOOD), "no floating-point numbers"),
        (npz(GOOD, np.ones((2, 3))), "images have 4 dimensions and texts 3"),
        (npz(GOOD, GOOD * np.nan), "zero or not finite"),
        (npz(GOOD, np.zeros((0, 4))), "the shape"),
        (npz(GOOD, np.ones((2, 2, 4))), "the shape"),
        (b"PK\x03\x04 cut", "zip"),
        (b"\x80\x04\x95", "zip"),
        (b'{"text_emb": [[1, 2], [3]], "image_emb": [1]}', "shape|inhomogeneous"),
        (b'{"text_emb": [["a"]], "image_emb": [[1]]}', "could not convert"),
        (b'{"text_emb": [[1]]}', "image_emb"),
        (b'{"text_emb": [[1]], "image_emb": [1%s]}' % (b"0" * 400), "too large"),
        (encrypted, "is encrypted"),
        (claimed("(2, 4)", zipfile.ZIP_LZMA), "compressed as numpy does not write it"),
        (claimed("(2, "), "EOF in multi-line|not is valid|header"),
        (claimed("-" * 3000 + "1"), "recursion|shape"),
        (b'{"text_emb": {"a": 1}, "image_emb": [[1]]}', "dict"),
    ],
)
def test_vectors_that_cannot_be_used_are_an_error_that_says_why(tmp_path: Path, content: Any, message: str) -> None:
    file = tmp_path / "a.npz"
    data = content() if callable(content) else content
    file.write_bytes(data)
    with pytest.raises(OSError, match=message):
        read_vectors(SampleLocation(file, 0, len(data)))


def test_broken_vectors_are_counted_and_their_captions_stay(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    members = members_of("k", 0, "alt", ["one"]) | members_of("l", 1, "other", ["two"])
    members["l.npz"] = b"PK broken"
    write_shard(tmp_path / "a.tar", members)
    given = {"train": [{"shards": "a.tar"}], "holdout": 0, "store_pixels": 32, "max_long_text": 0}
    captions = {"teacher": "stored", "filters": {"min_similarity": 1}}
    training_set = TrainingSet(Data.model_validate({**given, "captions": captions}), tmp_path, 0)
    assert set(training_set.batch(0, 40).texts) == {"other", "two"}
    assert "the stored vectors of 1 samples cannot be used" in caplog.text
    done = CliRunner().invoke(app, ["prepare", str(tmp_path / "a.tar"), "--to", str(tmp_path / "b")])
    assert done.exit_code == 0
    again = index_of(tmp_path, "b/*.tar")
    assert again.vectors(0) is not None
    assert again.vectors(1) is None
