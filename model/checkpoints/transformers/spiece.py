"""SentencePiece models: the protobuf that `spiece.model` is, read without a library.

Fields by number: sentencepiece_model.proto of google/sentencepiece.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

from model.checkpoints.checkpoint import CheckpointError
from model.tokenizers.vocabulary import Vocabulary

_PIECES, _TRAINER, _NORMALIZER = 1, 2, 3
_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED, _UNUSED, _BYTE = range(1, 7)
_UNIGRAM = 1
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def read_model(content: bytes, most: int) -> Vocabulary:
    """The unigram model in `content`, of which the text tower knows the first `most` pieces.

    Raises CheckpointError for another kind of model, and for what it does to a text that we do not.
    """
    pieces: list[tuple[str, float, int]] = []
    trainer: dict[int, Any] = {}
    normalizer: dict[int, Any] = {}
    try:
        for field, value in _fields(content):
            if field == _PIECES:
                piece = dict(_fields(value))
                pieces.append((piece[1].decode("utf-8"), _float(piece.get(2)), int(piece.get(3, _NORMAL))))
            elif field in (_TRAINER, _NORMALIZER):
                (trainer if field == _TRAINER else normalizer).update(_fields(value))
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, struct.error) as error:
        raise CheckpointError(f"it is no SentencePiece model: {type(error).__name__}: {error}") from error
    _expect("model_type", trainer.get(3, _UNIGRAM), _UNIGRAM)
    _expect("treat_whitespace_as_suffix", trainer.get(24, 0), 0)
    _expect("remove_extra_whitespaces", normalizer.get(4, 1), 1)
    _expect("escape_whitespaces", normalizer.get(5, 1), 1)
    return _vocabulary(pieces, most, bool(trainer.get(35, 0)), normalizer.get(2, b""))


def longest_piece(content: bytes) -> int:
    """Bytes of the longest piece of a model of any kind. Raises CheckpointError for what is none."""
    try:
        pieces = (dict(_fields(value))[1] for field, value in _fields(content) if field == _PIECES)
        return max(map(len, pieces), default=0)
    except (ValueError, LookupError, TypeError) as error:
        raise CheckpointError(f"it is no SentencePiece model: {type(error).__name__}: {error}") from error


def _vocabulary(pieces: list[tuple[str, float, int]], most: int, byte_fallback: bool, charsmap: bytes) -> Vocabulary:
    # mT5's model ends with symbols of its own training, which SigLIP's embedding leaves out.
    surplus = pieces[most:]
    if any(type_ not in (_CONTROL, _USER_DEFINED, _UNUSED) for _, _, type_ in surplus):
        raise CheckpointError(f"it has {len(pieces)} pieces, the text tower only {most}: not of one model")
    pieces = pieces[:most]
    for piece, _, type_ in pieces:
        if type_ not in (_NORMAL, _UNKNOWN, _CONTROL, _UNUSED, _BYTE):
            raise CheckpointError(f"its piece {piece!r} is of type {type_}, which is not supported")
    unknown = [index for index, (_, _, type_) in enumerate(pieces) if type_ == _UNKNOWN]
    ids = {piece: index for index, (piece, _, _) in enumerate(pieces)}
    if len(ids) != len(pieces) or len(unknown) != 1:
        raise CheckpointError("a piece of it comes twice, or not one piece stands for the unknown")
    control = frozenset(piece for piece, _, type_ in pieces if type_ in (_UNKNOWN, _CONTROL, _UNUSED))
    scores = tuple(score for _, score, _ in pieces)
    return Vocabulary("unigram", ids, scores, (), unknown[0], byte_fallback, control, (), charsmap)


def _fields(message: bytes) -> Iterator[tuple[int, Any]]:
    """Number and value of each field: int, bytes, or the four or eight bytes of a number."""
    place = 0
    while place < len(message):
        key, place = _varint(message, place)
        wire = key & 7
        if wire == _VARINT:
            value, place = _varint(message, place)
            yield key >> 3, value
            continue
        if wire not in (_FIXED64, _BYTES, _FIXED32):
            raise ValueError(f"a field of wire type {wire}")
        length, place = _varint(message, place) if wire == _BYTES else (8 if wire == _FIXED64 else 4, place)
        if place + length > len(message):
            raise ValueError(f"a field ends {place + length - len(message)} bytes beyond the message")
        yield key >> 3, message[place : place + length]
        place += length


def _varint(message: bytes, place: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 64, 7):
        byte = message[place]
        value |= (byte & 0x7F) << shift
        place += 1
        if byte < 0x80:
            return value, place
    raise ValueError("a number of more than 64 bits")


def _float(value: bytes | None) -> float:
    return float(struct.unpack("<f", value)[0]) if value is not None else 0.0


def _expect(field: str, value: Any, known: int) -> None:
    if value != known:
        raise CheckpointError(f"its {field} is {value!r}: only {known} is supported")
