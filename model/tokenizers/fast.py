"""Any tokenizer of the `tokenizers` library: BERT's WordPiece, RoBERTa's bytes, the unigrams of XLM-RoBERTa and T5.

The ids are those that transformers and open_clip's HFTokenizer give for the same file, but for control tokens spelled
out in a text, which are plain characters here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from model.library_config import LibraryTextConfig
from model.pretrained_text import TransformersTextConfig
from model.tokenizers.cleaning import repaired, text_of
from model.tokenizers.clip import READ_WHOLE, Side, TokenizerError, pad_rows
from model.tokenizers.tokenizer_json import TokenizerJsonError, failure, open_tokenizer_json


class FastTokenizer:
    """Texts to the ids of a `tokenizer.json` and rows of ids to one padded array."""

    def __init__(self, content: str, text: LibraryTextConfig | TransformersTextConfig) -> None:
        """`text` says how a text is cleaned before the file's own steps, how long a row is and what fills it.

        Raises TokenizerError.
        """
        try:
            opened = open_tokenizer_json(content)
        except TokenizerJsonError as error:
            raise TokenizerError(f"this tokenizer.json cannot be used: {error}") from error
        self.context_length, self.vocab_size = text.context_length, opened.vocab_size
        self.pad_id, self._fixed_length, self._clean = text.pad_id, text.fixed_length, text.clean
        self._before, self._after = opened.before, opened.after
        self._backend, self._saved = opened.backend, content
        if self.vocab_size > text.vocab_size:
            raise TokenizerError(
                f"it has ids up to {self.vocab_size - 1}, the text tower only {text.vocab_size} tokens: the two come "
                "from different models"
            )
        if self._room < 1:
            raise TokenizerError(f"its control tokens leave no room in {self.context_length} tokens")

    @classmethod
    def parse(cls, content: str, text: LibraryTextConfig | TransformersTextConfig) -> FastTokenizer:
        """The content of a `tokenizer.json`. Raises TokenizerError."""
        return cls(content, text)

    @property
    def content(self) -> str:
        """What its `tokenizer.json` holds."""
        return self._saved

    def save(self, path: Path) -> None:
        """Write `tokenizer.json`."""
        path.write_text(self._saved, encoding="utf-8")

    def encode(self, texts: Sequence[str], enough: int | None = None) -> list[list[int]]:
        """Token ids of each text between the control tokens of the file, neither truncated nor padded.

        With `enough`, a text of more than `READ_WHOLE` characters is read only as far as it takes to know its first
        `enough` ids. Raises TokenizerError where a pattern of the file gives up on a text.
        """
        if isinstance(texts, str):
            raise TokenizerError("encode takes a list of texts: put the single text into a list")
        prepared = [
            self.prepare(text) if enough is None or len(text) <= READ_WHOLE else self._beginning(text, enough)
            for text in texts
        ]
        return self._ids(prepared)

    def prepare(self, text: str) -> str:
        """The text as the file's own steps get it: cleaned, and without halves of characters."""
        if self._clean == "none":
            return text if text.isascii() else text.encode("utf-8", "replace").decode()  # JSON spells half characters
        return text_of("".join(repaired(text)), self._clean)

    def truncate(self, ids: list[int], side: Side = "end") -> list[int]:
        """Cut to the context length at that side of the text, the control tokens before and after it kept."""
        if len(ids) <= self.context_length:
            return ids
        content = ids[len(self._before) : len(ids) - len(self._after)]
        kept = content[: self._room] if side == "end" else content[-self._room :]
        return [*self._before, *kept, *self._after]

    def pad(self, rows: Sequence[Sequence[int]]) -> npt.NDArray[np.int64]:
        """Fill up with `pad_id`: int64 [batch, longest], or [batch, context_length] where the tower needs that."""
        length = self.context_length if self._fixed_length else max(map(len, rows), default=0)
        return pad_rows(rows, length, self.pad_id)

    @property
    def _room(self) -> int:
        """Tokens of a text that the context holds."""
        return self.context_length - len(self._before) - len(self._after)

    def _ids(self, prepared: list[str]) -> list[list[int]]:
        try:
            return [encoding.ids for encoding in self._backend.encode_batch_fast(prepared)]
        except BaseException as error:
            raise TokenizerError(f"the tokenizer cannot read a text: {failure(error)}") from error

    def _beginning(self, text: str, enough: int) -> str:
        """So much of the prepared text that what follows does not change its first `enough` ids, or all of it."""
        for beginning in self._beginnings(text):
            cut = beginning.rpartition(" ")[0] or beginning
            # How a text is cut into pieces can depend on what follows a piece, but not on what follows much later.
            if len(self._ids([cut])[0]) > 2 * enough + len(self._before) + len(self._after):
                return cut
        return self.prepare(text)

    def _beginnings(self, text: str) -> Iterator[str]:
        """Longer and longer beginnings of the prepared text, none of them all of it."""
        if self._clean == "none":
            size = READ_WHOLE
            while size < len(text):
                yield self.prepare(text[:size])
                size *= 4
            return
        parts: list[str] = []
        read, look_at = 0, READ_WHOLE
        for part in repaired(text):
            parts.append(part)
            read += len(part)
            if read >= look_at:
                look_at = 4 * read
                yield text_of("".join(parts), self._clean)
