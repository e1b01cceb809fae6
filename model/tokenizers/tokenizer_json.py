"""Any `tokenizer.json` of the `tokenizers` library, checked and opened for texts that nobody vouches for.

The library finds control tokens in a text in two ways: as added tokens, and as pieces of its model. As both they get
names that no text has. What the post-processor writes before and after a text, by id, stays as it is.
"""

from __future__ import annotations

import base64
import json
import secrets
from dataclasses import dataclass
from typing import Any

from tokenizers import Tokenizer as Backend

from model.tokenizers.vocabulary import pipeline_steps

MAX_CHARACTERS = 192 * 1024**2  # XLM-V's, of 900,000 pieces, has 90 million where it is indented
MAX_STEPS = 64  # of normalisation and of splitting
MAX_PATTERN = 4096  # characters of a regular expression
MAX_GROWTH = 64  # times that all replacements together may lengthen a text
MAX_MAPPED_BYTES = 256  # what a character map makes of one character; NFKC has 33
MAX_WORD = 1000  # characters that a WordPiece model may look at as one word: its time is the square of them
_OPENED_WITHOUT = ("truncation", "padding", "decoder")
# A pattern that takes for ever on runs of one kind of characters is found out here, and not by a request.
_PROBES = ("", "a" * 1024, " " * 1024, "7" * 1024, "a1 -" * 256, "\n " * 512, "東京" * 512)


class TokenizerJsonError(ValueError):
    """A file that cannot be used; the message says what is wrong with it."""


@dataclass(frozen=True)
class Opened:
    """The library's tokenizer, what it writes around each text, and one more than the largest id that it gives."""

    backend: Backend
    before: tuple[int, ...]
    after: tuple[int, ...]
    vocab_size: int


def open_tokenizer_json(content: str) -> Opened:
    """Check the content of a `tokenizer.json`, and open it without padding, truncation and decoder.

    No text can spell a control token then. Raises TokenizerJsonError, which names the part that is malformed, refused
    or without a bound.
    """
    if len(content) > MAX_CHARACTERS:
        raise TokenizerJsonError(f"it has more than {MAX_CHARACTERS >> 20} million characters")
    try:
        file = json.loads(content)
        before, after, names = _around(file.get("post_processor"))
        added = file.get("added_tokens") or []
        _check_steps(file)
        _check_model(file["model"])
        control = names | {str(token["content"]) for token in added if token["special"]}
        sizes = [_hide(file["model"], added, control), *(index + 1 for index in before + after)]
        file |= dict.fromkeys(_OPENED_WITHOUT)
    except TokenizerJsonError:
        raise
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        raise TokenizerJsonError(f"it is malformed: {type(error).__name__}: {error}") from error
    if min(before + after, default=0) < 0:
        raise TokenizerJsonError("its post_processor writes a negative id")
    return Opened(_open(json.dumps(file), added, before, after), before, after, max(sizes))


def failure(error: BaseException) -> str:
    """What the library says of a text or file that it cannot read. Raises the error again where it is not its own.

    A panic of its code arrives as a BaseException of a class that cannot be imported.
    """
    if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
        raise error
    return f"{error}"[:300]


def _open(content: str, added: list[dict[str, Any]], before: tuple[int, ...], after: tuple[int, ...]) -> Backend:
    try:
        backend = Backend.from_str(content)
        probes = [encoding.ids for encoding in backend.encode_batch_fast(list(_PROBES))]
    except BaseException as error:
        raise TokenizerJsonError(f"the tokenizers library cannot use it: {failure(error)}") from error
    for token in added:  # the library warns of an id that it cannot give, and gives another
        if backend.token_to_id(token["content"]) != token["id"]:
            raise TokenizerJsonError(f"the added token {token['content']!r:.100} has another id than the file says")
    for ids in probes:
        if (*ids[: len(before)],) != before or (*ids[len(ids) - len(after) :],) != after:
            raise TokenizerJsonError("its post_processor does not write what the file says")
    return backend


def _around(processor: dict[str, Any] | None) -> tuple[tuple[int, ...], tuple[int, ...], set[str]]:
    """The ids before and after a text, and the names of these tokens."""
    before: tuple[int, ...] = ()
    after: tuple[int, ...] = ()
    names: set[str] = set()
    for step in pipeline_steps(processor, "processors"):
        if step["type"] in ("BertProcessing", "RobertaProcessing"):
            first, last = [(*step["cls"],)], [(*step["sep"],)]
        elif step["type"] == "TemplateProcessing":
            first, last = _template(step)
        elif step["type"] == "ByteLevel":  # moves offsets only
            continue
        else:
            raise TokenizerJsonError(f"its post_processor {step['type']!r:.100} is not one that is known")
        before = (*(int(index) for _, index in first), *before)
        after = (*after, *(int(index) for _, index in last))
        names |= {str(name) for name, _ in first + last}
    return before, after, names


def _template(step: dict[str, Any]) -> tuple[list[tuple[str, int]], list[tuple[str, int]]]:
    """Names and ids before and after the text."""
    sides: tuple[list[tuple[str, int]], list[tuple[str, int]]] = ([], [])
    texts = 0
    for part in step["single"]:
        if "Sequence" in part:
            texts += 1
        else:
            name = part["SpecialToken"]["id"]
            sides[min(texts, 1)].extend((name, index) for index in step["special_tokens"][name]["ids"])
    if texts != 1:
        raise TokenizerJsonError(f"its post_processor writes a text {texts} times")
    return sides


def _hide(model: dict[str, Any], added: list[dict[str, Any]], control: set[str]) -> int:
    """Give control tokens names that no text has. Returns one more than the largest id that a text can get."""
    secret = secrets.token_hex(16)
    unknown = model.get("unk_token")

    def hidden(piece: Any) -> Any:
        return f"{piece}{secret}" if piece in control else piece

    # What is unknown becomes a control token, as a rule.
    spelled = [int(token["id"]) for token in added if token["content"] not in control]
    if model["type"] == "Unigram":
        spelled += [index for index, (piece, _) in enumerate(model["vocab"]) if piece not in control]
        spelled.append(int(model["unk_id"]))
        model["vocab"] = [[hidden(piece), score] for piece, score in model["vocab"]]
    else:
        spelled += [int(index) for piece, index in model["vocab"].items() if piece not in control or piece == unknown]
        model["vocab"] = {hidden(piece): index for piece, index in model["vocab"].items()}
        model["unk_token"] = hidden(unknown)
    if model["type"] == "BPE":
        pairs = [pair.split(" ") if isinstance(pair, str) else pair for pair in model["merges"]]
        model["merges"] = [pair for pair in pairs if not control & {*pair, "".join(pair)}]
    for token in added:
        token["content"] = hidden(token["content"])
    if min(spelled, default=0) < 0:
        raise TokenizerJsonError("it has a negative id")
    return max(spelled, default=-1) + 1


def _check_model(model: dict[str, Any]) -> None:
    """Refuse models that fail on a text, that are not the same each time, or whose time has no bound."""
    kind = model.get("type")
    if model.get("dropout"):
        raise TokenizerJsonError(f"its model drops merges by chance (dropout {model['dropout']!r:.20}), as in training")
    if kind == "Unigram":
        if model.get("unk_id") is None:
            raise TokenizerJsonError("its model has no unk_id, which an unknown character becomes")
    elif kind not in ("BPE", "WordPiece", "WordLevel"):
        raise TokenizerJsonError(f"its model {kind!r:.100} is none of Unigram, BPE, WordPiece and WordLevel")
    elif kind != "BPE" and model["unk_token"] not in model["vocab"]:
        raise TokenizerJsonError(f"its model has no piece {model['unk_token']!r:.100}, which unknown words become")
    elif kind == "WordPiece" and not 0 < model["max_input_chars_per_word"] <= MAX_WORD:
        raise TokenizerJsonError(f"its model has words of {model['max_input_chars_per_word']!r:.20} characters")


def _check_steps(file: dict[str, Any]) -> None:
    """Refuse what makes a text longer without a bound, and patterns of a size that nobody needs."""
    normalizers = list(pipeline_steps(file.get("normalizer"), "normalizers"))
    splitters = list(pipeline_steps(file.get("pre_tokenizer"), "pretokenizers"))
    if max(len(normalizers), len(splitters)) > MAX_STEPS:
        raise TokenizerJsonError(f"it normalises or splits a text in more than {MAX_STEPS} steps")
    growth = 1
    for step in normalizers:
        if step["type"] == "Replace":
            growth *= max(1, len(step["content"]))
        elif step["type"] == "Prepend" and len(step["prepend"]) > MAX_GROWTH:
            raise TokenizerJsonError("its normalizer writes a long text before each text")
        elif step["type"] == "Precompiled":
            _check_charsmap(step["precompiled_charsmap"])
    if growth > MAX_GROWTH:
        raise TokenizerJsonError(f"its normalizer makes a text up to {growth} times as long")
    for step in normalizers + splitters:
        for pattern in (step.get("pattern") or {}).values():
            if not 0 < len(pattern) <= MAX_PATTERN:
                raise TokenizerJsonError(f"a pattern of its {step['type']!r:.100} has {len(pattern)} characters")


def _check_charsmap(encoded: str | None) -> None:
    """SentencePiece's: the size of a trie, the trie, and what its leaves stand for, each ended by a zero."""
    charsmap = base64.b64decode(encoded or "", validate=True)
    size = int.from_bytes(charsmap[:4], "little")
    if charsmap and (size % 4 or 4 + size > len(charsmap)):
        raise TokenizerJsonError("its character map is cut short")
    if max(map(len, charsmap[4 + size :].split(b"\0"))) > MAX_MAPPED_BYTES:
        raise TokenizerJsonError(f"its character map makes more than {MAX_MAPPED_BYTES} bytes of a character")
