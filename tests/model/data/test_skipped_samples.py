"""What is skipped is told: each at first, then totals; how a source was understood goes to whoever writes lines."""

from __future__ import annotations

import logging

import pytest

from model.data.skipped_samples import SkippedSamples


def test_troubles_are_told_in_full_at_first_and_then_in_total(caplog: pytest.LogCaptureFixture) -> None:
    skipped, lines = SkippedSamples(), list[str]()
    with caplog.at_level(logging.WARNING):
        for number in range(1234):
            skipped.add(f"key {number}", "broken picture", "cut")
        skipped.log_summary(lines.append)
    assert len(caplog.records) == 5 + 3 + 1
    assert "key 4: broken picture (cut)" in caplog.text
    assert "1,234 in all: broken picture: 1,234" in caplog.text


def test_notes_and_what_is_no_sample_are_lines(caplog: pytest.LogCaptureFixture) -> None:
    skipped, lines = SkippedSamples(), list[str]()
    skipped.note("pictures from `image`")
    skipped.pass_over("a/.DS_Store", "hidden or made by the system")
    skipped.pass_over("b/Thumbs.db", "hidden or made by the system", 2)
    again = SkippedSamples()
    again.merge(skipped.as_record())
    again.log_summary(lines.append)
    assert lines == ["pictures from `image`", "not used: hidden or made by the system: 3, first a/.DS_Store"]
    assert not caplog.records
