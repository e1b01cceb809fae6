"""Embedding in bulk beside the bare engine and the ways of others: at its smallest, every way gives a reading."""

from __future__ import annotations

import pytest

from benchmarks.bulk.contenders import Reading
from benchmarks.bulk.run import WAYS, _table, run
from model.bundle import bundled


@pytest.mark.timeout(900)  # torch is loaded twice, which a busy machine takes minutes for
def test_every_way_embeds_pictures_and_texts() -> None:
    text = run([bundled()], rounds=1, pictures=6, texts=20)
    assert "sightword-small: 6 pictures of 640x480, batches of " in text
    assert "sightword-small: 20 texts of about ten words, batches of " in text
    assert all(text.count(f"| {name} | ") == 2 for name in WAYS)


def test_ratios_are_those_of_a_round() -> None:
    readings = {name: [Reading(10, 1.0, 0.5), Reading(10, 4.0, 0.5), Reading(10, 2.0, 0.5)] for name in WAYS}
    readings["bulk"] = [Reading(10, 2.0, 0.25), Reading(10, 4.0, 0.5), Reading(10, 4.0, 0.25)]
    row = next(line for line in _table("model", "text", 10, 4, readings) if line.startswith("| bulk |"))
    assert row == "| bulk | 2.5 (2.5 to 5) | 0.5 (0.5 to 1) | 25 (25 to 50) | 0.5 (0.5 to 1) |"
