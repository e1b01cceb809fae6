"""`--retry-failed`: after an outage, what comes out is what a job gives that had none, and no vector is ever lost."""

from __future__ import annotations

import resource
import signal
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from service.bulk.folder import Folder
from service.bulk.layouts import ClipRetrievalLayout, Layout, NpyLayout, ParquetLayout, Rows
from service.bulk.near_duplicates import DUPLICATES, PAIRS
from service.bulk.worker import replace_part, write_part
from tests.service.bulk.jobs import START_S, Ended, errors, files, job, pictures, rows, start
from tests.service.https_server import HttpsServer, answer, serving

PICTURES, PART_ROWS = 60, 6
LAYOUTS = ("parquet", "npy", "clip-retrieval")
GONE = 20  # its host has no such file, before and after


class Host:
    """Pictures by URL, in a table, of which some can be had only when the outage is over."""

    def __init__(self, server: HttpsServer, folder: Path) -> None:
        self.server, self.table = server, folder / "urls.csv"
        self.files = [file.read_bytes() for file in sorted(pictures(folder / "pictures", PICTURES).iterdir())]
        urls = [f"https://127.0.0.1:{server.port}/{number}" for number in range(PICTURES)]
        self.table.write_text("\n".join(["url", *urls]) + "\n", "utf-8")
        self.settings = {"url_hosts": f"127.0.0.1:{server.port}", "url_networks": "127.0.0.0/8"}

    def have(self, down: tuple[int, ...] = ()) -> None:
        """From now on, it answers 503 to those, and 200 to the others."""
        self.server.requests.clear()
        for number, content in enumerate(self.files):
            self.server.answers[f"/{number}"] = answer(503, b"") if number in down else answer(200, content)
        self.server.answers[f"/{GONE}"] = answer(404, b"")

    def arguments(self, output: Path, *options: object) -> tuple[object, ...]:
        return (self.table, "--part-rows", PART_ROWS, "--output", output, *options)

    def embed(self, output: Path, *options: object) -> Ended:
        return job(*self.arguments(output, *options), **self.settings)


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    with serving("127.0.0.1") as server:
        monkeypatch.setenv("SSL_CERT_FILE", server.ca_file)
        yield Host(server, tmp_path)


def states(folder: Path) -> dict[str, int]:
    return {str(file.relative_to(folder)): file.stat().st_mtime_ns for file in folder.rglob("*") if file.is_file()}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_after_an_outage_the_files_are_those_of_a_job_that_had_none(tmp_path: Path, host: Host, layout: str) -> None:
    host.have()
    assert host.embed(tmp_path / "whole", "--layout", layout).code == 1
    host.have(down=(*range(2), *range(30, 45)))
    output = tmp_path / "vectors"
    done = host.embed(output, "--layout", layout)
    assert (done.code, len(errors(output))) == (1, 18), done.told
    before = states(output)
    host.have()
    if layout == "parquet":
        assert host.embed(output).code == 1, "nothing is done again unasked"
        assert not host.server.requests
    again = host.embed(output, "--layout", layout, "--retry-failed")
    assert again.code == 1, again.told
    assert f"6 of {PICTURES // PART_ROWS} parts are there, with nothing to try again, 36 items" in again.told
    assert files(output) == files(tmp_path / "whole")
    assert [each["error"][-12:] for each in errors(output)] == ["answered 404"]
    asked = {int(path[1:]) // PART_ROWS for path, _ in host.server.requests}
    assert asked == {0, 5, 6, 7}
    same = [name for name, state in states(output).items() if state == before.get(name) and "vectors" not in name]
    assert len([name for name in same if name.startswith(("part-", "metadata"))]) == (12 if layout == "npy" else 6)


def test_killed_in_the_middle_it_ends_as_if_it_never_had_been(tmp_path: Path, host: Host) -> None:
    host.have()
    assert host.embed(tmp_path / "whole").code == 1
    output = tmp_path / "vectors"
    host.have(down=tuple(range(0, PICTURES, 2)))
    assert host.embed(output).code == 1
    vectors = [row["vector"] is not None for row in rows(output)]
    host.have()
    for _ in range(2):
        parts = {name: state for name, state in states(output).items() if name.startswith("part-")}
        retrying = start(*host.arguments(output, "--retry-failed"), **host.settings)
        until = time.monotonic() + START_S
        while sum(states(output).get(name) != state for name, state in parts.items()) < 2:
            assert retrying.poll() is None
            assert time.monotonic() < until
        retrying.send_signal(signal.SIGKILL)
        retrying.communicate()
        plain = host.embed(output)  # which puts the errors of the parts together
        assert plain.code == 1, plain.told
        found = rows(output)
        written = [(each["key"], each["error"]) for each in errors(output)]
        assert written == [(row["key"], row["error"]) for row in found if row["vector"] is None]
        assert all(row["vector"] is not None for row, had in zip(found, vectors, strict=True) if had)
        assert not list(output.rglob("*.partial"))
    assert len(errors(output)) > 1, "it was killed too late"
    assert host.embed(output, "--retry-failed").code == 1
    assert files(output) == files(tmp_path / "whole")


def test_no_item_loses_the_vector_that_it_had(tmp_path: Path, host: Host) -> None:
    output = tmp_path / "vectors"
    host.have(down=(1, 7))
    assert host.embed(output).code == 1
    before = {row["key"]: row["vector"] for row in rows(output)}
    host.have(down=(2, 7, 8, 9))
    done = host.embed(output, "--retry-failed")
    assert done.code == 1, done.told
    for row in rows(output):
        if before[row["key"]] is not None:
            np.testing.assert_allclose(row["vector"], before[row["key"]], atol=1e-6)
    assert [each["source"].rpartition("/")[2] for each in errors(output)] == ["7", str(GONE)]


def test_captions_stay_beside_the_vectors_that_are_kept(tmp_path: Path) -> None:
    folder, output = tmp_path / "texts", tmp_path / "vectors"
    folder.mkdir()
    for name in ("a", "b", "c"):
        (folder / f"{name}.txt").write_text(f"a photo of {name}", "utf-8")
    arguments = (folder, "--kind", "text", "--layout", "clip-retrieval", "--output", output)
    assert job(*arguments).code == 0
    whole, metadata = files(output), output / "metadata" / "metadata_0.parquet"
    metadata.unlink()
    (folder / "c.txt").unlink()
    assert job(*arguments).code == 1
    assert pq.read_table(metadata)["caption"].to_pylist() == ["a photo of a", "a photo of b"]
    (folder / "c.txt").write_text("a photo of c", "utf-8")
    (folder / "a.txt").unlink()
    assert job(*arguments, "--retry-failed").code == 0
    assert metadata.read_bytes() == whole["metadata/metadata_0.parquet"]


def test_near_duplicates_know_the_vectors_that_have_come(tmp_path: Path) -> None:
    folder, output = pictures(tmp_path / "pictures", 4), tmp_path / "vectors"
    (folder / "0009.jpg").write_bytes((folder / "0001.jpg").read_bytes())
    table = tmp_path / "t.csv"
    table.write_text("\n".join(["path", *(f"pictures/{file.name}" for file in sorted(folder.iterdir()))]), "utf-8")
    copy = (folder / "0009.jpg").rename(tmp_path / "copy")
    arguments = (table, "--output", output, "--near-duplicates", 0.99)
    assert job(*arguments).code == 1
    assert pq.read_table(output / DUPLICATES).num_rows == 0
    copy.rename(folder / "0009.jpg")
    assert job(*arguments[:3], "--retry-failed").code == 0
    assert not [name for name in (PAIRS, DUPLICATES) if (output / name).exists()], "they do not know of it"
    assert job(*arguments, "--retry-failed").code == 0
    assert pq.read_table(output / DUPLICATES)["source"].to_pylist() == [str(folder / "0009.jpg")]


@pytest.mark.parametrize("name", LAYOUTS)
def test_ended_while_it_replaces_a_part_that_part_is_not_there(tmp_path: Path, name: str) -> None:
    """Where the errors are written, after which files of another part would be beside them."""
    by_name = {"parquet": ParquetLayout(tmp_path), "npy": NpyLayout(tmp_path)}
    layout: Layout = by_name.get(name) or ClipRetrievalLayout(tmp_path, "image", 1)
    about, nothing = {"model": "m", "digest": "d"}, [np.nan, np.nan]
    first = Rows(["a", "b"], ["x/a", "x/b"], [None, "busy"], np.array([[1, 0], nothing], np.float32))
    second = Rows(["a", "b"], ["x/a", "x/b"], ["busy", None], np.array([nothing, [0, 1]], np.float32))

    class Ended(Folder):
        def write_errors(self, number: int, lines: Iterable[Mapping[str, Any]]) -> None:
            assert list(lines) == []
            assert not layout.is_done(number)
            raise KeyboardInterrupt

    folder = Folder(tmp_path, layout.is_done, retry_failed=True)
    write_part(folder, layout, 0, first, about)
    assert (folder.join_errors(1), layout.read(0).vectors.tolist()) == (1, [[1, 0]])
    with pytest.raises(KeyboardInterrupt):
        replace_part(Ended(tmp_path, layout.is_done), layout, 0, second, about)
    assert not layout.is_done(0)
    assert not list(tmp_path.rglob("*.partial"))
    write_part(folder, layout, 0, first, about)
    replace_part(folder, layout, 0, second, about)
    assert (folder.join_errors(1), layout.read(0).vectors.tolist()) == (0, [[1, 0], [0, 1]])


def test_a_disk_that_is_full_leaves_the_part_that_was_there(tmp_path: Path) -> None:
    layout, about = ParquetLayout(tmp_path), {"model": "m", "digest": "d"}
    vectors = np.random.default_rng(0).random((1000, 64), np.float32)
    keys = [f"{number}" for number in range(1000)]
    write_part(folder := Folder(tmp_path, layout.is_done), layout, 0, Rows(keys, keys, [None] * 1000, vectors), about)
    before = (tmp_path / "part-00000.parquet").read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
        with pytest.raises(OSError, match="cannot be written"):
            replace_part(folder, layout, 0, Rows(keys, keys, [None] * 1000, vectors), about)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    assert (tmp_path / "part-00000.parquet").read_bytes() == before
