"""A bundle -> a variant of it: written, measured against it, sealed."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
from pydantic import ValidationError

from model.bundle import IMAGE_GRAPH, TEXT_GRAPH, TOKENIZER, Bundle, Manifest, seal
from model.checkpoints.folders import new_folder
from model.checkpoints.restoring import refuse_variant
from model.runtime.engine import usable_cores
from model.runtime.processor import processor_name
from model.variant import PROBE_CROPS, Precision, TowerReport, VariantReport
from model.variants import measuring
from model.variants.errors import VariantError
from model.variants.fusing import fused_operators
from model.variants.labels import NOUNS
from model.variants.pictures import probe_crops, read_folder
from model.variants.writing import Stored, write_bf16, write_fp16, write_fused, write_int8

EXACT = 1e-4
CHECKED = 4  # pictures and texts that are run in fp16 before it is trusted
COMPARED = 8  # pictures and texts on which fused graphs must be exact
Say = Callable[[str], None]
Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Wanted:
    """What the user asked for."""

    precision: Precision
    fused: bool = False
    pictures: Path | None = None  # a folder to measure on; the probe's photographs if None
    name: str | None = None

    @property
    def suffix(self) -> str:
        """What the names of such variants end with."""
        precision = "" if self.precision == "fp32" else f"-{self.precision}"
        return f"{precision}-fused" if self.fused else precision


def make_variant(source: Bundle, to: Path, wanted: Wanted, say: Say) -> Bundle:
    """Write a variant of `source` into the folder `to`, with a report on it beside its source; `say` hears progress.

    Raises VariantError where it cannot be made or fused graphs are not exact, CheckpointError where `source` is a
    variant itself or `to` is not empty; `to` is then as it was.
    """
    refuse_variant(source)
    if not wanted.suffix:
        raise VariantError("that is what the bundle is already: ask for another --precision, for --fused, or for both")
    with new_folder(to) as draft:
        _write(source, draft, wanted, _unmeasured(source, wanted), say)
    return Bundle.load(to)


def _write(source: Bundle, draft: Path, wanted: Wanted, manifest: dict[str, Any], say: Say) -> None:
    pixels, unreadable = (
        (probe_crops(source.preprocessing), 0)
        if wanted.pictures is None
        else read_folder(wanted.pictures, source.preprocessing)
    )
    calibration = None
    if wanted.precision == "int8" and source.manifest.config.image.kind == "resnet":
        calibration, pixels = pixels[::2], pixels[1::2]  # nothing is measured on what it was fitted to
    shutil.copyfile(source.path / TOKENIZER, draft / TOKENIZER)
    stored = _store(source, draft, wanted, manifest, pixels, calibration, say)
    manifest |= {"precision": stored.precision, "weights_dtype": stored.weights_dtype}
    say(f"comparing {len(pixels)} pictures and the texts with {source.id}")
    comparison = measuring.compare(source, seal(draft, manifest), pixels)
    report = VariantReport(
        made_from=source.digest,
        made_from_id=source.id,
        precision=wanted.precision,
        fused=wanted.fused,
        image=_tower(stored, comparison.image, draft / IMAGE_GRAPH, 0 if calibration is None else len(calibration)),
        text=_tower(stored, comparison.text, draft / TEXT_GRAPH),
        pictures=PROBE_CROPS if wanted.pictures is None else "pictures of one's own",
        unreadable_pictures=unreadable,
        labels=len(NOUNS),
        top1_agreement=comparison.top1_agreement,
        onnxruntime=ort.__version__,
        provider=comparison.provider,
        machine=processor_name(),
        threads=usable_cores(),
        created=manifest["created"],
    )
    seal(draft, {**manifest, "variant": report})


def _store(
    source: Bundle,
    draft: Path,
    wanted: Wanted,
    manifest: dict[str, Any],
    pixels: Pixels,
    calibration: Pixels | None,
    say: Say,
) -> Stored:
    """Write the weights and graphs that were asked for."""
    graphs = source.path
    if wanted.fused:
        say("writing fused graphs and checking that they are exact")
        graphs, exact = draft, _write_exact(source, draft, manifest, pixels[:COMPARED])
        if wanted.precision == "fp32":
            return exact
    say(f"writing weights and graphs in {wanted.precision}")
    if wanted.precision == "fp16":
        return write_fp16(source, draft, pixels[:CHECKED], fused=wanted.fused)
    if wanted.precision == "bf16":
        return write_bf16(source, draft, graphs)
    return write_int8(source, draft, graphs, calibration)


def _unmeasured(source: Bundle, wanted: Wanted) -> dict[str, Any]:
    """The source's manifest under the variant's name, without files and without scores, which are the source's."""
    manifest = source.manifest.model_dump(mode="json", exclude={"scores"})
    manifest |= {
        "id": wanted.name or source.id + wanted.suffix,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    try:
        Manifest.model_validate(manifest)
    except ValidationError as error:
        raise VariantError(f"{manifest['id']!r} cannot be an id: {error.errors()[0]['msg']}") from error
    del manifest["files"]
    return manifest


def _write_exact(source: Bundle, draft: Path, manifest: dict[str, Any], pixels: Pixels) -> Stored:
    """Write fused graphs on the weights as they are: whatever precision follows, fusing must change nothing."""
    stored = write_fused(source, draft)
    rows = measuring.token_rows(source.tokenizer())
    picked = rows[:: len(rows) // COMPARED]
    difference = measuring.largest_difference(source, seal(draft, manifest), pixels, picked)
    if not difference <= EXACT:  # written so that NaN fails too
        raise VariantError(
            f"fused graphs differ by {difference:.2e}, more than {EXACT:.0e}: make the variant without --fused"
        )
    return stored


def _tower(stored: Stored, closeness: measuring.Closeness, graph: Path, calibration_pictures: int = 0) -> TowerReport:
    return TowerReport(
        computes=stored.computes,
        calibration_pictures=calibration_pictures,
        fused=fused_operators(onnx.load(graph, load_external_data=False)),
        compared=len(closeness.cosines),
        min_cosine=float(closeness.cosines.min()),
        mean_cosine=float(closeness.cosines.mean()),
        batch=closeness.batch,
        alone_min_cosine=float(closeness.alone.min()),
        speed_ratio=closeness.speed_ratio,
    )
