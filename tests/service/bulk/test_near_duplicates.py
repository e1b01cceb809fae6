"""Near duplicates: real pictures that were encoded again or resized, and vectors against brute force."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from PIL import Image

from service.bulk import near_duplicates, part_vectors, similar_rows
from service.bulk.job import JobError, JobRequest
from service.bulk.near_duplicates import DUPLICATES, MAX_PARTNERS, PAIRS, NearDuplicates, write_near_duplicates
from service.bulk.run import run as run_job
from service.bulk.sources import SourceOptions

PHOTOGRAPHS = sorted((Path(__file__).parents[3] / "model" / "probe_data").glob("*.jpg"))


def write_parts(
    folder: Path, vectors: Sequence[Any], rows: int = 1_000, keys: Sequence[str] = (), half: bool = False
) -> None:
    """As a finished job leaves them; None is an item that failed."""
    folder.mkdir(exist_ok=True)
    width = next(len(vector) for vector in vectors if vector is not None)
    number_type = np.float16 if half else np.float32
    kind = pa.list_(pa.from_numpy_dtype(number_type), width)
    names = list(keys) or [f"{number:05}.jpg" for number in range(len(vectors))]
    for part, start in enumerate(range(0, len(vectors), rows)):
        chosen = list(vectors[start : start + rows])
        columns = {
            "key": names[start : start + rows],
            "source": [f"/photos/{name}" for name in names[start : start + rows]],
            "vector": pa.array(
                [None if vector is None else np.asarray(vector).astype(number_type) for vector in chosen], kind
            ),
            "error": pa.array([None if vector is not None else "broken" for vector in chosen], pa.string()),
        }
        pq.write_table(pa.table(columns), folder / f"part-{part:05}.parquet")


def read(folder: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    return pq.read_table(folder / PAIRS).to_pylist(), pq.read_table(folder / DUPLICATES).to_pylist()


def run(folder: Path, cosine: float, **options: Any) -> NearDuplicates:
    return write_near_duplicates(folder, cosine, lambda line: None, **options)


def clustered(count: int, width: int = 32, copies: int = 4, noise: float = 0.12) -> NDArray[np.float32]:
    """Directions of which each stands there `copies` times, varied, among all others."""
    random = np.random.default_rng(27)
    centres = random.standard_normal((count // copies, width))
    vectors = np.repeat(centres, copies, axis=0)
    vectors += noise * random.standard_normal(vectors.shape) * random.random((len(vectors), 1)) * 3
    return random.permutation(vectors).astype(np.float32)


def pairs_by_brute_force(vectors: NDArray[np.float32], cosine: float) -> dict[tuple[int, int], float]:
    """By (earlier, later)."""
    normalized = vectors.astype(np.float64) / np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    cosines = np.tril(np.round(normalized @ normalized.T, 6), -1)
    return {(a, b): cosines[b, a] for b, a in np.argwhere(cosines >= cosine).tolist()}


def gone_by_brute_force(pairs: dict[tuple[int, int], float], count: int) -> dict[int, int]:
    """Which row goes for which."""
    gone: dict[int, int] = {}
    for b in range(count):
        staying = [a for a in range(b) if (a, b) in pairs and a not in gone]
        if staying:
            gone[b] = max(staying, key=lambda a: (pairs[a, b], -a))
    return gone


def number(key: str) -> int:
    return int(key.partition(".")[0])


def pictures_with_variants(folder: Path) -> list[str]:
    """Quarters of photographs, each also encoded again and smaller; their keys."""
    keys = []
    for photograph in PHOTOGRAPHS:
        picture = Image.open(photograph)
        half = (picture.width // 2, picture.height // 2)
        for corner, (left, top) in enumerate([(0, 0), (half[0], 0), (0, half[1]), half]):
            crop = picture.crop((left, top, left + half[0], top + half[1]))
            small = crop.resize((crop.width * 7 // 10, crop.height * 7 // 10), Image.Resampling.LANCZOS)
            quarter = folder / f"{photograph.stem}-{corner}"
            quarter.mkdir(parents=True)
            crop.save(quarter / "0-original.png")
            crop.save(quarter / "1-quality.jpg", quality=60)
            small.save(quarter / "2-smaller.jpg", quality=95)
            keys += [f"{quarter.name}/{file.name}" for file in sorted(quarter.iterdir())]
    return keys


def bulk(*arguments: str | Path, hidden: str = "") -> subprocess.CompletedProcess[str]:
    hide = f"import sys; sys.modules.update(dict.fromkeys({hidden.split()!r}))"
    code = (
        f"{hide}; import runpy; sys.argv = ['service', *sys.argv[1:]]; runpy.run_module('service', run_name='__main__')"
    )
    command = [sys.executable, "-c", code, "bulk", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)


def test_pictures_encoded_again_or_resized_are_found_and_their_neighbours_are_not(tmp_path: Path) -> None:
    keys = pictures_with_variants(tmp_path / "photos")
    (tmp_path / "photos" / "broken.jpg").write_bytes(b"no picture")
    output = tmp_path / "vectors"
    command = (tmp_path / "photos", "--output", output, "--part-rows", "10")
    done = bulk(*command, "--near-duplicates", "0.95")
    assert done.returncode == 1, done.stderr  # one failed
    pairs, duplicates = read(output)
    assert {row["key"]: row["duplicate_of"] for row in duplicates} == {
        key: f"{key.partition('/')[0]}/0-original.png" for key in keys if not key.endswith("original.png")
    }
    assert all(row["key_a"].partition("/")[0] == row["key_b"].partition("/")[0] for row in pairs)
    assert len(pairs) == 48
    assert Path(duplicates[0]["source"]).is_file()
    assert "32 of 48 items are near duplicates of an earlier one" in done.stderr
    assert "1 items without a vector" in done.stderr
    again = bulk(*command, "--near-duplicates", "0.99")  # of what is there already
    assert again.returncode == 1, again.stderr
    assert 0 < len(read(output)[0]) < 48
    assert pq.read_table(output).num_rows == 49


def test_a_library_that_is_missing_is_named_before_anything_is_embedded(tmp_path: Path) -> None:
    command = (PHOTOGRAPHS[0].parent, "--output", tmp_path / "vectors", "--near-duplicates", "0.9")
    done = bulk(*command, hidden="faiss")
    assert done.returncode == 1, done.stderr
    assert "faiss is not installed" in done.stderr
    assert "near-duplicates" in done.stderr
    assert not (tmp_path / "vectors").exists()


@pytest.mark.parametrize(
    ("cosine", "layout", "message"),
    [
        (1.5, "parquet", "1.5 is no cosine of theirs: it is over 0 and at most 1"),
        (0.0, "parquet", "0 is no cosine"),
        (float("nan"), "parquet", "nan is no cosine"),
        (0.9, "npy", "leave out --layout npy"),
    ],
)
def test_what_cannot_be_done_is_refused_before_anything_is_embedded(
    tmp_path: Path, cosine: float, layout: Any, message: str
) -> None:
    folder = str(tmp_path / "vectors")
    request = JobRequest((str(tmp_path),), folder, SourceOptions(), layout, "float32", None, None, None, None)
    with pytest.raises(JobError, match=message):
        run_job(request, cosine)
    assert not (tmp_path / "vectors").exists()


@pytest.mark.parametrize("half", [False, True])
def test_pairs_and_what_goes_are_those_of_brute_force(
    tmp_path: Path, half: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(similar_rows, "_SHARD_ROWS", 700)  # several shards and blocks with so few
    monkeypatch.setattr(part_vectors, "BLOCK_ROWS", 300)
    vectors = clustered(2_000)
    if half:
        vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16).astype(np.float32)
    write_parts(tmp_path, list(vectors), rows=450, half=half)
    run(tmp_path, 0.93)
    expected = pairs_by_brute_force(vectors, 0.93)
    assert len(expected) > 500
    pairs, duplicates = read(tmp_path)
    found = {(number(row["key_a"]), number(row["key_b"])): row["cosine"] for row in pairs}
    assert len(found) == len(pairs)
    border = set(expected.keys() ^ found.keys())
    assert all(abs({**expected, **found}[pair] - 0.93) < 3e-6 for pair in border)
    assert all(found[pair] == pytest.approx(expected[pair], abs=3e-6) for pair in expected.keys() & found.keys())
    assert {number(row["key"]): number(row["duplicate_of"]) for row in duplicates} == gone_by_brute_force(found, 2_000)
    order = [(number(row["key_b"]), -row["cosine"], number(row["key_a"])) for row in pairs]
    assert order == sorted(order)


def test_a_chain_is_not_one_group_and_each_that_goes_is_similar_to_one_that_stays(tmp_path: Path) -> None:
    angles = np.deg2rad(np.arange(0, 90, 5))  # each is 5 degrees from the next
    write_parts(tmp_path, list(np.stack([np.cos(angles), np.sin(angles)], axis=1)))
    run(tmp_path, float(np.cos(np.deg2rad(7))))
    _, duplicates = read(tmp_path)
    assert [(number(row["key"]), number(row["duplicate_of"])) for row in duplicates] == [
        (later, later - 1) for later in range(1, 18, 2)
    ]


def test_an_approximate_search_tells_its_recall_and_has_nothing_that_is_wrong(tmp_path: Path) -> None:
    vectors = clustered(3_000)
    write_parts(tmp_path, list(vectors), rows=1_300)
    done = run(tmp_path, 0.95, exact_rows=2_999)
    pairs, _ = read(tmp_path)
    found = {(number(row["key_a"]), number(row["key_b"])) for row in pairs}
    expected = pairs_by_brute_force(vectors, 0.95 - 2e-6).keys()
    assert found <= expected
    assert done.recall is not None
    assert done.recall >= 0.95
    assert len(found) / len(expected) == pytest.approx(done.recall, abs=0.05)
    assert "approximate" in str(done)
    assert f"{done.recall:.1%}" in str(done)
    assert json.loads(pq.read_metadata(tmp_path / PAIRS).metadata[b"sightword.near_duplicates"])["exact"] is False
    assert run(tmp_path, 0.95, exact_rows=3_000).exact


def test_where_the_sample_has_no_pair_the_recall_is_said_to_be_unknown(tmp_path: Path) -> None:
    vectors = np.random.default_rng(1).standard_normal((2_000, 64))
    write_parts(tmp_path, list(vectors))
    done = run(tmp_path, 0.99, exact_rows=10)
    assert (done.recall, done.pairs) == (None, 0)
    assert "not known" in str(done)
    assert read(tmp_path) == ([], [])


@pytest.mark.parametrize("exact_rows", [1_000, 10])
def test_many_equal_pictures_are_bounded_counted_and_all_go_but_the_first(tmp_path: Path, exact_rows: int) -> None:
    same = np.random.default_rng(2).standard_normal(48)
    write_parts(tmp_path, [same * (1 + number) for number in range(600)])
    done = run(tmp_path, 1.0, exact_rows=exact_rows)
    pairs, duplicates = read(tmp_path)
    assert done.pairs == len(pairs) == sum(min(row, MAX_PARTNERS) for row in range(600))
    assert done.pairs + done.pairs_left_out == 600 * 599 // 2
    assert f"{done.pairs_left_out:,} pairs beyond" in str(done)
    assert [row["duplicate_of"] for row in duplicates] == ["00000.jpg"] * 599
    assert {row["cosine"] for row in pairs} == {1.0}


def test_items_that_failed_and_vectors_without_a_direction_are_passed_over_and_counted(tmp_path: Path) -> None:
    one = np.array([1.0, 0, 0])
    write_parts(tmp_path, [None, one, np.zeros(3), one, np.array([np.nan, 1, 0]), None, one], rows=3)
    done = run(tmp_path, 0.9)
    assert (done.compared, done.without_vector) == (3, 4)
    assert [(row["key"], row["duplicate_of"]) for row in read(tmp_path)[1]] == [
        ("00003.jpg", "00001.jpg"),
        ("00006.jpg", "00001.jpg"),
    ]
    assert "4 items without a vector" in str(done)
    write_parts(tmp_path / "none", [None, np.zeros(3)])
    assert run(tmp_path / "none", 0.9).compared == 0
    assert read(tmp_path / "none") == ([], [])


def test_run_twice_it_writes_the_same_bytes_and_readers_of_the_folder_see_only_the_parts(tmp_path: Path) -> None:
    write_parts(tmp_path, list(clustered(1_500)), rows=400)
    run(tmp_path, 0.9)
    first = [(tmp_path / name).read_bytes() for name in (PAIRS, DUPLICATES)]
    run(tmp_path, 0.9)
    assert [(tmp_path / name).read_bytes() for name in (PAIRS, DUPLICATES)] == first
    assert pq.read_table(tmp_path).num_rows == 1_500


def test_what_cannot_be_compared_is_refused_with_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(JobError, match=r"holds no part-\*.parquet"):
        run(tmp_path, 0.9)
    write_parts(tmp_path, [np.ones(3)] * 4, rows=2)
    pq.write_table(pa.table({"key": ["a"], "vector": [[1.0]]}), tmp_path / "part-00007.parquet")
    with pytest.raises(JobError, match="no column source"):
        run(tmp_path, 0.9)
    write_parts(tmp_path / "other", [np.ones(4)])
    (tmp_path / "other" / "part-00000.parquet").replace(tmp_path / "part-00007.parquet")
    with pytest.raises(JobError, match="vectors of two kinds"):
        run(tmp_path, 0.9)
    (tmp_path / "part-00007.parquet").unlink()
    monkeypatch.setattr(near_duplicates, "_available_bytes", lambda: 1_000_000)
    with pytest.raises(JobError, match=r"need about 0.7 GB of memory, and 0.0 GB are there"):
        run(tmp_path, 0.9)
    assert not list(tmp_path.glob("_*"))


def test_a_search_that_is_stopped_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_parts(tmp_path, list(clustered(1_500)), rows=400)
    run(tmp_path, 0.9)
    before = (tmp_path / PAIRS).read_bytes()

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(near_duplicates, "_settle", stop)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, 0.8)
    assert (tmp_path / PAIRS).read_bytes() == before
    assert not list(tmp_path.glob("*.partial"))
