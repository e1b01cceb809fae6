"""A section of the check, and what became of it."""

from __future__ import annotations

from dataclasses import dataclass, field

from benchmarks.gpu_check.findings import Findings


@dataclass(frozen=True)
class Section:
    """A module with a function `run(options, findings)`, and the seconds that it may take."""

    module: str
    title: str
    limit_s: float
    required: bool = False  # where it fails or breaks a promise, nothing else is run


@dataclass
class Outcome:
    """What became of a section. `error` is set where it did not run to its end."""

    section: Section
    findings: Findings = field(default_factory=Findings)
    seconds: float = 0.0
    error: str | None = None

    @property
    def kept(self) -> bool:
        """Whether it ran to its end and broke no promise."""
        return self.error is None and all(promise.kept is not False for promise in self.findings.promises)
