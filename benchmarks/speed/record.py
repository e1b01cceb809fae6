"""The record of a run: single readings, each with its round, so that ratios can be taken within a round."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import orjson


class Reading(NamedTuple):
    """One reading. Rates are items a second, times milliseconds, memory MiB; the name says which."""

    model: str
    name: str
    round: int
    value: float


@dataclass
class Spread:
    """The median of some readings, and the smallest and the largest of them."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: list[float]) -> Spread:
        """Of at least one reading."""
        return cls(statistics.median(values), min(values), max(values))


@dataclass
class Record:
    """A run. `facts` are what is chosen or said once, such as the best batch; `failed` says why a phase did not end."""

    started: str
    size: str
    machine: dict[str, Any] = field(default_factory=dict)
    facts: dict[str, dict[str, Any]] = field(default_factory=dict)  # by model, "" for all
    samples: list[Reading] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)

    def add(self, model: str, name: str, turn: int, value: float) -> None:
        """Note a reading."""
        self.samples.append(Reading(model, name, turn, value))

    def note(self, model: str, **facts: Any) -> None:
        """Note what is chosen or said once."""
        self.facts.setdefault(model, {}).update(facts)

    def models(self) -> list[str]:
        """Those that have readings, in the order of their first one."""
        return list(dict.fromkeys(sample.model for sample in self.samples))

    def values(self, model: str, name: str) -> dict[int, float]:
        """Readings by round."""
        return {sample.round: sample.value for sample in self.samples if sample[:2] == (model, name)}

    def spread(self, model: str, name: str) -> Spread | None:
        """Over the rounds; None where there are no readings."""
        values = list(self.values(model, name).values())
        return Spread.of(values) if values else None

    def combined(self, compute: Callable[..., float], *readings: tuple[str, str]) -> Spread | None:
        """The spread of what is computed within each round from readings (model, name); None if one is missing."""
        columns = [self.values(model, name) for model, name in readings]
        rounds = set.intersection(*(set(column) for column in columns))
        values = [compute(*(column[turn] for column in columns)) for turn in sorted(rounds)]
        return Spread.of(values) if values else None

    def write(self, file: Path) -> None:
        """As JSON."""
        file.parent.mkdir(parents=True, exist_ok=True)
        document = {**vars(self), "samples": [list(sample) for sample in self.samples]}
        file.write_bytes(orjson.dumps(document))

    @classmethod
    def read(cls, file: Path) -> Record:
        """What `write` wrote."""
        document = orjson.loads(file.read_bytes())
        document["samples"] = [Reading(*sample) for sample in document["samples"]]
        return cls(**document)
