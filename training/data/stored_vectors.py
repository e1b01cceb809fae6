"""Reads the vectors of a teacher that are stored with a sample, as in the reinforced shards of DataCompDR.

`image_emb` [augmentations, dim] are of the image, varied each time, and `text_emb` [texts, dim] of its captions, those
of KEY.syn.json last (Vasu et al. 2024, "MobileCLIP", section 4). Both are in KEY.npz or in KEY.json. Nothing pickled is
read, and no header decides how much memory is taken.
"""

from __future__ import annotations

import io
import math
import tokenize
import zipfile
import zlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from model.data.text_files import json_object
from training.data.annotation import VECTOR_NAMES
from training.data.decoding_pool import read_location
from training.data.sample import SampleLocation

Vectors = npt.NDArray[np.float32]

MAX_ARRAY_BYTES = 64 * 2**20  # of one array; 30 augmentations of 1,536 numbers take 184 kB
MAX_HEADER_BYTES = 4096
COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # which numpy writes
# What json, numpy, zipfile and zlib raise for files of anybody's. A RuntimeError is of a member that is encrypted,
# and of what is nested too deeply.
UNUSABLE = (
    KeyError, TypeError, ValueError, OverflowError, RuntimeError, EOFError,
    zipfile.BadZipFile, zlib.error, tokenize.TokenError,
)  # fmt: skip
EPOCH = (1980, 1, 1, 0, 0, 0)  # of members, so that the same vectors are the same bytes


@dataclass(frozen=True, slots=True)
class StoredVectors:
    """Of unit length: the image's, which is the mean over its augmentations, [dim], and those of texts [texts, dim]."""

    image: Vectors
    texts: Vectors


def read_vectors(location: SampleLocation) -> StoredVectors:
    """The vectors at a location. Raises OSError for those that cannot be used, which says why."""
    content = read_location(location)
    try:
        image, texts = _from_json(content) if content.lstrip()[:1] == b"{" else _from_npz(content)
        if image.shape[1] != texts.shape[1]:
            raise ValueError(f"images have {image.shape[1]} dimensions and texts {texts.shape[1]}")
        return StoredVectors(_unit(_unit(image).mean(axis=0, keepdims=True))[0], _unit(texts))
    except UNUSABLE as error:
        raise OSError(f"stored vectors in {location.file} at {location.offset:,}: {error}") from error


def to_npz(location: SampleLocation) -> bytes:
    """The vectors at a location as the bytes of an .npz file, the same for the same vectors. Raises OSError."""
    read_vectors(location)  # what cannot be used is not passed on
    content = read_location(location)
    if content.lstrip()[:1] != b"{":
        return content
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, array in zip(VECTOR_NAMES, _from_json(content), strict=True):
            member = io.BytesIO()
            np.lib.format.write_array(member, array, allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy", EPOCH), member.getvalue())
    return out.getvalue()


def _from_json(content: bytes) -> tuple[Vectors, Vectors]:
    record = json_object(content)
    image, texts = (np.atleast_2d(np.array(record[name], np.float32)) for name in VECTOR_NAMES)
    return _matrix(image), _matrix(texts)


def _from_npz(content: bytes) -> tuple[Vectors, Vectors]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        image, texts = (_read_array(archive, f"{name}.npy") for name in VECTOR_NAMES)
    return _matrix(image), _matrix(texts)


def _read_array(archive: zipfile.ZipFile, name: str) -> Vectors:
    if archive.getinfo(name).compress_type not in COMPRESSIONS:
        raise ValueError(f"{name} is compressed as numpy does not write it")
    with archive.open(name) as member:
        content = member.read(MAX_ARRAY_BYTES + 1)
    if len(content) > MAX_ARRAY_BYTES:
        raise ValueError(f"{name} has more than {MAX_ARRAY_BYTES:,} bytes")
    file = io.BytesIO(content)
    version = np.lib.format.read_magic(file)
    read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in read_header:
        raise ValueError(f"{name} is of version {version} of the format")
    shape, by_columns, kind = read_header[version](file, max_header_size=MAX_HEADER_BYTES)
    numbers = content[file.tell() :]
    if kind.kind != "f" or math.prod(shape) * kind.itemsize != len(numbers):
        raise ValueError(f"{name} holds no floating-point numbers in the shape {shape}")
    array = np.frombuffer(numbers, kind).reshape(shape, order="F" if by_columns else "C")
    return np.atleast_2d(array).astype(np.float32)


def _matrix(array: Vectors) -> Vectors:
    if array.ndim != 2 or not array.size:
        raise ValueError(f"vectors have the shape {array.shape}")
    return array


def _unit(vectors: Vectors) -> Vectors:
    norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
    if not np.isfinite(norms).all() or not norms.all():
        raise ValueError("a vector is zero or not finite")
    unit: Vectors = vectors / norms
    return unit
