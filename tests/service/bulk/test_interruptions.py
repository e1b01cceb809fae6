"""Jobs that are killed, interrupted, or not alone: what is there is whole, and the same command goes on."""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path

from tests.service.bulk.jobs import end_after, files, job, pictures, rows, start

PICTURES, PART_ROWS = 240, 12


def test_killed_three_times_it_ends_as_if_it_never_had_been(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "pictures", PICTURES)
    (folder / "0100.jpg").write_bytes(b"no picture")
    arguments = (folder, "--part-rows", PART_ROWS)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert job(*arguments, "--output", whole).code == 1
    for _ in range(3):
        parts = len(list(killed.glob("part-*.parquet")))
        process = start(*arguments, "--output", killed)
        time.sleep(random.uniform(0, 0.2))
        assert end_after(process, killed, parts + 1, signal.SIGKILL).code == -signal.SIGKILL
    there = {name: (killed / name).stat().st_mtime_ns for name in files(killed) if name.startswith("part-")}
    assert 3 <= len(there) < PICTURES // PART_ROWS
    done = job(*arguments, "--output", killed)
    assert done.code == 1
    assert f"of {PICTURES // PART_ROWS} parts are there" in done.told
    assert all((killed / name).stat().st_mtime_ns == written for name, written in there.items()), "computed again"
    assert files(killed) == files(whole)
    assert not list(killed.rglob("*.partial"))
    assert [row["key"] for row in rows(killed)] == [f"{index:04}.jpg" for index in range(PICTURES)]


def test_interrupted_it_ends_after_the_batches_that_run_and_says_how_to_go_on(tmp_path: Path) -> None:
    folder, output = pictures(tmp_path / "pictures", PICTURES), tmp_path / "vectors"
    process = start(folder, "--part-rows", PART_ROWS, "--output", output)
    ended = end_after(process, output, 2, signal.SIGINT)
    assert ended.code == 130, ended.told
    assert "parts are left" in ended.told
    assert "The same command goes on" in ended.told
    assert "Traceback" not in ended.told
    assert not list(output.rglob("*.partial"))


def test_two_processes_in_one_folder(tmp_path: Path) -> None:
    folder, output = pictures(tmp_path / "pictures", 8), tmp_path / "vectors"
    first = start(folder, "--output", output)
    while not list(output.glob("_job.json")):
        assert first.poll() is None
        time.sleep(0.01)
    first.send_signal(signal.SIGSTOP)
    second = job(folder, "--output", output)
    first.kill()
    first.communicate()
    assert second.code == 2
    assert f"another process works in {output}" in second.told
