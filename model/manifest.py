"""bundle.json: what a bundle says of itself, and the names, sizes and hashes of its files."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError

from model.config import MixtureConfig, ModelConfig, ModelName, Preprocessing
from model.files import read_regular_file
from model.library_config import AnyConfig
from model.suggestions import did_you_mean_path
from model.variant_report import Count, VariantReport

MANIFEST = "bundle.json"
IMAGE_GRAPH: Final = "image.onnx"
TEXT_GRAPH: Final = "text.onnx"
TOKENIZER: Final = "tokenizer.json"
WEIGHTS: Final = "weights.safetensors"
MIXTURE_GRAPH: Final = "mixture.onnx"  # of a bundle whose pictures have several vectors, which are mixed for each text

MAX_LOGIT = 1e9  # e to the 20th, the largest scale that an import takes, is half of it; all sums stay finite in float32
MAX_MANIFEST_BYTES = 16 * 2**20
MAX_WARNINGS = 10
MAX_MATRYOSHKA_DIMENSIONS = 64  # lengths that are listed
MAX_WARNING_CHARACTERS = 500

FileName = Literal["image.onnx", "text.onnx", "tokenizer.json", "weights.safetensors", "mixture.onnx"]
REQUIRED: tuple[FileName, ...] = (IMAGE_GRAPH, TEXT_GRAPH, TOKENIZER, WEIGHTS)


class BundleError(ValueError):
    """A bundle that must not be served; the message names the file and what is wrong with it."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class FileRecord(_Frozen):
    """SHA-256 and size that a file must have."""

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    bytes: int = Field(ge=0, le=2**50)


class ExportReport(_Frozen):
    """How close the graphs are to the torch network, measured when they were written."""

    image_max_abs_diff: FiniteFloat
    image_min_cosine: FiniteFloat
    text_max_abs_diff: FiniteFloat
    text_min_cosine: FiniteFloat
    mixture_max_abs_diff: FiniteFloat | None = None  # of cosines, where pictures have vectors to be mixed
    pictures: Count
    texts: Count
    batch_sizes: tuple[Count, ...]
    text_lengths: tuple[Count, Count]
    tolerance: float


class Manifest(_Frozen):
    """The fields of bundle.json."""

    format: Literal[1] = 1
    id: ModelName
    created: str
    config: AnyConfig
    preprocessing: Preprocessing
    logit_scale: float = Field(gt=0, le=MAX_LOGIT)
    logit_bias: float | None = Field(None, ge=-MAX_LOGIT, le=MAX_LOGIT)
    precision: Literal["fp32", "fp16", "bf16", "int8"] = "fp32"
    weights_dtype: Literal["float32", "float16", "bfloat16", "int8"] = "float32"
    files: dict[FileName, FileRecord]
    export: ExportReport
    # Lengths to which vectors were trained to be cut, ascending up to the whole one; none where nothing is known of it.
    matryoshka_dimensions: tuple[Count, ...] = Field((), max_length=MAX_MATRYOSHKA_DIMENSIONS)
    variant: VariantReport | None = None  # of bundles that were made from another; `export` is then that one's
    source: dict[str, Any] = {}
    scores: dict[str, Any] = {}

    @property
    def mixture(self) -> MixtureConfig | None:
        """How many vectors a picture has and how they are mixed for each text; None where it has one."""
        return self.config.mixture if isinstance(self.config, ModelConfig) else None

    @property
    def required_files(self) -> tuple[FileName, ...]:
        """The files that a bundle of this configuration has, and no others."""
        return REQUIRED if self.mixture is None else (*REQUIRED, MIXTURE_GRAPH)

    @property
    def source_warnings(self) -> list[str]:
        """What was doubtful when the model was imported; few and short, as nothing is promised of `source`."""
        kept = self.source.get("warnings")
        texts = [warning for warning in kept if isinstance(warning, str)] if isinstance(kept, list) else []
        return [warning[:MAX_WARNING_CHARACTERS] for warning in texts[:MAX_WARNINGS]]

    @property
    def warnings(self) -> list[str]:
        """What nobody who serves the bundle should overlook."""
        return [*self.source_warnings, *(self.variant.warnings if self.variant else ())]


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
