"""The nearest right name for one that is wrong: what messages about misspelt names offer."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def did_you_mean(wrong: str, right: Iterable[str], *, most: int = 3, cutoff: float = 0.6) -> str:
    """`did you mean X or Y?`, or an empty string where none of `right` is near; letter case does not count.

    `cutoff` is difflib's similarity ratio, 0 to 1.
    """
    by_folded = {name.casefold(): name for name in right}
    near = difflib.get_close_matches(wrong.casefold(), by_folded, n=most, cutoff=cutoff)
    return f"did you mean {' or '.join(by_folded[name] for name in near)}?" if near else ""
