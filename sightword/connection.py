"""Where the service is, what opens it, and how much is sent to it at once."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import httpx

from sightword.results import Info

DEFAULT_URL = "http://127.0.0.1:8000"
ITEMS_PER_REQUEST = 64
BYTES_PER_REQUEST = 8 * 2**20
CONNECT_S = 10.0
MOST = ("items", "body_bytes", "labels", "predictions")  # of /info, with max_ in front
UNLIMITED = 2**62
GRACE_S = 2.0  # more than the service is given: it says why it gave up


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one request: how many items, how many bytes to aim at, and what the service takes at most."""

    items: int
    bytes: int
    most_bytes: int
    labels: int
    predictions: int


@dataclass(frozen=True, slots=True)
class Connection:
    """What both clients are made of. Its `repr` is without key and password."""

    url: str = field(repr=False)
    api_key: str | None = field(repr=False)
    model: str | None
    timeout_s: float
    concurrency: int
    items_per_request: int
    bytes_per_request: int

    @classmethod
    def of(
        cls,
        url: str | None,
        api_key: str | None,
        model: str | None,
        timeout_s: float,
        concurrency: int,
        items_per_request: int | None,
        bytes_per_request: int | None,
    ) -> Connection:
        """From arguments and environment. Raises ValueError."""
        url = url or os.environ.get("SIGHTWORD_URL") or DEFAULT_URL
        api_key = api_key or os.environ.get("SIGHTWORD_API_KEY") or None
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"the URL of a service is such as {DEFAULT_URL}, with http:// or https:// in front")
        if api_key is not None and not (api_key.isascii() and api_key.isprintable() and " " not in api_key):
            raise ValueError(
                "the API key holds characters that a header cannot: spaces, line breaks or other than ASCII"
            )
        if timeout_s <= 0 or concurrency < 1:
            raise ValueError("timeout_s is above 0, and concurrency at least 1")
        return cls(
            url.rstrip("/") + "/",
            api_key,
            model,
            timeout_s,
            concurrency,
            items_per_request or ITEMS_PER_REQUEST,
            bytes_per_request or BYTES_PER_REQUEST,
        )

    @property
    def address(self) -> str:
        """The URL without what it may hold of a password, for messages."""
        parts = urlsplit(self.url)
        return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="").geturl().rstrip("/")

    def headers(self) -> dict[str, str]:
        """Of every request."""
        return {} if self.api_key is None else {"authorization": f"Bearer {self.api_key}"}

    def limits(self, info: Info) -> Limits:
        """What is sent at once: what was asked for, as far as the service takes it."""
        most = {name: info.limits.get(f"max_{name}") or UNLIMITED for name in MOST}
        return Limits(
            min(self.items_per_request, most["items"]),
            min(self.bytes_per_request, most["body_bytes"]),
            most["body_bytes"],
            most["labels"],
            most["predictions"],
        )

    def timeout(self, remaining_s: float) -> httpx.Timeout:
        """Of one attempt."""
        return httpx.Timeout(remaining_s + GRACE_S, connect=min(remaining_s, CONNECT_S))
