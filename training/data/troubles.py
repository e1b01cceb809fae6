"""Samples that had to be skipped: counted by reason, and told at a limited rate."""

from __future__ import annotations

import logging
import threading
from collections import Counter

from model.preprocessing import ImageError

log = logging.getLogger(__name__)

TOLD = 5  # in full; after that a total at every power of ten


class Troubles:
    """Counts what is wrong with the samples of a set; may be used by many threads."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._lock = threading.Lock()

    def add(self, key: str, reason: str, detail: object = "") -> None:
        """Count a sample or file `key` as skipped. `reason` is one of a few; `detail` says more of this one."""
        with self._lock:
            self.counts[reason] += 1
            total = self.counts.total()
        if total <= TOLD:
            log.warning("skipped %s: %s%s", key, reason, f" ({detail})" if detail else "")
        elif str(total).strip("0") == "1":
            log.warning("skipped %s", self)

    def merge(self, counts: dict[str, int]) -> None:
        """Add what an earlier look at the same files counted."""
        with self._lock:
            self.counts.update(counts)

    def tell(self) -> None:
        """Log the total, if there is any."""
        if self.counts:
            log.warning("skipped %s", self)

    def __str__(self) -> str:
        reasons = ", ".join(f"{reason}: {count:,}" for reason, count in sorted(self.counts.items()))
        return f"{self.counts.total():,} in all: {reasons}" if self.counts else "nothing"


def reason_of(error: ImageError | OSError) -> tuple[str, str]:
    """Reason and detail of a picture that cannot be read."""
    if isinstance(error, OSError):
        return "unreadable file", str(error)
    said, _, _ = str(error).partition(":")  # what follows tells a client what to send
    return ("too many pixels" if error.code == "image_too_large" else "broken picture"), said
