"""One thing that was looked at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Finding:
    """`about` what, whether it is well, what was seen, and what to do where it is not."""

    about: str
    status: Literal["ok", "warn", "fail"]
    seen: str
    advice: str = ""


def ok(about: str, seen: str) -> Finding:
    """It is well."""
    return Finding(about, "ok", seen)


def warn(about: str, seen: str, advice: str) -> Finding:
    """It works, but perhaps not as was meant."""
    return Finding(about, "warn", seen, advice)


def fail(about: str, seen: str, advice: str) -> Finding:
    """Something does not work."""
    return Finding(about, "fail", seen, advice)
