"""How much memory a job takes does not depend on how much it embeds."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.service.bulk.jobs import start
from tests.service.llip import Llip

FEW, MANY = 4_000, 60_000  # to hold the items alone would take 30 MB
SPARE_MB = 16


def peak_mb(texts: int, bundle: Path, folder: Path) -> float:
    """Of a process that embeds so many."""
    folder.mkdir()
    (folder / "texts.txt").write_text("".join(f"a photo of {number}\n" for number in range(texts)), "utf-8")
    arguments = ("--kind", "text", "--model", bundle, "--part-rows", 2_000, "--output", folder / "vectors")
    process = start(folder / "texts.txt", *arguments, max_batch="64")
    assert process.stderr is not None
    told = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, told
    assert f"{texts:,} vectors in" in told
    return usage.ru_maxrss / 1024


@pytest.mark.skipif(not hasattr(os, "wait4"), reason="reads what the kernel counts of a process")
def test_many_texts_take_no_more_memory_than_few(tmp_path: Path, llip: Llip) -> None:
    few = peak_mb(FEW, llip.bundle.path, tmp_path / "few")
    many = peak_mb(MANY, llip.bundle.path, tmp_path / "many")
    assert many < few + SPARE_MB
