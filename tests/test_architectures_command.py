"""The walk over open_clip's configurations, for one of the smallest, and the table that it writes."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import SHIMS

ROOT = Path(__file__).parents[1]


def test_a_configuration_is_held_against_open_clip_and_kept(tmp_path: Path) -> None:
    if importlib.util.find_spec("open_clip") is None:
        pytest.skip("open_clip is not installed")
    command = [
        sys.executable,
        "-m",
        "benchmarks.architectures",
        "--results",
        str(tmp_path),
        "vit_medium_patch16_gap_256",
    ]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{SHIMS}"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=250, cwd=tmp_path, env=environment)
    assert "vit_medium_patch16_gap_256: exact (open_clip), 512 dimensions" in done.stdout, done.stderr
    [row] = json.loads((tmp_path / "architectures.json").read_text())["rows"]
    assert row["layers"] == "2"
    assert 0 < max(row["picture"], row["text"]) <= 1e-4
    assert row["cosine"] >= 0.99999
    assert "| vit_medium_patch16_gap_256 | open_clip | 512 | 256 | 77 |" in (tmp_path / "architectures.md").read_text()
    again = subprocess.run(command, capture_output=True, text=True, timeout=250, cwd=tmp_path, env=environment)
    kept, row_again = ([line for line in run.stdout.splitlines() if "exact" in line] for run in (done, again))
    assert kept == row_again
