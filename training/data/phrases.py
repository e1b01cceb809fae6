"""The phrases of a sample as an index keeps them: where the text of each is, of which kind, and what it is matched by.

Two phrases are the same where their digests are: 64 bits of a hash of their lower case, as the text tower reads them.
Among a million phrases one pair is taken for the same by chance once in 37 million such sets.
"""

from __future__ import annotations

import struct
from hashlib import blake2b
from typing import BinaryIO

import numpy as np

from training.data.sample import Annotation

KIND_NAMES = ("caption", "label", "synonym", "coarse", "tags", "description")  # in the order that they are drawn from
CAPTION, LABEL, SYNONYM, COARSE, TAG, DESCRIPTION = range(len(KIND_NAMES))
# `start` and `size` are the bytes of the text in a file or a buffer, in UTF-8.
# Of a caption, `field` is the number of the field that it is from, and `row` its row among the stored vectors of the
# sample, -1 for none.
PHRASE = np.dtype(
    [("start", "<i8"), ("size", "<i4"), ("kind", "i1"), ("digest", "<i8"), ("field", "i1"), ("row", "<i2")]
)
MAX_FIELDS, OTHER_FIELDS = 100, "other fields"  # the last of so many stands for all further ones
MAX_ROW = 2**15 - 1


def phrase_digest(phrase: str) -> int:
    """What a phrase is matched by, in whatever case."""
    hashed = blake2b(encode_phrase(phrase.lower()), digest_size=8)
    return int.from_bytes(hashed.digest(), "little", signed=True)


def list_phrases(annotation: Annotation) -> list[tuple[int, str]]:
    """The phrases of an annotation with their kinds, in the order of these; a description is one."""
    label, coarse, description = annotation.label, annotation.coarse, annotation.description
    found = [(CAPTION, caption) for caption in annotation.captions]
    found += [(LABEL, label)] if label else []
    found += [(COARSE, coarse)] if coarse and coarse != label else []
    found += [(TAG, tag) for tag in dict.fromkeys(annotation.tags) if tag != label]
    found += [(DESCRIPTION, description)] if description is not None else []
    return found


def encode_phrase(phrase: str) -> bytes:
    """In UTF-8, halves of characters too: names of files may hold them."""
    return phrase.encode("utf-8", "surrogatepass")


def decode_phrase(encoded: bytes | memoryview) -> str:
    """The inverse of `encode_phrase`."""
    return str(encoded, "utf-8", "surrogatepass")


def write_phrases(annotation: Annotation, fields: dict[str, int], texts: BinaryIO, phrases: BinaryIO) -> int:
    """Write the phrases behind what `texts` holds; how many they are. New `fields` of captions get a number."""
    found = list_phrases(annotation)
    for place, (kind, phrase) in enumerate(found):  # captions come first
        text, field, row = encode_phrase(phrase), 0, -1
        if kind == CAPTION:
            name = annotation.caption_fields[place] if annotation.caption_fields else "captions"
            name = name if name in fields or len(fields) < MAX_FIELDS - 1 else OTHER_FIELDS
            field = fields.setdefault(name, len(fields))
            row = annotation.caption_rows[place] if annotation.caption_rows else -1
            row = row if -1 <= row <= MAX_ROW else -1
        phrases.write(struct.pack("<qibqbh", texts.tell(), len(text), kind, phrase_digest(phrase), field, row))
        texts.write(text)
    return len(found)
