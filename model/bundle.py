"""The bundle: one folder that passes from training to serving, every file of it named and hashed in bundle.json.

`weights.safetensors` holds the parameters once; the two ONNX graphs point into it as external data, so the same file
is served and trained further. Nothing in a bundle is executed or unpickled.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError

from model.config import ModelConfig, ModelName, Preprocessing
from model.sentence_tokenizer import SentenceTokenizer
from model.suggestions import did_you_mean_path
from model.tokenizer import TextTokenizer, Tokenizer, TokenizerError
from model.variant import VariantReport

MANIFEST = "bundle.json"
IMAGE_GRAPH: Final = "image.onnx"
TEXT_GRAPH: Final = "text.onnx"
TOKENIZER: Final = "tokenizer.json"
WEIGHTS: Final = "weights.safetensors"
REQUIRED = (IMAGE_GRAPH, TEXT_GRAPH, TOKENIZER, WEIGHTS)

MAX_WARNINGS = 10
MAX_WARNING_CHARACTERS = 500

FileName = Literal["image.onnx", "text.onnx", "tokenizer.json", "weights.safetensors"]


class BundleError(ValueError):
    """A bundle that must not be served; the message names the file and what is wrong with it."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class FileRecord(_Frozen):
    """What a file must be."""

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    bytes: int = Field(ge=0)


class ExportReport(_Frozen):
    """How close the graphs are to the torch network, measured when they were written."""

    image_max_abs_diff: FiniteFloat
    image_min_cosine: FiniteFloat
    text_max_abs_diff: FiniteFloat
    text_min_cosine: FiniteFloat
    pictures: int
    texts: int
    batch_sizes: tuple[int, ...]
    text_lengths: tuple[int, int]
    tolerance: float


class Manifest(_Frozen):
    """bundle.json."""

    format: Literal[1] = 1
    id: ModelName
    created: str
    config: ModelConfig
    preprocessing: Preprocessing
    logit_scale: float = Field(gt=0, allow_inf_nan=False)
    logit_bias: float | None = None
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
    def load(cls, path: Path) -> Bundle:
        """Read and verify the bundle in `path`.

        Raises BundleError naming the file that is missing, truncated, altered or not understood.
        """
        manifest = _read_manifest(path)
        missing = [name for name in REQUIRED if name not in manifest.files]
        if missing:
            raise BundleError(f"{path / MANIFEST} does not list {', '.join(missing)}: export the bundle again")
        for name, record in manifest.files.items():
            _verify(path / name, record)
        return cls(path, manifest)

    def read(self, name: FileName) -> bytes:
        """The content of a file, checked again: it may have been replaced since it was first looked at."""
        content = (self.path / name).read_bytes()
        if hashlib.sha256(content).hexdigest() != self.manifest.files[name].sha256:
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
        return Bundle(bundled(), _read_manifest(bundled())).digest
    except BundleError:
        return None


def seal(path: Path, manifest: Mapping[str, Any]) -> Bundle:
    """Hash the files in `path` into `manifest`, write bundle.json, and load the result.

    The manifest is written last and renamed into place, so that a folder without one is never a bundle.
    """
    files = {name: _record(path / name) for name in REQUIRED}
    checked = Manifest.model_validate({**manifest, "files": files})
    draft = path / f"{MANIFEST}.partial"
    draft.write_text(checked.model_dump_json(indent=2) + "\n", "utf-8")
    draft.replace(path / MANIFEST)
    return Bundle.load(path)


def _read_manifest(path: Path) -> Manifest:
    file = path / MANIFEST
    try:
        text = file.read_text("utf-8")
    except FileNotFoundError:
        near = "" if path.exists() else did_you_mean_path(path)
        raise BundleError(f"{file} is missing: {path} is not a bundle{near}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise BundleError(f"{file} cannot be read: {error}") from error
    try:
        return Manifest.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the whole file"
        raise BundleError(f"{file} is not a valid manifest: {where}: {first['msg']}") from error


def _record(file: Path) -> FileRecord:
    with file.open("rb") as stream:
        return FileRecord(sha256=hashlib.file_digest(stream, "sha256").hexdigest(), bytes=file.stat().st_size)


def _verify(file: Path, expected: FileRecord) -> None:
    if not file.is_file():
        raise BundleError(f"{file} is missing")
    try:
        found = _record(file)
    except OSError as error:
        raise BundleError(f"{file} cannot be read: {error}") from error
    if found.bytes != expected.bytes:
        raise BundleError(
            f"{file} has {found.bytes} bytes instead of {expected.bytes}: it is truncated or was replaced"
        )
    if found.sha256 != expected.sha256:
        raise BundleError(f"{file} was altered: its SHA-256 is not the one in {MANIFEST}")
