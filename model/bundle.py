"""The bundle: one folder that passes from training to serving, every file of it named and hashed in bundle.json.

`weights.safetensors` holds the parameters once; the two ONNX graphs point into it as external data, so the same file
is served and trained further. Nothing in a bundle is executed or unpickled.
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
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError

from model.config import ModelConfig, ModelName, Preprocessing
from model.files import open_regular_file, read_regular_file, write_atomically
from model.suggestions import did_you_mean_path
from model.tokenizers.clip import TextTokenizer, Tokenizer, TokenizerError
from model.tokenizers.sentencepiece import SentenceTokenizer
from model.variant_report import Count, VariantReport

MANIFEST = "bundle.json"
IMAGE_GRAPH: Final = "image.onnx"
TEXT_GRAPH: Final = "text.onnx"
TOKENIZER: Final = "tokenizer.json"
WEIGHTS: Final = "weights.safetensors"
REQUIRED = (IMAGE_GRAPH, TEXT_GRAPH, TOKENIZER, WEIGHTS)

MAX_LOGIT = 1e9  # e to the 20th, the largest scale that an import takes, is half of it; all sums stay finite in float32
MAX_MANIFEST_BYTES = 16 * 2**20
PIECE_BYTES = 2**20
MAX_WARNINGS = 10
MAX_WARNING_CHARACTERS = 500

FileName = Literal["image.onnx", "text.onnx", "tokenizer.json", "weights.safetensors"]


class BundleError(ValueError):
    """A bundle that must not be served; the message names the file and what is wrong with it."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class FileRecord(_Frozen):
    """What a file must be."""

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    bytes: int = Field(ge=0, le=2**50)


class ExportReport(_Frozen):
    """How close the graphs are to the torch network, measured when they were written."""

    image_max_abs_diff: FiniteFloat
    image_min_cosine: FiniteFloat
    text_max_abs_diff: FiniteFloat
    text_min_cosine: FiniteFloat
    pictures: Count
    texts: Count
    batch_sizes: tuple[Count, ...]
    text_lengths: tuple[Count, Count]
    tolerance: float


class Manifest(_Frozen):
    """bundle.json."""

    format: Literal[1] = 1
    id: ModelName
    created: str
    config: ModelConfig
    preprocessing: Preprocessing
    logit_scale: float = Field(gt=0, le=MAX_LOGIT)
    logit_bias: float | None = Field(None, ge=-MAX_LOGIT, le=MAX_LOGIT)
    precision: Literal["fp32", "fp16", "bf16", "int8"] = "fp32"
    weights_dtype: Literal["float32", "float16", "bfloat16", "int8"] = "float32"
    files: dict[FileName, FileRecord]
    export: ExportReport
    variant: VariantReport | None = None  # of bundles that were made from another; `export` is then that one's
    source: dict[str, Any] = {}
    scores: dict[str, Any] = {}

    @property
    def source_warnings(self) -> list[str]:
        """What was doubtful when the model was imported; few and short, as nothing is promised of `source`."""
        kept = self.source.get("warnings")
        told = [warning for warning in kept if isinstance(warning, str)] if isinstance(kept, list) else []
        return [warning[:MAX_WARNING_CHARACTERS] for warning in told[:MAX_WARNINGS]]

    @property
    def warnings(self) -> list[str]:
        """What nobody who serves the bundle should overlook."""
        return [*self.source_warnings, *(self.variant.warnings if self.variant else ())]


@dataclass(frozen=True)
class Bundle:
    """A bundle whose every file has been checked."""

    path: Path
    manifest: Manifest

    @classmethod
    def load(cls, path: Path, on_read: Callable[[], None] = lambda: None) -> Bundle:
        """Read and verify the bundle in `path`; `on_read` is called for each piece of a file that has been read.

        Raises BundleError naming the file that is missing, truncated, altered or not understood.
        """
        manifest = read_manifest(path)
        on_read()
        missing = [name for name in REQUIRED if name not in manifest.files]
        if missing:
            raise BundleError(f"{path / MANIFEST} does not list {', '.join(missing)}: export the bundle again")
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
            tokenizer: TextTokenizer = (
                SentenceTokenizer.parse(content, text)
                if text.kind == "siglip"
                else Tokenizer.parse(content, text.context_length)
            )
        except (TokenizerError, UnicodeDecodeError) as error:
            raise BundleError(f"{self.path / TOKENIZER}: {error}") from error
        surplus = tokenizer.vocab_size - text.vocab_size
        # SigLIP's embedding may have rows that no token has, never the other way round.
        if surplus > 0 or (surplus and text.kind != "siglip"):
            raise BundleError(
                f"{self.path / TOKENIZER} has {tokenizer.vocab_size} tokens, the text tower {text.vocab_size}: "
                "the two come from different models"
            )
        return tokenizer


def bundled() -> Path:
    """Folder of the checkpoint that ships with the package."""
    return Path(__file__).parent / "bundled" / "sightword-small"


def bundled_digest() -> str | None:
    """Digest of that checkpoint, by its manifest alone; None where this installation has none."""
    try:
        return Bundle(bundled(), read_manifest(bundled())).digest
    except BundleError:
        return None


def seal(path: Path, manifest: Mapping[str, Any]) -> Bundle:
    """Hash the files in `path` into `manifest`, write bundle.json, and load the result.

    The manifest is written last and renamed into place, so that a folder without one is never a bundle.
    """
    files = {name: _record(path / name) for name in REQUIRED}
    checked = Manifest.model_validate({**manifest, "files": files})
    with write_atomically(path / MANIFEST) as draft:
        draft.write_text(checked.model_dump_json(indent=2) + "\n", "utf-8")
    return Bundle.load(path)


def read_manifest(path: Path) -> Manifest:
    """The manifest of the bundle in `path`, whose other files are not looked at. Raises BundleError."""
    file = path / MANIFEST
    try:
        content, _ = read_regular_file(file, MAX_MANIFEST_BYTES)
        text = content.decode()
    except (FileNotFoundError, NotADirectoryError):
        near = "" if path.exists() else did_you_mean_path(path)
        raise BundleError(f"{file} is missing: {path} is not a bundle{near}") from None
    except OSError as error:
        raise BundleError(f"{file} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise BundleError(f"{file} cannot be read: {error}") from error
    if len(content) > MAX_MANIFEST_BYTES:
        raise BundleError(f"{file} is over the limit of {MAX_MANIFEST_BYTES} bytes: it is no manifest")
    try:
        return Manifest.model_validate_json(text, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the whole file"
        raise BundleError(f"{file} is not a valid manifest: {where}: {first['msg']}") from error


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
    while size > 0 and (piece := stream.read(min(size, PIECE_BYTES))):
        digest.update(piece)
        size -= len(piece)
        on_read()
    return digest.hexdigest()
