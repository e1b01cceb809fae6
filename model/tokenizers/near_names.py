"""Which of many names are spelled most like one that is wrong; fast, as a request can have ten thousand wrong ones.

difflib looks at each name, which takes a tenth of a second where they are as many as a vocabulary of WordNet has. Here
an index says for each three letters which names hold them; likeness is Dice's coefficient of these sets (Dice 1945):
twice what two names have in common, by what they have together.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

MAX_READ = 64  # characters of a wrong name that are looked at
LEAST_ALIKE = 0.3


class NearNames:
    """An index of names."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names
        holders: dict[str, list[int]] = {}
        self._sizes = np.zeros(len(names), np.int64)
        for index, name in enumerate(names):
            parts = _parts(name)
            self._sizes[index] = len(parts)
            for part in parts:
                holders.setdefault(part, []).append(index)
        self._holders: dict[str, npt.NDArray[np.int32]] = {
            part: np.array(indices, np.int32) for part, indices in holders.items()
        }

    def find(self, wrong: str, most: int = 3) -> list[str]:
        """At most so many names, the most alike first; those hardly alike are left out."""
        parts = _parts(wrong[:MAX_READ])
        found = [self._holders[part] for part in parts if part in self._holders]
        if not found:
            return []
        common = np.bincount(np.concatenate(found), minlength=len(self._names))
        alike = 2 * common / (self._sizes + len(parts))
        best = np.argpartition(-alike, min(most, len(alike) - 1))[:most]
        ranked = sorted(best.tolist(), key=lambda index: (-alike[index], self._names[index]))
        return [self._names[index] for index in ranked if alike[index] >= LEAST_ALIKE]


def _parts(name: str) -> set[str]:
    """Every three letters in a row, with a space before and after the name."""
    padded = f" {name} "
    return {padded[at : at + 3] for at in range(len(padded) - 2)}
