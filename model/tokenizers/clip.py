"""The tokenizer of CLIP: byte-level byte-pair encoding of cleaned, lower-cased text.

The ids, the split into words and the cleaning are those of OpenAI's CLIP (Radford et al. 2021; `simple_tokenizer.py`
of openai/CLIP, MIT), on the `tokenizers` library, so that the `tokenizer.json` of a bundle serves any of its clients.
"""

from __future__ import annotations

import gzip
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, processors
from tokenizers import Tokenizer as Backend

from model.tokenizers.cleaning import clean, repaired, text_of

CLIP_VOCAB_SIZE = 49408
CLIP_CONTEXT_LENGTH = 77
START_OF_TEXT = "<|startoftext|>"
END_OF_TEXT = "<|endoftext|>"
END_OF_WORD = "</w>"
PADDING_ID = 0
Side = Literal["start", "end"]
READ_WHOLE = 1024  # characters
# 256 bytes, the same 256 at the end of a word, and the two control tokens: what is left are merges.
UNMERGED_IDS = 2 * 256 + 2

# The original matches case-insensitively, with two consequences beyond the letters it names: U+017F (long s) counts as
# the s of a contraction, and U+0345 (iota subscript) belongs to no word and vanishes. It names the two control tokens
# here as well; leaving them out is what makes plain characters of them.
_WORDS = "'[s\u017f]|'t|'re|'ve|'m|'ll|'d|\\p{L}+|\\p{N}|[^\\s\\p{L}\\p{N}\u0345]+"


class TokenizerError(ValueError):
    """The tokenizer cannot be built or loaded, or was called with something that is not a list of texts."""


class UnknownTextError(TokenizerError):
    """A text that a model of a closed vocabulary has nothing for; the message says so to whoever sent it."""


class TextTokenizer(Protocol):
    """The interface of a text tower's tokenizer: texts -> padded token ids."""

    context_length: int
    vocab_size: int

    def encode(self, texts: Sequence[str], enough: int | None = None) -> list[list[int]]:
        """Token ids of each text with the control tokens its tower expects, neither truncated nor padded.

        With `enough`, a long text is read only as far as it takes to know its first `enough` ids: the row has more
        than so many, and the later ones, but the last, may not be all there are. Raises UnknownTextError where only
        the names of categories are texts, and one of these is none.
        """

    def truncate(self, ids: list[int], side: Side = "end") -> list[int]:
        """Cut to the context length at that side of the text, the control tokens kept."""

    def pad(self, rows: Sequence[Sequence[int]]) -> npt.NDArray[np.int64]:
        """One array for the text tower: int64 [batch, longest], or [batch, context_length] where that is fixed."""

    def save(self, path: Path) -> None:
        """Write `tokenizer.json`."""


class Tokenizer:
    """Texts to CLIP token ids and rows of ids to one padded array."""

    def __init__(
        self, backend: Backend, context_length: int, pad_id: int = PADDING_ID, fixed_length: bool = False
    ) -> None:
        """Wrap a `tokenizers` tokenizer as `clip` builds it; `context_length` counts both control tokens.

        Rows are filled up with `pad_id`, to the context length where that is `fixed_length`.
        """
        if context_length < 2:
            raise TokenizerError(f"context_length is {context_length}: it must be at least 2, for the control tokens")
        self.context_length = context_length
        self.pad_id, self._fixed_length = pad_id, fixed_length
        self.vocab_size = backend.get_vocab_size()
        self.sot_id = self.vocab_size - 2
        self.eot_id = self.vocab_size - 1
        if (backend.token_to_id(START_OF_TEXT), backend.token_to_id(END_OF_TEXT)) != (self.sot_id, self.eot_id):
            raise TokenizerError(f"the last two ids are not {START_OF_TEXT} and {END_OF_TEXT}: not a CLIP tokenizer")
        self._saved = backend.to_str()
        # The normalizer in tokenizer.json is an approximation for clients that clean nothing. It must not act on text
        # that was cleaned exactly: it would compose characters that HTML entities spelled out, which CLIP leaves apart.
        backend.normalizer = None
        backend.no_truncation()
        backend.no_padding()
        self._backend = backend

    @classmethod
    def clip(cls, vocab_size: int = CLIP_VOCAB_SIZE, context_length: int = CLIP_CONTEXT_LENGTH) -> Tokenizer:
        """Build CLIP's tokenizer from the merge list; a smaller `vocab_size` keeps the first merges."""
        if not UNMERGED_IDS <= vocab_size <= CLIP_VOCAB_SIZE:
            raise TokenizerError(f"vocab_size is {vocab_size}: choose {UNMERGED_IDS} to {CLIP_VOCAB_SIZE}")
        merges = _read_merges()[: vocab_size - UNMERGED_IDS]
        tokens = [*_unmerged(), *(first + second for first, second in merges), START_OF_TEXT, END_OF_TEXT]
        return cls.from_vocabulary({token: index for index, token in enumerate(tokens)}, merges, context_length)

    @classmethod
    def from_vocabulary(
        cls, vocabulary: Mapping[str, int], merges: Sequence[tuple[str, str]], context_length: int
    ) -> Tokenizer:
        """A tokenizer that cleans and splits as CLIP's, with ids and merges of its own; control tokens come last.

        Raises TokenizerError where an id is missing, a byte has no token, or a merge makes none.
        """
        ids = set(vocabulary.values())
        if ids != set(range(len(vocabulary))):
            raise TokenizerError(f"the ids of its {len(vocabulary)} tokens are not the numbers from 0 on")
        unwritable = [symbol for symbol in _unmerged() if symbol not in vocabulary]
        if unwritable:
            raise TokenizerError(f"{len(unwritable)} of the 512 tokens for single bytes are missing: {unwritable[0]!r}")
        try:
            model = models.BPE(vocab=dict(vocabulary), merges=list(merges), end_of_word_suffix=END_OF_WORD)
        except Exception as error:  # the library raises nothing more special
            raise TokenizerError(f"its merges do not fit its vocabulary: {error}") from error
        backend = Backend(model)
        # NFC stands in for ftfy here, the rest is the original's own normalisation.
        backend.normalizer = normalizers.Sequence(
            [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip(), normalizers.Lowercase()]
        )
        backend.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(_WORDS), behavior="removed", invert=True),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
        # The control tokens are written by the template alone. As "added tokens" they would be recognised in user text.
        backend.post_processor = processors.TemplateProcessing(
            single=f"{START_OF_TEXT} $A {END_OF_TEXT}",
            special_tokens=[(START_OF_TEXT, len(vocabulary) - 2), (END_OF_TEXT, len(vocabulary) - 1)],
        )
        backend.decoder = decoders.Sequence([decoders.ByteLevel(), decoders.Replace(END_OF_WORD, " ")])
        return cls(backend, context_length)

    @classmethod
    def load(cls, path: Path, context_length: int) -> Tokenizer:
        """Read a `tokenizer.json` that `save` wrote."""
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise TokenizerError(f"cannot read {path}: {error}") from error
        return cls.parse(text, context_length)

    @classmethod
    def parse(cls, text: str, context_length: int, pad_id: int = PADDING_ID, fixed_length: bool = False) -> Tokenizer:
        """The content of a `tokenizer.json` that `save` wrote."""
        try:
            backend = Backend.from_str(text)
            model = backend.model
            if not isinstance(model, models.BPE) or model.end_of_word_suffix != END_OF_WORD:
                raise TokenizerError("its model is not byte-pair encoding with end-of-word marks")
            return cls(backend, context_length, pad_id, fixed_length)
        # The library raises plain Exception for a file that it cannot read.
        except Exception as error:
            raise TokenizerError(f"this is not a CLIP tokenizer.json: {error}") from error

    @property
    def as_json(self) -> str:
        """The content of `tokenizer.json`: the same for tokenizers that give the same ids."""
        return self._saved

    def save(self, path: Path) -> None:
        """Write `tokenizer.json`."""
        path.write_text(self._saved, encoding="utf-8")

    def encode(self, texts: Sequence[str], enough: int | None = None) -> list[list[int]]:
        """Token ids of each text between the two control tokens, neither truncated nor padded.

        Control tokens spelled out in a text are plain characters. With `enough`, a text of more than `READ_WHOLE`
        characters is read only as far as it takes to know its first `enough` ids.
        """
        if isinstance(texts, str):
            raise TokenizerError("encode takes a list of texts: put the single text into a list")
        cleaned = [
            clean(text) if enough is None or len(text) <= READ_WHOLE else self._beginning(text, enough)
            for text in texts
        ]
        return [encoding.ids for encoding in self._backend.encode_batch_fast(cleaned)]

    def _beginning(self, text: str, enough: int) -> str:
        """So much of the cleaned text that it has more than `enough` ids, or all of it."""
        parts: list[str] = []
        read, look_at = 0, READ_WHOLE
        for part in repaired(text):
            parts.append(part)
            read += len(part)
            if read < look_at:
                continue
            look_at = 4 * read
            cleaned = text_of("".join(parts))
            if not part[-1:].isspace():
                cleaned = cleaned.rpartition(" ")[0]  # its last word may go on
            if len(self._backend.encode(cleaned).ids) > enough + 1:  # the last is that of the end
                return cleaned
        return text_of("".join(parts))

    def truncate(self, ids: list[int], side: Side = "end") -> list[int]:
        """Cut to the context length at that side of the text; the last id is the end-of-text token."""
        if len(ids) <= self.context_length:
            return ids
        if side == "start":
            return [ids[0], *ids[len(ids) - self.context_length + 1 :]]
        return [*ids[: self.context_length - 1], self.eot_id]

    def pad(self, rows: Sequence[Sequence[int]]) -> npt.NDArray[np.int64]:
        """Fill up with `pad_id`: int64 [batch, longest], or [batch, context_length] where that is fixed."""
        length = self.context_length if self._fixed_length else max(map(len, rows), default=0)
        return pad_rows(rows, length, self.pad_id)


def pad_rows(rows: Sequence[Sequence[int]], length: int, pad_id: int) -> npt.NDArray[np.int64]:
    """Rows of ids, none longer than `length`, filled up with `pad_id`: int64 [rows, length]."""
    padded = np.full((len(rows), length), pad_id, dtype=np.int64)
    for row, ids in zip(padded, rows, strict=True):
        row[: len(ids)] = ids
    return padded


def _read_merges() -> list[tuple[str, str]]:
    packed = resources.files("model").joinpath("vocabulary", "merges.txt.gz").read_bytes()
    _header, *lines = gzip.decompress(packed).decode("utf-8").splitlines()
    pairs = (line.split(" ") for line in lines)
    return [(first, second) for first, second in pairs]


def _unmerged() -> list[str]:
    """The tokens of CLIP's first 512 ids: the bytes, and the same at the end of a word."""
    alphabet = _byte_alphabet()
    return [*alphabet, *(symbol + END_OF_WORD for symbol in alphabet)]


def _byte_alphabet() -> list[str]:
    """One visible character for each byte, in the order of CLIP's first 256 ids.

    Printable Latin-1 bytes stand for themselves and come first; the others take the code points from U+0100 on.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    return [chr(byte) for byte in printable] + [chr(0x100 + n) for n in range(0x100 - len(printable))]
