"""The bundle: one folder that passes from training to serving, every file of it named and hashed in bundle.json.

`weights.safetensors` holds the parameters once; the ONNX graphs point into it as external data, so the same file is
served and trained further. There is one for each tower and, of a model whose pictures have several vectors, one that
mixes them for each text. Nothing in a bundle is executed or unpickled.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from io import BufferedReader
from pathlib import Path
from typing import Any

from model.category_config import CategoriesConfig
from model.config import MixtureConfig, Preprocessing, SiglipTextConfig, TextConfig
from model.files import open_regular_file, read_regular_file, write_atomically
from model.library_config import LibraryTextConfig
from model.manifest import (
    MANIFEST,
    TOKENIZER,
    BundleError,
    FileName,
    FileRecord,
    Manifest,
    read_manifest,
)
from model.pretrained_text import TransformersTextConfig
from model.tokenizers.categories import CategoryTokenizer
from model.tokenizers.clip import TextTokenizer, Tokenizer, TokenizerError
from model.tokenizers.fast import FastTokenizer
from model.tokenizers.sentencepiece import SentenceTokenizer

CHUNK_BYTES = 2**20  # that are hashed at once


@dataclass(frozen=True)
class Bundle:
    """A bundle on disk, whose files all have the hashes that its manifest names."""

    path: Path
    manifest: Manifest

    @classmethod
    def load(cls, path: Path, on_read: Callable[[], None] = lambda: None) -> Bundle:
        """Read and verify the bundle in `path`; `on_read` is called for each piece of a file that has been read.

        Raises BundleError naming the file that is missing, truncated, altered or not understood.
        """
        manifest = read_manifest(path)
        on_read()
        required = manifest.required_files
        missing = [name for name in required if name not in manifest.files]
        if missing:
            raise BundleError(f"{path / MANIFEST} does not list {', '.join(missing)}: export the bundle again")
        if surplus := sorted(manifest.files.keys() - set(required)):
            raise BundleError(
                f"{path / MANIFEST} lists {', '.join(surplus)}, which a model without a mixture does not have"
            )
        for name, record in manifest.files.items():
            _verify(path / name, record, on_read)
        return cls(path, manifest)

    def read(self, name: FileName) -> bytes:
        """The content of a file, checked again: it may have been replaced since it was first looked at."""
        record = self.manifest.files[name]
        try:
            content, _ = read_regular_file(self.path / name, record.bytes)
        except OSError as error:
            raise BundleError(f"{self.path / name} cannot be read any more: {error.strerror}") from error
        if hashlib.sha256(content).hexdigest() != record.sha256:
            raise BundleError(f"{self.path / name} was altered while the bundle was being opened")
        return content

    @property
    def id(self) -> str:
        """The name clients use for this model."""
        return self.manifest.id

    @cached_property
    def digest(self) -> str:
        """SHA-256 over all that decides a vector: files, configuration, preprocessing. Names the vectors it makes."""
        parts = {
            "files": {name: record.sha256 for name, record in self.manifest.files.items()},
            # Without what is at its default, so that a field that is new in a release changes no digest.
            "config": self.manifest.config.model_dump(mode="json", exclude={"name"}, exclude_defaults=True),
            "preprocessing": self.manifest.preprocessing.model_dump(mode="json", exclude_defaults=True),
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    @property
    def dimensions(self) -> int:
        """Length of an embedding."""
        return self.manifest.config.embed_dim

    @property
    def mixture(self) -> MixtureConfig | None:
        """How many vectors a picture has and how they are mixed for each text (Llip); None where it has one."""
        return self.manifest.mixture

    @property
    def image_shape(self) -> tuple[int, ...]:
        """Of a picture's embedding: (dimensions,), or (tokens, dimensions) where they are mixed for each text."""
        return (self.dimensions,) if self.mixture is None else (self.mixture.tokens, self.dimensions)

    @property
    def context_length(self) -> int:
        """Most tokens of a text, start and end included."""
        return self.manifest.config.text.context_length

    def row_length(self, tokens: int) -> int:
        """Ids in the row that the text tower gets for a text of that many tokens: more where padding is part of it."""
        text = self.manifest.config.text
        return text.context_length if text.fixed_length else min(tokens, text.context_length)

    @property
    def image_size(self) -> int:
        """Side in pixels of the square that the image tower sees."""
        return self.manifest.preprocessing.size

    @property
    def logit_scale(self) -> float:
        """What a cosine is multiplied by to become a logit."""
        return self.manifest.logit_scale

    @property
    def logit_bias(self) -> float | None:
        """Added to a logit by models trained with the sigmoid loss; None for softmax models."""
        return self.manifest.logit_bias

    @property
    def categories(self) -> int | None:
        """How many categories a model knows that reads no other text than their names; None of all other models."""
        text = self.manifest.config.text
        return text.categories if isinstance(text, CategoriesConfig) else None

    @property
    def precision(self) -> str:
        """Precision of the matrices: what they are computed in, but for bf16, which all but OpenVINO widen to fp32."""
        return self.manifest.precision

    @property
    def preprocessing(self) -> Preprocessing:
        """How a picture becomes the image tower's input."""
        return self.manifest.preprocessing

    def tokenizer(self) -> TextTokenizer:
        """Read the tokenizer. Raises BundleError if it is none, or its ids do not fit the text tower."""
        text = self.manifest.config.text
        try:
            content = self.read(TOKENIZER).decode()
            tokenizer = _parse_tokenizer(content, text)
        except (TokenizerError, UnicodeDecodeError) as error:
            raise BundleError(f"{self.path / TOKENIZER}: {error}") from error
        surplus = tokenizer.vocab_size - text.vocab_size
        # But for CLIP's and categories, the embedding may have rows that no token has; never the other way round.
        if surplus > 0 or (surplus and isinstance(text, TextConfig | CategoriesConfig)):
            raise BundleError(
                f"{self.path / TOKENIZER} has {tokenizer.vocab_size} tokens, the text tower {text.vocab_size}: "
                "the two come from different models"
            )
        return tokenizer


def _parse_tokenizer(
    content: str, text: TextConfig | SiglipTextConfig | CategoriesConfig | LibraryTextConfig | TransformersTextConfig
) -> TextTokenizer:
    if isinstance(text, CategoriesConfig):
        return CategoryTokenizer.parse(content)
    if isinstance(text, SiglipTextConfig):
        return SentenceTokenizer.parse(content, text)
    if isinstance(text, TransformersTextConfig):
        return FastTokenizer.parse(content, text)
    if isinstance(text, LibraryTextConfig) and text.tokenizer == "hugging_face":
        return FastTokenizer.parse(content, text)
    return Tokenizer.parse(content, text.context_length, text.pad_id, text.fixed_length)


def bundled() -> Path:
    """Folder of the checkpoint that ships with the package."""
    return Path(__file__).parent / "bundled" / "sightword-small"


def bundled_digest() -> str | None:
    """Digest of that checkpoint, by its manifest alone; None where this installation has none."""
    try:
        return Bundle(bundled(), read_manifest(bundled())).digest
    except BundleError:
        return None


def write_manifest(path: Path, fields: Mapping[str, Any]) -> Bundle:
    """Write bundle.json with `fields` and the hashes of the files in `path`, and load the result.

    It is written last and atomically: a folder without one is no bundle. Raises WriteError, BundleError, and pydantic's
    ValidationError for fields that are none of a manifest.
    """
    unlisted = Manifest.model_validate({**fields, "files": {}})
    checked = unlisted.model_copy(update={"files": {name: _record(path / name) for name in unlisted.required_files}})
    with write_atomically(path / MANIFEST) as draft:
        draft.write_text(checked.model_dump_json(indent=2) + "\n", "utf-8")
    return Bundle.load(path)


def _record(file: Path) -> FileRecord:
    with open_regular_file(file) as stream:
        return FileRecord(sha256=hashlib.file_digest(stream, "sha256").hexdigest(), bytes=file.stat().st_size)


def _verify(file: Path, expected: FileRecord, on_read: Callable[[], None]) -> None:
    try:
        with open_regular_file(file) as stream:
            size = os.fstat(stream.fileno()).st_size
            if size != expected.bytes:  # before it is read: it may be endless
                raise BundleError(
                    f"{file} has {size} bytes instead of {expected.bytes}: it is truncated or was replaced"
                )
            sha256 = _sha256(stream, expected.bytes, on_read)
    except FileNotFoundError:
        raise BundleError(f"{file} is missing") from None
    except OSError as error:
        raise BundleError(f"{file} cannot be read: {error.strerror}") from error
    if sha256 != expected.sha256:
        raise BundleError(f"{file} was altered: its SHA-256 is not the one in {MANIFEST}")


def _sha256(stream: BufferedReader, size: int, on_read: Callable[[], None]) -> str:
    digest = hashlib.sha256()
    while size > 0 and (chunk := stream.read(min(size, CHUNK_BYTES))):
        digest.update(chunk)
        size -= len(chunk)
        on_read()
    return digest.hexdigest()
