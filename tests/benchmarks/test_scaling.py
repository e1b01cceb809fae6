"""The universal scalability law: what is fitted to costs that obey it, and what to those that do not."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from benchmarks.speed.board_cost import WORKERS
from benchmarks.speed.record import Record
from benchmarks.speed.scaling import Law, fit, projected, rounds


def costs(law: Law, one: float = 0.5) -> dict[int, float]:
    return {number: one * number / law.capacity(number) for number in (1, 2, 3, 4)}


@pytest.mark.parametrize("law", [Law(0.0, 0.0), Law(0.05, 0.0), Law(0.02, 0.001), Law(0.0, 0.01)])
def test_the_law_is_found_in_costs_that_obey_it(law: Law) -> None:
    assert fit(costs(law)) == pytest.approx(law, abs=1e-9)


def test_what_becomes_cheaper_beside_others_is_taken_as_no_dearer() -> None:
    assert fit({1: 1.0, 2: 0.98, 3: 0.97, 4: 0.99}) == Law(0.0, 0.0)


def test_capacity_has_a_peak_where_each_costs_each_other() -> None:
    law = Law(0.05, 0.001)
    assert law.capacity(1) == 1
    assert law.capacity(16) == pytest.approx(16 / (1 + 0.05 * 15 + 0.001 * 16 * 15))
    assert law.capacity(31) > law.capacity(64)


def test_what_workers_share_is_read_for_many_of_them_and_projected() -> None:
    command = [sys.executable, "-m", "benchmarks.speed.board_cost"]
    told = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True).stdout
    costs = [line.split() for line in told.splitlines() if line.lstrip()[:1].isdigit()]
    assert [int(workers) for workers, *_ in costs] == list(WORKERS)
    assert all(0 < float(least) <= float(median) <= float(most) for _, least, median, most in costs)
    capacities = [float(found) for found in re.findall(r"C\(64\) = ([0-9.]+)", told)]
    assert len(capacities) == 6
    assert all(1 < capacity <= 64 for capacity in capacities)


def test_a_projection_tells_how_far_the_rounds_disagree() -> None:
    record = Record("now", "quick")
    for turn, law in enumerate((Law(0.01, 0.0), Law(0.02, 0.0), Law(0.03, 0.0))):
        for number, cost in costs(law).items():
            record.add("", f"scaling/text/{number}", turn, cost)
    record.add("", "scaling/text/1", 3, 0.5)  # of a round that was not finished
    several = rounds(record, "text")
    assert len(several) == 3
    told = projected(several, 16)
    assert (told.low, told.median, told.high) == pytest.approx((16 / 1.45, 16 / 1.3, 16 / 1.15))
