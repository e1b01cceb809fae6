"""Gunther's universal scalability law, fitted to what an item costs when N processes share a machine.

    C(N) = N / (1 + alpha (N - 1) + beta N (N - 1))

is the throughput of N processes in units of that of one (N. Gunther, Guerrilla Capacity Planning, 2007): alpha is the
share that is done by one at a time, beta what each costs each other. Where each process has cores of its own,
C(N) = N c(1) / c(N), with c(N) the core-seconds of an item beside N - 1 others: they can be read on few cores, too, as
CPU time does not pass while a process waits. What only shows where N run at the same moment (memory bandwidth, the
kernel's own locks) shows here for as many as there are cores, and no more. What workers cost each other by the
service's own doing is read by `board_cost`.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from benchmarks.speed.record import Record, Spread


class Law(NamedTuple):
    """The two coefficients; both 0 where each process does as much as one alone."""

    alpha: float
    beta: float

    def capacity(self, processes: float) -> float:
        """In units of one process."""
        others = processes - 1
        return processes / (1 + self.alpha * others + self.beta * processes * others)


def fit(costs: Mapping[int, float]) -> Law:
    """From core-seconds an item by number of processes, 1 among them: least squares with neither below 0."""
    numbers = np.array(sorted(costs), np.float64)
    growth = np.array([costs[int(number)] / costs[1] - 1 for number in numbers])
    columns = np.stack([numbers - 1, numbers * (numbers - 1)], axis=1)
    both, *_ = np.linalg.lstsq(columns, growth, rcond=None)
    alone = [max(0.0, float(column @ growth / (column @ column))) for column in columns.T]
    laws = [Law(float(both[0]), float(both[1]))] if (both >= 0).all() else []
    laws += [Law(alone[0], 0.0), Law(0.0, alone[1])]
    return min(laws, key=lambda law: float(np.sum((columns @ np.array(law) - growth) ** 2)))


def rounds(record: Record, kind: str) -> list[dict[int, float]]:
    """Core-ms of an item of that kind by number of processes, of each round in which all numbers were read."""
    names = {sample.name for sample in record.samples if sample.name.startswith(f"scaling/{kind}/")}
    columns = {int(name.rpartition("/")[2]): record.values("", name) for name in names}
    complete = set.intersection(*(set(column) for column in columns.values()))
    return [{number: columns[number][turn] for number in sorted(columns)} for turn in sorted(complete)]


def medians(several: Sequence[Mapping[int, float]]) -> dict[int, float]:
    """Of the rounds, by number of processes."""
    return {number: statistics.median(costs[number] for costs in several) for number in several[0]}


def projected(several: Sequence[Mapping[int, float]], processes: int) -> Spread:
    """The capacity of so many: by the medians over the rounds, and the least and the most that one round alone says."""
    alone = [fit(costs).capacity(processes) for costs in several]
    return Spread(fit(medians(several)).capacity(processes), min(alone), max(alone))
