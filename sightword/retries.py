"""When a request is sent again, and after how long.

- 429 and 503: the service did nothing; after its `Retry-After`, or a backoff, until the time is up.
- No connection: nothing was sent. One that has answered before is waited for until the time is up (it restarts),
  one that never has only for a moment (the URL may be wrong).
- A connection that broke meanwhile, also that of a proxy (502, or a 500 that is not the service's, with which Ray Serve
  answers for a replica that is gone): at most twice more, lest a request that ends its server ends all of them.

Not for the service's own 500 and 504: the same would only be computed again. Nothing here is unsafe to repeat, see
`Request`.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime

import httpx

from sightword.errors import ConnectionFailedError, DeadlineExceededError, SightwordError
from sightword.protocol import Answer

AGAIN, BAD_GATEWAY, FAULT = (429, 503), 502, 500
REQUEST_ID = "x-request-id"  # of every answer of the service itself
FIRST_BACKOFF_S, LONGEST_BACKOFF_S = 0.25, 8.0
BROKEN_AT_MOST, FIRST_CONTACT_AT_MOST = 3, 3
NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
BROKEN = (httpx.NetworkError, httpx.RemoteProtocolError)


class Attempts:
    """The attempts at one request, within `timeout_s` in all."""

    def __init__(self, url: str, timeout_s: float, known: bool, clock: Callable[[], float] = time.monotonic) -> None:
        """`known`: this server has answered before."""
        self._url, self._timeout_s, self._known, self._clock = url, timeout_s, known, clock
        self._ends = clock() + timeout_s
        self._waits = self._broken = self._unreached = 0

    def remaining_s(self) -> float:
        """How long the next attempt may take. Raises DeadlineExceededError."""
        remaining_s = self._ends - self._clock()
        if remaining_s <= 0:
            raise self._too_late()
        return remaining_s

    def after_answer(self, answer: Answer) -> float | None:
        """How many seconds to wait before the next attempt; None for an answer to be kept, be it an error."""
        lost = answer.status == BAD_GATEWAY or (answer.status == FAULT and REQUEST_ID not in answer.headers)
        self._broken += lost
        if not (lost or answer.status in AGAIN) or self._broken >= BROKEN_AT_MOST:
            return None
        asked_s = _retry_after_s(answer.headers.get("retry-after"))
        wait_s = self._backoff_s() if asked_s is None else asked_s * random.uniform(1, 1.25)
        return wait_s if wait_s < self._ends - self._clock() else None

    def after_failure(self, error: httpx.HTTPError) -> float:
        """How many seconds to wait before the next attempt. Raises what ends them."""
        if isinstance(error, NOT_SENT):
            self._unreached += 1
            final = not self._known and self._unreached >= FIRST_CONTACT_AT_MOST
        elif isinstance(error, BROKEN):
            self._broken += 1
            final = self._broken >= BROKEN_AT_MOST
        elif isinstance(error, httpx.TimeoutException):
            raise self._too_late() from error
        else:
            final = True
        wait_s = self._backoff_s()
        if final or wait_s >= self._ends - self._clock():
            raise self._unreachable(error) from error
        return wait_s

    def _backoff_s(self) -> float:
        """Twice as long each time, and not for all clients alike."""
        self._waits += 1
        longest_s = min(LONGEST_BACKOFF_S, FIRST_BACKOFF_S * 2 ** min(self._waits - 1, 10))
        return random.uniform(longest_s / 2, longest_s)

    def _too_late(self) -> SightwordError:
        return DeadlineExceededError(
            f"No answer of {self._url} within {self._timeout_s:g} s; raise timeout_s or send smaller requests."
        )

    def _unreachable(self, error: httpx.HTTPError) -> SightwordError:
        why = str(error) or type(error).__name__
        if isinstance(error, NOT_SENT):
            return ConnectionFailedError(
                f"Nothing answers at {self._url} ({why}). Is the service running there? "
                "SIGHTWORD_URL or url= says where it is."
            )
        return ConnectionFailedError(f"The connection to {self._url} broke ({why}).")


def _retry_after_s(value: str | None) -> float | None:
    """Of the header, which is seconds or a date."""
    if value is None:
        return None
    if value.strip().isdecimal():
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None
