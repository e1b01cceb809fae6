"""Messages about a misspelt name offer the nearest right one."""

from __future__ import annotations

from pathlib import Path

import pytest

from model.suggestions import MAX_ENTRIES, did_you_mean, did_you_mean_path, not_one_of

NAMES = ["learning_rate", "weight_decay", "warmup_steps", "SIGHTWORD_PORT"]


@pytest.mark.parametrize(
    ("wrong", "offer"),
    [
        ("learning_rte", "did you mean learning_rate?"),
        ("sightword_prot", "did you mean SIGHTWORD_PORT?"),
        ("entirely other", ""),
        ("", ""),
    ],
)
def test_the_nearest_name_is_offered(wrong: str, offer: str) -> None:
    assert did_you_mean(wrong, NAMES) == offer


def test_what_others_call_the_same_comes_before_what_looks_alike() -> None:
    assert did_you_mean("gpu", ["auto", "cpu", "cuda"]) == "did you mean cuda?"
    assert not_one_of("float16", ["fp32", "fp16"]) == "'float16' is not one of fp32, fp16: did you mean fp16?"
    assert not_one_of("zz", ["fp32", "fp16"]) == "'zz' is not one of fp32, fp16"


def test_a_path_is_mended_where_it_first_goes_wrong(tmp_path: Path) -> None:
    (tmp_path / "shards" / "inner").mkdir(parents=True)
    (tmp_path / "shards" / "test-0.tar").touch()
    right = f": did you mean {tmp_path}/shards/test-0.tar?"
    assert did_you_mean_path(tmp_path / "shrads" / "test-0.tar") == right
    assert did_you_mean_path(tmp_path / "shards" / "tset-0.tar") == right
    assert did_you_mean_path("shrads/test-0.tar", tmp_path) == ": did you mean shards/test-0.tar?"
    assert did_you_mean_path("shrads/other", tmp_path) == ": did you mean shards?"
    assert did_you_mean_path("shards/*.parquet", tmp_path) == ": shards holds inner, test-0.tar"
    assert did_you_mean_path(tmp_path / "quite-another") == ""
    assert did_you_mean_path("/") == did_you_mean_path("") == did_you_mean_path("../..") == ""


def test_a_folder_of_many_files_is_looked_at_in_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = 0

    class Endless:
        def __enter__(self) -> Endless:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def __iter__(self) -> Endless:
            return self

        def __next__(self) -> Path:
            nonlocal seen
            seen += 1
            return Path(f"picture-{seen}")

    monkeypatch.setattr("os.scandir", lambda _: Endless())
    assert "and 9,995 more" in did_you_mean_path(str(tmp_path / "*.gif"))
    assert seen <= MAX_ENTRIES + 1
