"""Whole jobs: the vectors of the service, what fails, the layouts, and what is refused."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow.parquet as pq
import pytest

from model.bundle import Bundle
from service.bulk.folder import Folder
from service.bulk.job import JobError, Planned
from service.bulk.sources import Part
from sightword.command.vector_file import read_vectors
from tests.service.bulk.jobs import errors, files, job, pictures, rows
from tests.service.llip import Llip

TEXTS = {"a.txt": "a cat", "b.txt": "two dogs on a beach", "c.txt": "word " * 200, "d.txt": " ", "e.txt": "猫 🐈"}


def embed(client: httpx.Client, inputs: list[Any], **options: Any) -> list[Any]:
    """What the service says to each: its vector, or the message of its error."""
    answer = client.post("/embed", json={"inputs": inputs, "on_error": "item", **options}).json()
    return [each.get("embedding") or each["error"]["message"] for each in answer["data"]]


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    folder = tmp_path / "texts"
    folder.mkdir()
    for name, text in TEXTS.items():
        (folder / name).write_text(text, "utf-8")
    return folder


def test_pictures_have_the_vectors_and_errors_of_the_service(
    tmp_path: Path, bundle_path: Path, other_bundle: Bundle, client: httpx.Client
) -> None:
    folder, output = pictures(tmp_path / "pictures", 21), tmp_path / "vectors"
    (folder / "0005.jpg").write_bytes(b"no picture")
    (folder / "0006.jpg").write_bytes((folder / "0006.jpg").read_bytes()[:600])
    arguments = (folder, "--model", bundle_path, "--output", output)
    done = job(*arguments, "--part-rows", 10)
    assert done.code == 1, done.told
    assert f"2 of 21 items failed: {output / '_errors.jsonl'}" in done.told
    found = rows(output)
    kept = read_vectors(output / "part-00000.parquet")  # for `sightword search`
    assert (len(kept.keys), kept.vectors.shape) == (8, (8, 256))
    expected = embed(
        client, [{"image": base64.b64encode(file.read_bytes()).decode()} for file in sorted(folder.iterdir())]
    )
    for row, answer in zip(found, expected, strict=True):
        assert row["source"] == str(folder / row["key"])
        if isinstance(answer, str):
            assert (row["vector"], row["error"]) == (None, answer)
        else:
            assert row["error"] is None
            assert np.dot(row["vector"], answer) == pytest.approx(1, abs=1e-6)
    failed = [row for row in found if row["error"]]
    assert errors(output) == [{name: row[name] for name in ("key", "source", "error")} for row in failed]
    assert [row["key"] for row in failed] == ["0005.jpg", "0006.jpg"]
    [first, *_] = sorted(output.glob("part-*.parquet"))
    assert str(pq.read_schema(first).field("vector").type) == "fixed_size_list<element: float>[256]"

    before = files(output)
    again = job(*arguments, "--part-rows", 11)
    assert again.code == 2
    assert "another job: part_rows is 10 there and 11 here" in again.told
    other = job(folder, "--model", other_bundle.path, "--output", output, "--part-rows", 10)
    assert other.code == 2
    assert f"digest is {json.loads((output / '_job.json').read_bytes())['digest']} there" in other.told
    assert files(output) == before


def test_texts_have_the_vectors_and_errors_of_the_service(
    tmp_path: Path, texts: Path, bundle_path: Path, client: httpx.Client
) -> None:
    output = tmp_path / "vectors"
    options = ("--kind", "text", "--model", bundle_path, "--dimensions", 64, "--precision", "float16", "--part-rows", 1)
    assert job(texts, *options, "--output", output).code == 1
    [*expected] = embed(client, list(TEXTS.values()), dimensions=64)
    for row, answer in zip(rows(output), expected, strict=True):
        if row["key"] == "c.txt":
            assert row["error"] == answer
            assert "200" in answer or "202" in answer
        elif row["key"] == "d.txt":
            assert "empty" in row["error"]
        else:
            assert np.dot(row["vector"], answer) == pytest.approx(1, abs=2e-3)
    assert len(errors(output)) == 2
    types = {str(pq.read_schema(file).field("vector").type) for file in output.glob("part-*")}
    assert types == {"fixed_size_list<element: halffloat>[64]"}, "also where all of a part failed"


def test_clip_retrievals_layout(tmp_path: Path, texts: Path) -> None:
    """As `clip_retrieval/clip_inference/writer.py` of clip-retrieval 2.45 writes it, without rows of what failed."""
    output = tmp_path / "vectors"
    done = job(
        texts, "--kind", "text", "--layout", "clip-retrieval", "--truncate", "--part-rows", 3, "--output", output
    )
    assert done.code == 1, done.told  # an empty one
    for number, keys in enumerate((["a.txt", "b.txt", "c.txt"], ["e.txt"])):
        vectors = np.load(output / "text_emb" / f"text_emb_{number}.npy")
        metadata = pq.read_table(output / "metadata" / f"metadata_{number}.parquet").to_pydict()
        assert vectors.shape == (len(keys), 256)
        assert metadata["key"] == keys
        assert metadata["caption"] == [TEXTS[key].strip() for key in keys]
    with_pictures = tmp_path / "pictures-vectors"
    folder = pictures(tmp_path / "pictures", 11)
    assert job(folder, "--layout", "clip-retrieval", "--part-rows", 1, "--output", with_pictures).code == 0
    assert np.load(with_pictures / "img_emb" / "img_emb_03.npy").shape == (1, 256)
    metadata = pq.read_table(with_pictures / "metadata" / "metadata_10.parquet").to_pydict()
    assert metadata["image_path"] == [str(folder / "0010.jpg")]


def test_npy_is_what_sightword_search_reads(tmp_path: Path) -> None:
    folder, output = pictures(tmp_path / "pictures", 9), tmp_path / "vectors"
    (folder / "0002.jpg").write_bytes(b"no picture")
    assert job(folder, "--layout", "npy", "--output", output, program=("sightword", "bulk")).code == 1
    found = read_vectors(output / "part-00000.npy")
    assert list(found.keys) == [f"{index:04}.jpg" for index in range(9) if index != 2]
    assert found.model == "sightword-small"
    np.testing.assert_allclose(np.linalg.norm(found.vectors, axis=1), 1, atol=1e-6)


def test_settings_of_the_service_apply(tmp_path: Path) -> None:
    folder, output = pictures(tmp_path / "pictures", 3), tmp_path / "vectors"
    assert job(folder, "--output", output, max_image_pixels="100").code == 1
    assert all("at most 100 in all" in row["error"] for row in rows(output))
    assert job(folder, "--output", output).told.count("max_image_pixels is 100 there") == 1


def test_a_picture_of_a_mixture_model_has_no_one_vector(tmp_path: Path, llip: Llip) -> None:
    folder = pictures(tmp_path / "pictures", 1)
    done = job(folder, "--model", llip.bundle.path, "--output", tmp_path / "vectors")
    assert done.code == 2
    assert "no one vector of it to write: `sightword embed --tokens`" in done.told
    assert not (tmp_path / "vectors" / "_job.json").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "reason"),
    [
        (("{empty}",), 2, "nothing to embed in"),
        (("{pictures}/nothing",), 2, "there is no"),
        (("{pictures}", "--dimensions", 1000), 2, "--dimensions: the vectors of sightword-small have 256"),
        (("{pictures}", "--model", "{empty}"), 3, "bundle.json"),
        (("{pictures}", "--output", "{pictures}"), 2, "holds 0000.jpg, and no job: take a folder that is new or empty"),
        (("{pictures}", "--provider", "cuda"), 3, "onnxruntime"),
    ],
)
def test_what_cannot_be_done_is_told(tmp_path: Path, arguments: tuple[object, ...], code: int, reason: str) -> None:
    folders = {"pictures": pictures(tmp_path / "pictures", 1), "empty": tmp_path / "empty"}
    folders["empty"].mkdir()
    given = [str(each).format(**folders) for each in arguments]
    done = job(*given, *(() if "--output" in given else ("--output", tmp_path / "vectors")))
    assert done.code == code, done.told
    assert reason in done.told
    assert "Traceback" not in done.told


def test_options_of_tables_reach_their_reader(tmp_path: Path) -> None:
    pictures(tmp_path / "pictures", 2)
    table, output = tmp_path / "table.csv", tmp_path / "vectors"
    lines = ["name;file;about", "érable;0000.jpg;a tree", "hêtre;0001.jpg;a tree", "if;0002.jpg;a yew", ""]
    table.write_bytes("\n".join(lines).encode("latin-1"))
    reading = ("--column", "file", "--key-column", "name", "--delimiter", ";", "--encoding", "latin-1")
    done = job(table, *reading, "--root", tmp_path / "pictures", "--kind", "image", "--output", output)
    assert done.code == 1, done.told
    found = [(row["key"], row["error"] is None) for row in rows(output)]
    assert found == [("érable", True), ("hêtre", True), ("if", False)]


def test_a_plan_that_was_damaged_is_not_taken_for_a_job_that_is_done(tmp_path: Path) -> None:
    folder = Folder(tmp_path, lambda number: True)
    totals = folder.write_plan(
        [Part("folder", "image", "x", 1, names=(f"{n}.jpg",)) for n in range(3)], lambda rows: None
    )
    planned = Planned("image", 8, *totals)
    assert folder.done(planned) == totals
    plan = (tmp_path / "_plan.jsonl").read_bytes()
    for cut in (plan[:-10], plan[: plan.index(b"\n") + 1], b"[]\n", b"{}\n"):
        (tmp_path / "_plan.jsonl").write_bytes(cut)
        with pytest.raises(JobError, match=r"_plan\.jsonl is"):
            folder.done(planned)
    for content in ("[]", "{}", "nothing"):
        (tmp_path / "_job.json").write_text(content, "utf-8")
        with pytest.raises(JobError, match=r"_job\.json is damaged, or not of this command"):
            folder.job()


def test_names_of_files_move_no_cursor_and_colour_no_terminal(tmp_path: Path) -> None:
    """A name that would wipe the screen: of a picture that fails, and of a file that is none."""
    folder = pictures(tmp_path / "pictures", 1)
    for name in ("\x1b[2J.jpg", "\x1b]0;title\x07.exe", "\x1b[2J.tar"):
        (folder / name).write_bytes(b"x")
    done = job(folder, "--output", tmp_path / "vectors")
    assert done.code == 1, done.told
    assert done.told.count("\\x1b") >= 2
    assert all(each.isprintable() or each == "\n" for each in done.told)
    refused = job(folder / "\x1b[2J", "--output", tmp_path / "vectors-2")
    assert (refused.code, "\x1b" in refused.told) == (2, False), refused.told


def test_a_folder_that_is_not_of_a_job_is_left_as_it_is(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "pictures", 1)
    assert job(folder, "--output", folder).code == 2
    assert [each.name for each in folder.iterdir()] == ["0000.jpg"]
    output = tmp_path / "vectors"
    assert job(folder, "--output", output).code == 0
    theirs = [output / "film.mkv.partial", output / "downloads" / "a.partial", output / "b.partial" / "c.txt"]
    for file in theirs:
        file.parent.mkdir(exist_ok=True)
        file.touch()
    ours = [output / ".part-00000.parquet.0123.partial", output / "_errors" / ".part-00000.jsonl.0123.partial"]
    for file in ours:
        file.parent.mkdir(exist_ok=True)
        file.touch()
    assert job(folder, "--output", output).code == 0
    assert [each.exists() for each in (*theirs, *ours)] == [True, True, True, False, False]
    part = output / "part-00000.parquet"
    part.write_bytes(part.read_bytes()[:-10])
    done = job(folder, "--output", output, "--near-duplicates", 0.9)
    assert done.code == 3, "1 would be: all is done, but some items failed"
