"""A bundle -> a variant of it: written, compared with its source, and described in a manifest."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
from pydantic import ValidationError

from model.bundle import Bundle, write_manifest
from model.checkpoints.folders import new_folder
from model.checkpoints.networks import refuse_variant
from model.manifest import IMAGE_GRAPH, TEXT_GRAPH, TOKENIZER, Manifest
from model.runtime.processor import processor_name, usable_cores
from model.variant_report import PHOTOGRAPH_CROPS, TowerReport, VariantReport
from model.variants.comparison import Closeness, compare, largest_difference
from model.variants.fusion import fused_operators
from model.variants.inputs import LABELS, photograph_crops, read_images, token_rows
from model.variants.options import VariantError, VariantOptions
from model.variants.precisions import Stored, write_bf16, write_fp16, write_fused, write_int8
from model.variants.row_by_row import refuse_row_by_row
from model.variants.static_quantization import is_convolutional

FUSION_TOLERANCE = 1e-4  # largest difference of any component of a vector
FP16_ITEMS = 4  # images and texts that are run in fp16 before it is trusted
INT8_ITEMS = 16  # images on which int8 convolutions are tried
FUSION_ITEMS = 8  # images and texts on which fused graphs must be exact
Log = Callable[[str], None]
Pixels = npt.NDArray[np.uint8]


def make_variant(
    source: Bundle, to: Path, options: VariantOptions, log: Log, fusion_tolerance: float = FUSION_TOLERANCE
) -> Bundle:
    """Write a variant of `source` into the folder `to`, with a report that compares it; `log` gets each step's name.

    Raises VariantError where it cannot be made or fused graphs are not exact, CheckpointError where `source` is a
    variant itself or `to` is not empty; `to` is then as it was.
    """
    refuse_variant(source)
    if not options.suffix:
        raise VariantError("that is what the bundle is already: ask for another --precision, for --fused, or for both")
    refuse_row_by_row(source, options)
    with new_folder(to) as draft:
        _write(source, draft, options, _base_manifest(source, options), log, fusion_tolerance)
    return Bundle.load(to)


def _write(
    source: Bundle,
    draft: Path,
    options: VariantOptions,
    manifest: dict[str, Any],
    log: Log,
    fusion_tolerance: float,
) -> None:
    pixels, unreadable = (
        (photograph_crops(source.preprocessing), 0)
        if options.pictures is None
        else read_images(options.pictures, source.preprocessing)
    )
    range_pixels = None
    if options.precision == "int8" and is_convolutional(onnx.load(source.path / IMAGE_GRAPH, load_external_data=False)):
        range_pixels, pixels = pixels[::2], pixels[1::2]  # nothing is measured on what it was fitted to
    shutil.copyfile(source.path / TOKENIZER, draft / TOKENIZER)
    stored = _write_graphs(source, draft, options, manifest, pixels, range_pixels, log, fusion_tolerance)
    manifest |= {"precision": stored.precision, "weights_dtype": stored.weights_dtype}
    log(f"comparing {len(pixels)} pictures and the texts with {source.id}")
    comparison = compare(source, write_manifest(draft, manifest), pixels)
    report = VariantReport(
        made_from=source.digest,
        made_from_id=source.id,
        precision=options.precision,
        fused=options.fused,
        image=_tower_report(
            stored,
            comparison.image,
            draft / IMAGE_GRAPH,
            len(range_pixels) if range_pixels is not None and stored.static else 0,
        ),
        text=_tower_report(stored, comparison.text, draft / TEXT_GRAPH),
        pictures=PHOTOGRAPH_CROPS if options.pictures is None else "pictures of one's own",
        unreadable_pictures=unreadable,
        labels=len(LABELS),
        top1_agreement=comparison.top1_agreement,
        onnxruntime=ort.__version__,
        provider=comparison.provider,
        machine=processor_name(),
        threads=usable_cores(),
        created=manifest["created"],
    )
    write_manifest(draft, {**manifest, "variant": report})


def _write_graphs(
    source: Bundle,
    draft: Path,
    options: VariantOptions,
    manifest: dict[str, Any],
    pixels: Pixels,
    range_pixels: Pixels | None,
    log: Log,
    fusion_tolerance: float,
) -> Stored:
    """Write the weights and graphs of the options' precision, fused or not."""
    graphs = source.path
    if options.fused:
        log("writing fused graphs and checking that they are exact")
        graphs, fused = draft, _write_fused(source, draft, manifest, pixels[:FUSION_ITEMS], fusion_tolerance)
        if options.precision == "fp32":
            return fused
    log(f"writing weights and graphs in {options.precision}")
    if options.precision == "fp16":
        return write_fp16(source, draft, graphs, pixels[:FP16_ITEMS])
    if options.precision == "bf16":
        return write_bf16(source, draft, graphs)
    return write_int8(source, draft, graphs, range_pixels, pixels[:INT8_ITEMS])


def _base_manifest(source: Bundle, options: VariantOptions) -> dict[str, Any]:
    """The source's manifest under the variant's name, without files and without scores, which are the source's."""
    manifest = source.manifest.model_dump(mode="json", exclude={"scores"})
    manifest |= {
        "id": options.name or source.id + options.suffix,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    try:
        Manifest.model_validate(manifest)
    except ValidationError as error:
        raise VariantError(f"{manifest['id']!r} cannot be an id: {error.errors()[0]['msg']}") from error
    del manifest["files"]
    return manifest


def _write_fused(source: Bundle, draft: Path, manifest: dict[str, Any], pixels: Pixels, tolerance: float) -> Stored:
    """Write fused graphs on the weights as they are: whatever precision follows, fusing must change nothing."""
    stored = write_fused(source, draft)
    rows = token_rows(source.tokenizer())
    picked = rows[:: len(rows) // FUSION_ITEMS]
    try:
        difference = largest_difference(source, write_manifest(draft, manifest), pixels, picked)
    except Exception as error:  # onnxruntime raises a dozen unrelated classes
        raise VariantError(f"fused graphs do not run: make the variant without --fused; {error}") from error
    if not difference <= tolerance:  # written so that NaN fails too
        raise VariantError(
            f"fused graphs differ by {difference:.2e}, more than {tolerance:.0e}: make the variant without --fused"
        )
    return stored


def _tower_report(stored: Stored, closeness: Closeness, graph: Path, range_images: int = 0) -> TowerReport:
    return TowerReport(
        computes=stored.computes,
        kept=stored.kept.get(graph.name, ()),
        calibration_pictures=range_images,
        fused=fused_operators(onnx.load(graph, load_external_data=False)),
        compared=len(closeness.cosines),
        min_cosine=float(closeness.cosines.min()),
        mean_cosine=float(closeness.cosines.mean()),
        batch=closeness.batch,
        alone_min_cosine=float(closeness.alone.min()),
        speed_ratio=closeness.speed_ratio,
    )
