"""What a SigLIP tokenizer knows: its pieces, how they combine, and which of them no text may spell.

`tokenizer.json` gives data only. Everything it describes is built anew from them, so that no pattern of a foreign
file is ever matched against a text.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, processors
from tokenizers import Tokenizer as Backend

SPACE = "\u2581"
# `string.punctuation`, which SigLIP's texts are trained without.
PUNCTUATION = r"[!-/:-@\[-`{-~]"
_SPACES = " {2,}"
# What describes, in other words, the cleaning that `SentenceTokenizer` does itself.
_KNOWN_NORMALIZERS = {"Precompiled", "Lowercase", "Replace", "Strip"}
_KNOWN_PRE_TOKENIZERS = {"Unigram": {"Metaspace", "WhitespaceSplit"}, "BPE": {"Split"}}

Clean = Literal["canonicalize", "openclip", "lower"]


class VocabularyError(ValueError):
    """A vocabulary that cannot be used; the message says what is wrong with it."""


@dataclass(frozen=True)
class Vocabulary:
    """Pieces by id, and for byte-pair encoding the merges, strongest first."""

    kind: Literal["unigram", "bpe"]
    ids: dict[str, int] = field(repr=False)
    scores: tuple[float, ...] = field(repr=False)  # of unigram pieces, by id
    merges: tuple[tuple[str, str], ...] = field(repr=False)
    unknown_id: int | None
    byte_fallback: bool
    control: frozenset[str]  # pieces that stand for no text
    whole: tuple[str, ...]  # pieces found in a text before all else
    charsmap: bytes = field(default=b"", repr=False)

    @property
    def size(self) -> int:
        """One more than the largest id."""
        return max(self.ids.values(), default=-1) + 1

    def backend(self, clean: Clean) -> Backend:
        """The tokenizer of texts that are normalised, which writes no control token and finds none in a text."""
        if self.kind == "unigram":
            # A space is in no normalised text: with one in its name, a piece is never found.
            pieces = [
                (f"{piece} " if piece in self.control else piece, score)
                for piece, score in zip(self.ids, self.scores, strict=True)
            ]
            return Backend(models.Unigram(pieces, self.unknown_id, self.byte_fallback))
        backend = Backend(self._bpe([pair for pair in self.merges if "".join(pair) not in self.control]))
        spaces = normalizers.Replace(" ", SPACE)
        backend.normalizer = normalizers.Sequence([normalizers.Lowercase(), spaces]) if clean == "lower" else spaces
        backend.add_tokens([AddedToken(piece, normalized=False) for piece in self.whole])
        if any(backend.token_to_id(piece) != self.ids[piece] for piece in self.whole):
            raise VocabularyError("an added token has another id than the piece of its name")
        return backend

    def to_json(self, clean: Clean, eos_id: int) -> str:
        """A `tokenizer.json` that other clients of the `tokenizers` library understand as well as they can."""
        eos = next(piece for piece, index in self.ids.items() if index == eos_id)
        cleaning: list[Any] = [normalizers.Lowercase()]
        if clean != "lower":
            # Underscores are punctuation: deleted with the rest, they would join what they part.
            parting = [normalizers.Replace("_", " ")] if clean == "openclip" else []
            cleaning += [*parting, normalizers.Replace(Regex(PUNCTUATION), ""), normalizers.Replace(Regex(r"\s+"), " ")]
            cleaning += [normalizers.Strip()]
        if self.kind == "unigram":
            backend = Backend(models.Unigram(list(self._scored()), self.unknown_id, self.byte_fallback))
            mapped = [normalizers.Precompiled(self.charsmap)] if self.charsmap else []
            cleaning += [*mapped, normalizers.Replace(Regex(_SPACES), " ")]
            backend.pre_tokenizer = pre_tokenizers.Metaspace(SPACE, prepend_scheme="always")
            backend.decoder = decoders.Metaspace(SPACE, prepend_scheme="always")
        else:
            backend = Backend(self._bpe(self.merges))
            cleaning += [normalizers.Replace(" ", SPACE)]
            backend.decoder = decoders.Sequence(
                [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
            )
        backend.normalizer = normalizers.Sequence(cleaning)
        backend.add_special_tokens([AddedToken(piece, normalized=False) for piece in self._by_id(self.control)])
        backend.add_tokens([AddedToken(piece, normalized=False) for piece in self.whole])
        backend.post_processor = processors.TemplateProcessing(single=f"$A {eos}", special_tokens=[(eos, eos_id)])
        return backend.to_str()

    def _bpe(self, merges: Sequence[tuple[str, str]]) -> models.BPE:
        unknown = next((piece for piece, index in self.ids.items() if index == self.unknown_id), None)
        return models.BPE(
            vocab=self.ids, merges=list(merges), unk_token=unknown, fuse_unk=True, byte_fallback=self.byte_fallback
        )

    def _scored(self) -> Iterator[tuple[str, float]]:
        return zip(self.ids, self.scores, strict=True)

    def _by_id(self, pieces: frozenset[str]) -> list[str]:
        return sorted(pieces, key=self.ids.__getitem__)


def read_vocabulary(text: str) -> Vocabulary:
    """The content of a `tokenizer.json` with a unigram model, or with byte-pair encoding as Gemma has it.

    Raises VocabularyError, which names a part that is not understood.
    """
    try:
        content = json.loads(text)
        model = content["model"]
        normalizers_ = list(pipeline_steps(content.get("normalizer"), "normalizers"))
        _expect_known("normalizer", normalizers_, _KNOWN_NORMALIZERS)
        pre_tokenizers_ = list(pipeline_steps(content.get("pre_tokenizer"), "pretokenizers"))
        _expect_known("pre-tokenizer", pre_tokenizers_, _KNOWN_PRE_TOKENIZERS.get(model["type"], set()))
        # Of a text whose spaces are marks already, Gemma's splitter finds nothing to split.
        if any(part.get("pattern", {"String": " "}) != {"String": " "} for part in pre_tokenizers_):
            raise VocabularyError("it splits texts by a pattern of its own")
        maps = [part["precompiled_charsmap"] for part in normalizers_ if part["type"] == "Precompiled"]
        if len(maps) > 1:
            raise VocabularyError("it has more than one character map")
        charsmap = base64.b64decode(maps[0], validate=True) if maps and maps[0] else b""
        added = content.get("added_tokens") or []
        if model["type"] == "Unigram":
            return _read_unigram(model, added, charsmap)
        if model["type"] == "BPE" and not charsmap:
            return _read_bpe(model, added)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, binascii.Error) as error:
        if isinstance(error, VocabularyError):
            raise
        raise VocabularyError(f"{type(error).__name__}: {error}") from error
    raise VocabularyError(f"its model {model['type']!r} is neither Unigram nor BPE of plain characters")


def _read_unigram(model: dict[str, Any], added: list[dict[str, Any]], charsmap: bytes) -> Vocabulary:
    ids = {str(piece): index for index, (piece, _) in enumerate(model["vocab"])}
    scores = tuple(float(score) for _, score in model["vocab"])
    if len(ids) != len(scores) or not all(map(math.isfinite, scores)):
        raise VocabularyError("a piece comes twice, or has a score that is no number")
    control = _control(ids, added)
    if any(token["content"] not in control for token in added):
        raise VocabularyError("added tokens that stand for text are not supported beside a unigram model")
    unknown_id = model.get("unk_id")
    if unknown_id is None or not 0 <= unknown_id < len(ids):
        raise VocabularyError(f"unk_id {unknown_id!r} is not the id of a piece")
    control |= {piece for piece, index in ids.items() if index == unknown_id}
    return Vocabulary("unigram", ids, scores, (), unknown_id, bool(model.get("byte_fallback")), control, (), charsmap)


def _read_bpe(model: dict[str, Any], added: list[dict[str, Any]]) -> Vocabulary:
    for option in ("continuing_subword_prefix", "end_of_word_suffix", "dropout", "ignore_merges"):
        if model.get(option):
            raise VocabularyError(f"byte-pair encoding with {option} {model[option]!r} is not supported")
    ids = {str(piece): int(index) for piece, index in model["vocab"].items()}
    if len(set(ids.values())) != len(ids) or min(ids.values(), default=0) < 0:
        raise VocabularyError("two pieces have the same id, or one is negative")
    pairs = [pair.split(" ") if isinstance(pair, str) else pair for pair in model["merges"]]
    merges = tuple((str(first), str(second)) for first, second in pairs)
    unknown = model.get("unk_token")
    if unknown is not None and unknown not in ids:
        raise VocabularyError(f"unk_token {unknown!r} is no piece")
    control = _control(ids, added) | ({unknown} if unknown is not None else set())
    whole = tuple(token["content"] for token in added if token["content"] not in control)
    unknown_id = None if unknown is None else ids[unknown]
    return Vocabulary("bpe", ids, (), merges, unknown_id, bool(model.get("byte_fallback")), control, whole)


def _control(ids: dict[str, int], added: list[dict[str, Any]]) -> frozenset[str]:
    """The special ones among the added tokens, each of which must be a piece."""
    for token in added:
        if ids.get(token["content"]) != token["id"]:
            raise VocabularyError(
                f"the added token {token['content']!r} is no piece of the model with id {token['id']}"
            )
        if not token["special"] and (token.get("lstrip") or token.get("rstrip") or token.get("single_word")):
            raise VocabularyError(f"the added token {token['content']!r} takes in white space, which is not supported")
    return frozenset(token["content"] for token in added if token["special"])


def pipeline_steps(node: dict[str, Any] | None, name: str) -> Iterator[dict[str, Any]]:
    """A step of the pipeline, or each of a sequence of them."""
    if node is None:
        return
    if node["type"] != "Sequence":
        yield node
        return
    for part in node[name]:
        yield from pipeline_steps(part, name)


def _expect_known(what: str, parts: list[dict[str, Any]], known: set[str]) -> None:
    for part in parts:
        if part["type"] not in known:
            raise VocabularyError(f"its {what} {part['type']!r} is not one that SigLIP's texts pass through")
