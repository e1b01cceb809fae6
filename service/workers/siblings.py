"""What the parts that make workers one service need of whoever runs them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Protocol


class Workers(Protocol):
    """The workers there are, by number; who takes the place of another has its number."""

    count: int  # that there are to be

    def connected(self) -> Sequence[int]:
        """Those that can be asked, whether they serve or still load."""

    def serving(self) -> Sequence[int]:
        """Those that take connections."""

    async def ask(self, number: int, what: str, argument: Any = None, timeout_s: float = 10.0) -> Any:
        """As `Channel.ask`."""

    def kill(self, number: int) -> None:
        """End it at once; another takes its place."""


async def ask_each(
    workers: Workers, numbers: Sequence[int], what: str, argument: Any, timeout_s: float
) -> Mapping[int, Any]:
    """The answers of these, or their errors, by number; asked side by side."""
    answers = await asyncio.gather(
        *(workers.ask(number, what, argument, timeout_s) for number in numbers), return_exceptions=True
    )
    return dict(zip(numbers, answers, strict=True))
