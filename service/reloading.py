"""A reload: what it changes, and what the two phases of it pass on."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol, Self, TypeVar

from service.errors import ApiError

if TYPE_CHECKING:
    from model.bundle import Bundle


class Served(Protocol):
    """A model that is open: a pipeline, which whoever supervises workers has no need to import."""

    bundle: Bundle


P = TypeVar("P", bound=Served)


@dataclass(frozen=True, slots=True)
class Change:
    """A model before and after a reload. `changed`: whether answers differ from now on, which needs no other digest."""

    id: str
    digest: str
    previous_digest: str
    changed: bool

    def describe(self) -> str:
        """The model as log lines name it."""
        return f"{self.id} ({self.digest[:12]})" if self.changed else f"{self.id} is unchanged"


@dataclass(frozen=True, slots=True)
class Reloaded:
    """What a reload has done; `keys_problem` says why the keys are still those from before, None if they are not."""

    changes: Sequence[Change]
    keys_problem: str | None

    def as_json(self) -> dict[str, Any]:
        """For another process."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Self:
        """What `as_json` gave."""
        return cls([Change(**change) for change in value["changes"]], value["keys_problem"])


@dataclass(frozen=True, slots=True)
class PreparedReload(Generic[P]):
    """What serves, and in the same order what is to take its place: the same pipeline where nothing has changed."""

    before: Sequence[P]
    after: Sequence[P]

    def changes(self) -> list[Change]:
        """What differs."""
        return [
            Change(new.bundle.id, new.bundle.digest, old.bundle.digest, old.bundle is not new.bundle)
            for old, new in zip(self.before, self.after, strict=True)
        ]


class ChangeLock:
    """Lets one change of the models happen at a time."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._since = 0.0

    async def acquire(self, timeout_s: float) -> None:
        """Begin one. Raises `unavailable` where the one before has not ended within `timeout_s`."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._lock.acquire()
        except TimeoutError:
            took_s = time.monotonic() - self._since
            message = f"Models have been loading for {took_s:.0f} s, and still are; try again when that has ended."
            raise ApiError("unavailable", message) from None
        self._since = time.monotonic()

    def release(self) -> None:
        """End it."""
        self._lock.release()

    @asynccontextmanager
    async def hold(self, timeout_s: float) -> AsyncIterator[None]:
        """One change, in the `with`. Raises as `acquire`."""
        await self.acquire(timeout_s)
        try:
            yield
        finally:
            self.release()


def fingerprint(bundle: Bundle) -> str:
    """Of all that its manifest says: a bundle's digest is that of its vectors alone, and a logit scale can change."""
    return hashlib.sha256(bundle.manifest.model_dump_json().encode()).hexdigest()
