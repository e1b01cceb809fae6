"""Items to what the towers take, with the errors of the service: texts to token ids, files to pixels."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from service.bulk.sources import Item
from service.errors import ApiError
from service.inference.decoding import LARGE_PIXELS
from service.inference.pipeline import Pipeline
from service.inference.reading import refuse_too_long
from service.inference.records import EncodedImage, Record, TokenizedText
from service.request_context import Timing
from service.schema.items import TextItem, check_text

log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class Prepared:
    """`payload` is pixels [size, size, 3] or token ids; None with an error. `text` is what the item was, if wanted."""

    key: str
    source: str
    payload: Any = None
    error: str | None = None
    text: str | None = None


class Preparer:
    """Prepares items in threads, as the service would."""

    def __init__(self, pipeline: Pipeline, truncate: bool, keep_texts: bool) -> None:
        self._pipeline, self._truncate, self._keep_texts = pipeline, truncate, keep_texts
        self._large = threading.Lock()

    def prepare(self, items: Sequence[Item]) -> list[Prepared]:
        """Of each item what its tower takes, or its error."""
        prepared = [Prepared(item.key, item.source, error=item.error) for item in items]
        texts: list[tuple[Prepared, str]] = []
        for item, each in zip(items, prepared, strict=True):
            if isinstance(item.payload, bytes):
                self._decode(item.payload, each)
            elif item.payload is not None:
                texts.append((each, item.payload))
        if texts:
            self._tokenize(texts)
        return prepared

    def _decode(self, file: bytes, prepared: Prepared) -> None:
        image, timing = EncodedImage(file, ""), Timing()
        try:
            pixels = self._pipeline.decoder.decode(image, timing, LARGE_PIXELS)
            if pixels is None:  # one at a time: it takes as much memory as many
                with self._large:
                    pixels = self._pipeline.decoder.decode(image, timing, None)
            prepared.payload = pixels
        except ApiError as error:
            prepared.error = error.message
        except Exception:  # of whatever a file may provoke: it must not end the job, again and again
            log.exception("%s could not be decoded", prepared.source)
            prepared.error = "This picture could not be decoded; the log says why."

    def _tokenize(self, texts: Sequence[tuple[Prepared, str]]) -> None:
        records: list[tuple[Prepared, Record]] = []
        for prepared, text in texts:
            prepared.text = text if self._keep_texts else None
            try:
                records.append((prepared, Record(TextItem(check_text(text, "text"), "text"))))
            except ApiError as error:
                prepared.error = error.message
        every = [record for _, record in records]
        if every:
            self._pipeline.reader.tokenize(every)
        if not self._truncate:
            refuse_too_long(every, self._pipeline.bundle.context_length)
        for prepared, record in records:
            if record.error is not None:
                prepared.error = record.error.message
            else:
                assert isinstance(record.payload, TokenizedText), "tokenized above"
                prepared.payload = record.payload.ids
