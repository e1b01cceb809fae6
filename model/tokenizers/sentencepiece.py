"""The tokenizers of SigLIP: SentencePiece unigrams, and for SigLIP 2 Gemma's byte-pair encoding.

The ids are those that transformers' SiglipTokenizer and Siglip2Tokenizer give, on the `tokenizers` library. A control
token spelled out in a text is plain characters here.
"""

from __future__ import annotations

import re
import string
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from model.config import SiglipTextConfig
from model.tokenizers.charsmap import Charsmap, CharsmapError
from model.tokenizers.cleaning import clean
from model.tokenizers.clip import READ_WHOLE, Side, TokenizerError, pad_rows
from model.tokenizers.vocabulary import SPACE, Vocabulary, VocabularyError, read_vocabulary

_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)
_SPACES = re.compile(" {2,}")


class SentenceTokenizer:
    """Texts to SigLIP's token ids and rows of ids to one array of the context length."""

    def __init__(self, vocabulary: Vocabulary, text: SiglipTextConfig, content: str | None = None) -> None:
        """`text` says what ends and fills a row, and how a text is cleaned; `content` is the file, if there is one.

        Raises TokenizerError.
        """
        self.context_length = text.context_length
        self.vocab_size = vocabulary.size
        self.eos_id, self.pad_id = text.eos_id, text.pad_id
        self._clean = text.clean
        self._is_unigram = vocabulary.kind == "unigram"
        pieces = {index: piece for piece, index in vocabulary.ids.items()}
        for index in (self.eos_id, self.pad_id):
            if pieces.get(index) not in vocabulary.control:
                raise TokenizerError(f"id {index}, which ends or fills texts, is no control token of the tokenizer")
        try:
            self._charsmap = Charsmap(vocabulary.charsmap)
            self._backend = vocabulary.backend(text.clean)
            # The vocabulary itself is not kept: as Python's objects, Gemma's takes hundreds of megabytes.
            self._saved = vocabulary.to_json(text.clean, text.eos_id) if content is None else content
        # The library raises plain Exception for what it cannot build.
        except Exception as error:
            raise TokenizerError(f"this is not a SigLIP tokenizer: {error}") from error

    @classmethod
    def parse(cls, content: str, text: SiglipTextConfig) -> SentenceTokenizer:
        """The content of a `tokenizer.json`. Raises TokenizerError."""
        try:
            return cls(read_vocabulary(content), text, content)
        except (VocabularyError, CharsmapError) as error:
            raise TokenizerError(f"this is not a SigLIP tokenizer.json: {error}") from error

    def save(self, path: Path) -> None:
        """Write `tokenizer.json`."""
        path.write_text(self._saved, encoding="utf-8")

    def encode(self, texts: Sequence[str], enough: int | None = None) -> list[list[int]]:
        """Token ids of each text and what ends it, neither truncated nor padded.

        With `enough`, a text of more than `READ_WHOLE` characters is read only as far as it takes to know its first
        `enough` ids.
        """
        if isinstance(texts, str):
            raise TokenizerError("encode takes a list of texts: put the single text into a list")
        normalised = [
            self._normalise(text) if enough is None or len(text) <= READ_WHOLE else self._beginning(text, enough)
            for text in texts
        ]
        return [[*encoding.ids, self.eos_id] for encoding in self._backend.encode_batch_fast(normalised)]

    def _beginning(self, text: str, enough: int) -> str:
        """So much of the normalised text that what follows does not change its first `enough` ids, or all of it."""
        size = READ_WHOLE
        while size < len(text):
            normalised = self._normalise(text[: text.rfind(" ", size // 2, size) + 1 or size])
            # How a text is cut into pieces can depend on what follows a piece, but not on what follows much later.
            if len(self._backend.encode(normalised).ids) > 2 * enough:
                return normalised
            size *= 4
        return self._normalise(text)

    def truncate(self, ids: list[int], side: Side = "end") -> list[int]:
        """Cut to the context length at that side of the text; the last id ends the text."""
        if len(ids) <= self.context_length:
            return ids
        if side == "start":
            return ids[-self.context_length :]
        return [*ids[: self.context_length - 1], self.eos_id]

    def pad(self, rows: Sequence[Sequence[int]]) -> npt.NDArray[np.int64]:
        """Fill up to the context length: int64 [batch, context_length]."""
        return pad_rows(rows, self.context_length, self.pad_id)

    def _normalise(self, text: str) -> str:
        text = text.encode("utf-8", "replace").decode()  # JSON can spell halves of characters
        if self._clean == "openclip":
            text = clean(text).replace("_", " ")
        if not self._is_unigram:
            return text if self._clean == "lower" else _canonical(text)  # the backend writes small letters
        # Every text begins with a space, which is written as a mark; marks in the text itself are spaces.
        marked = SPACE + text.replace(SPACE, " ")
        cleaned = self._charsmap.apply(marked.lower() if self._clean == "lower" else _canonical(marked))
        return _SPACES.sub(" ", cleaned).replace(" ", SPACE).rstrip(SPACE)


def _canonical(text: str) -> str:
    """Small letters, no ASCII punctuation, single spaces."""
    return re.sub(r"\s+", " ", text.lower().translate(_NO_PUNCTUATION)).strip()
