"""A log hears of what takes long at its start and every half minute, also while nothing gets done."""

from __future__ import annotations

import time

import pytest

from model import progress
from model.progress import Count, announced, format_duration, log_periodically


def test_a_line_is_due_log_periodically() -> None:
    assert progress.INTERVAL_S == 30


def test_a_line_comes_at_once_and_then_again_and_again_until_the_end() -> None:
    lines: list[str] = []
    with log_periodically(lines.append, lambda: "still", 0.02):
        assert lines == ["still"]
        while len(lines) < 4:
            time.sleep(0.01)
    told = len(lines)
    time.sleep(0.1)
    assert len(lines) == told


def test_lines_end_with_what_fails() -> None:
    lines: list[str] = []
    with pytest.raises(ValueError, match="broken"), announced(lines.append, "exporting", 0.02):
        raise ValueError("broken")
    told = len(lines)
    time.sleep(0.1)
    assert lines[0] == "exporting ..."
    assert len(lines) == told


def test_a_count_says_how_far_how_fast_and_how_long_still(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    count = Count("step", 300, done=100, detail="loss 3.1")
    assert str(count) == "step: 100 of 300, loss 3.1"
    now[0], count.done = 150.0, 200  # what was done before it went on says nothing of its speed
    assert str(count) == "step: 200 of 300 (66 %), 2 a second, about 50 s left, loss 3.1"
    count.done = 300
    assert "left" not in str(count)


@pytest.mark.parametrize(("seconds", "told"), [(0.2, "1 s"), (80, "80 s"), (150, "2 min"), (9240, "2 h 34 min")])
def test_durations_read_as_people_say_them(seconds: float, told: str) -> None:
    assert format_duration(seconds) == told
