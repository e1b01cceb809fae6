"""The reading stage: items to payloads, which are token ids or the bytes of an image file, each with its cache key."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
from blake3 import blake3

from model.bundle import Bundle
from model.tokenizers.clip import READ_WHOLE, TokenizerError, UnknownTextError
from service.errors import ApiError, internal_error, without_frames
from service.inference.records import EncodedImage, ItemsByKind, Record, TokenizedText
from service.inference.shared_resources import SharedResources
from service.inference.throughput import UnitCost
from service.request_context import RequestContext
from service.schema.items import ImageItem, TextItem, UrlItem
from service.settings import MAX_TEXT_CHARACTERS
from service.thread_pool import INLINE_HASHED_BYTES, INLINE_TOKENIZED_CHARACTERS

log = logging.getLogger(__name__)
SECONDS_PER_CHARACTER = 1e-6  # first guess
CHARACTERS_PER_PART = 20_000  # tokenized in one go
BYTES_PER_PART = 4 * 2**20
FETCHES_AT_ONCE = 8  # of one request
SHORT_BYTES = 4096  # hashed by SHA-256


class _FetchFailedError(Exception):
    """Enough has been read to refuse the request."""


class Reader:
    """Reads items for one bundle. `vectors_id` is what the vectors depend on beside it, as its engine says."""

    def __init__(self, bundle: Bundle, shared: SharedResources, vectors_id: str = "") -> None:
        self.bundle, self.shared = bundle, shared
        self.tokenizer = bundle.tokenizer()
        decoder = shared.settings.decoder
        pixels_id = vectors_id if decoder == "pillow" else f"{vectors_id}-{decoder}"
        self._prefixes = {"text": f"{bundle.digest}:text:{vectors_id}:", "image": f"{bundle.digest}:image:{pixels_id}:"}
        self.text_cost = UnitCost(SECONDS_PER_CHARACTER, span=CHARACTERS_PER_PART)  # by character

    async def read(self, items: ItemsByKind, context: RequestContext, keep_errors: bool) -> None:
        """Set the payload of each record, or its error. Without `keep_errors`, ends at the first URL that fails.

        A text that does not fit into the context is still read, cut; the record's `excess` says so.
        """
        if items.texts:
            with context.timing.stage("tokenize"):
                await self._read_in_parts(
                    self.tokenize, items.texts, _characters, INLINE_TOKENIZED_CHARACTERS, CHARACTERS_PER_PART
                )
        if items.files:
            await self._read_in_parts(self._read_files, items.files, _size, INLINE_HASHED_BYTES, BYTES_PER_PART)
        if items.urls:
            await self._fetch_all(items.urls, context, keep_errors)

    def expected_s(self, records: Iterable[Record]) -> float:
        """How many seconds tokenizing these texts will take, where nothing else is at work."""
        return sum(map(_characters, records)) * self.text_cost.seconds_per_unit / self.shared.pool.size

    async def _read_in_parts(
        self,
        read: Callable[[Sequence[Record]], None],
        records: Sequence[Record],
        size: Callable[[Record], int],
        inline_limit: int,
        part_size: int,
    ) -> None:
        """A thread cannot be interrupted; between two parts, a cancelled request ends."""
        total = sum(map(size, records))
        for part in (records,) if total <= part_size else _parts(records, size, part_size):
            await self.shared.pool.run_inline_or_in_thread(total, inline_limit, read, part)

    def tokenize(self, records: Sequence[Record]) -> None:
        """Set the payload of each text, or its error, and `excess` of one that is too long. For a thread."""
        started = time.perf_counter()
        context_length = self.bundle.context_length
        items = [record.item for record in records if isinstance(record.item, TextItem)]
        heads = [_part_read(item) for item in items]
        # Of a text that is cut at its start, the last ids are needed.
        enough = context_length if all(item.cut == "end" for item in items) else None
        rows = self._encode(heads, enough)
        for record, item, head, row in zip(records, items, heads, rows, strict=True):
            text = item.text
            if isinstance(row, ApiError):
                record.error = row.at(item.param)
                continue
            ids = self.tokenizer.truncate(row, item.cut)
            if len(row) > context_length:
                record.excess = (
                    f"{len(row)} tokens" if len(head) <= READ_WHOLE else f"more than {context_length} tokens"
                )
            elif len(head) == MAX_TEXT_CHARACTERS < len(text.strip()):
                record.excess = f"{len(text)} characters, of which {MAX_TEXT_CHARACTERS} are read"
            # The ids are the normalised text: whatever differs only in case or spaces has the same ones.
            record.payload = TokenizedText(ids, self._key("text", np.asarray(ids, "<i4").tobytes()))
        self.text_cost.observe(sum(map(_characters, records)), time.perf_counter() - started)

    def _encode(self, texts: Sequence[str], enough: int | None) -> Sequence[list[int] | ApiError]:
        """Token ids of each text; an error for those alone that the tokenizer gives up or does not know."""
        try:
            return self.tokenizer.encode(texts, enough=enough)
        except TokenizerError as error:
            if len(texts) > 1:
                return [row for text in texts for row in self._encode([text], enough)]
            if isinstance(error, UnknownTextError):
                message = str(error)
                return [ApiError("unknown_text", f"{message[:1].upper()}{message[1:]}")]
            log.warning("a text cannot be read: %s", error)
            return [ApiError("inference_error", "The model's tokenizer failed on this text.")]

    def _read_files(self, records: Sequence[Record]) -> None:
        for record in records:
            assert isinstance(record.item, ImageItem)
            try:
                record.payload = self._encoded_image(record.item.file())
            except ApiError as error:
                record.error = without_frames(error)

    async def _fetch_all(self, records: Sequence[Record], context: RequestContext, keep_errors: bool) -> None:
        slots = asyncio.Semaphore(FETCHES_AT_ONCE)
        tasks = [asyncio.ensure_future(self._fetch(record, slots, context, keep_errors)) for record in records]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        finally:
            for task in tasks:
                task.cancel()
            # Not with `gather`, which would raise in this frame what the tasks keep, and the frame keeps the tasks.
            await asyncio.wait(tasks)
            failures = [task.exception() for task in tasks if not task.cancelled()]
            failures.clear()  # asked for, so that asyncio does not log them

    async def _fetch(
        self, record: Record, slots: asyncio.Semaphore, context: RequestContext, keep_errors: bool
    ) -> None:
        item = record.item
        assert isinstance(item, UrlItem)
        try:
            async with slots:
                with context.timing.stage("fetch"):
                    file = await self.shared.fetcher.fetch(item.url, context.reservation)
            record.payload = await self.shared.pool.run_inline_or_in_thread(
                len(file), INLINE_HASHED_BYTES, self._encoded_image, file
            )
            return
        except ApiError as error:
            record.error = error.at(item.param)
        except Exception:
            log.exception("a fetch failed")
            record.error = internal_error().at(item.param)
        if not keep_errors:
            raise _FetchFailedError

    def _encoded_image(self, file: bytes) -> EncodedImage:
        return EncodedImage(file, self._key("image", file))

    def _key(self, modality: str, content: bytes) -> str:
        return self._prefixes[modality] + content_id(content)


def content_id(content: bytes) -> str:
    """The name of an item's content: of a cryptographic hash, for whoever made two of one name would choose the vector
    that others get. Of 100 KB, BLAKE3 takes a quarter of the time of SHA-256; of a few, SHA-256 takes less.
    """
    if len(content) <= SHORT_BYTES:
        return hashlib.sha256(content).hexdigest()
    return f"blake3:{blake3(content).hexdigest()}"


def refuse_too_long(records: Sequence[Record], context_length: int) -> None:
    """Set the error of each text that does not fit into the context."""
    for record in records:
        if record.excess is not None and isinstance(record.item, TextItem):
            limit = f"{context_length} tokens, start and end included"
            record.error = ApiError(
                "text_too_long",
                f'This text has {record.excess}; the model reads {limit}: shorten it or send "truncate": true.',
                record.item.param,
            )


def _characters(record: Record) -> int:
    """How many are read of its text, at most."""
    assert isinstance(record.item, TextItem)
    return min(len(record.item.text), MAX_TEXT_CHARACTERS)


def _part_read(item: TextItem) -> str:
    """As much of a text as is tokenized: its beginning, or its end where it is cut at its start."""
    text = item.text.strip()
    return text[:MAX_TEXT_CHARACTERS] if item.cut == "end" else text[-MAX_TEXT_CHARACTERS:]


def _size(record: Record) -> int:
    """Bytes of its file, or characters of the base64."""
    assert isinstance(record.item, ImageItem)
    return len(record.item.data)


def _parts(records: Sequence[Record], size: Callable[[Record], int], part_size: int) -> Iterator[Sequence[Record]]:
    """Consecutive slices of about `part_size` in all."""
    start = total = 0
    for stop, record in enumerate(records, start=1):
        total += size(record)
        if total >= part_size or stop == len(records):
            yield records[start:stop]
            start, total = stop, 0
