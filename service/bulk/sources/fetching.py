"""Fetches pictures by URL, by the rules of the service, several at once and in the order of their rows."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future
from typing import Self

from prometheus_client import Gauge

from service.admission import Admission
from service.bulk.sources.cells import Payload
from service.bulk.sources.part import SourceOptions
from service.errors import ApiError
from service.inference.fetch import (
    NOT_LISTED,
    NOT_PLAIN,
    NOT_PUBLIC,
    SEND_IT,
    Fetcher,
    FetchLimits,
    may_pass,
)
from service.settings import Settings

AT_ONCE = 32
RETRY_AFTER_S = 1.0
_REASONS = {
    NOT_PLAIN: "only plain https:// URLs are fetched, without user name, spaces or characters outside ASCII",
    NOT_LISTED: "its host, or that which it redirects to, is none of SIGHTWORD_URL_HOSTS",
    NOT_PUBLIC: "its host has an address that is not public; those of SIGHTWORD_URL_NETWORKS may be fetched from",
}


class UrlReader:
    """Fetches in a thread of its own, which ends with the block; each URL once more where that may help."""

    def __init__(self, options: SourceOptions) -> None:
        self._settings = Settings.model_construct(
            url_hosts=options.url_hosts, url_networks=options.url_networks, max_body_bytes=options.max_body_bytes
        )
        items, held = (Gauge(f"bulk_{name}", "Not exposed", registry=None) for name in ("items", "bytes"))
        # Nobody else takes bytes: AT_ONCE pictures of the largest size are the bound.
        self._admission = Admission(AT_ONCE, AT_ONCE * options.max_body_bytes + 1, items, held)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fetching", daemon=True)
        self._fetcher: Fetcher | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._thread.is_alive():
            asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
        self._loop.close()

    def start(self, url: str) -> Future[Payload]:
        """Begin to fetch; the caller has no more than AT_ONCE pending."""
        if not self._thread.is_alive():
            self._thread.start()
        return asyncio.run_coroutine_threadsafe(self._fetch(url), self._loop)

    async def _fetch(self, url: str) -> Payload:
        if self._fetcher is None:
            self._fetcher = Fetcher(self._settings, self._admission, FetchLimits(concurrency=AT_ONCE))
        try:
            try:
                content = await self._fetcher.fetch(url, None)
            except ApiError as error:
                if not may_pass(error.message):
                    raise
                await asyncio.sleep(RETRY_AFTER_S)
                content = await self._fetcher.fetch(url, None)
        except ApiError as error:
            return None, _REASONS.get(error.message, error.message.removesuffix(SEND_IT).strip(" ."))
        return (content, None) if content else (None, "its host sent nothing")

    async def _end(self) -> None:
        """Cancel what is under way."""
        fetches = asyncio.all_tasks() - {asyncio.current_task()}
        for fetch in fetches:
            fetch.cancel()
        await asyncio.gather(*fetches, return_exceptions=True)
        if self._fetcher is not None:
            await self._fetcher.aclose()
