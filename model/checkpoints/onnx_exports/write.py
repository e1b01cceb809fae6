"""An export -> a bundle: its graphs between our inputs and outputs, measured against the files as they were."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
from onnx import ModelProto, helper, numpy_helper
from safetensors import SafetensorError
from safetensors.numpy import save_file

from model import smoke_inputs
from model.checkpoints.checkpoint import CheckpointError
from model.checkpoints.onnx_exports.folder import OnnxCheckpoint
from model.checkpoints.onnx_exports.measure import measure
from model.checkpoints.onnx_exports.signature import fixed_batch
from model.checkpoints.onnx_exports.towers import (
    EMBEDDINGS,
    PIXELS,
    TOKEN_IDS,
    Prefix,
    Tower,
    cut_out,
    image_graph,
    one_at_a_time,
    text_graph,
)
from model.export.bundle import LARGE_PARAMETERS
from model.export.comparison import TOLERANCE, ExportError, write_measured
from model.export.external_data import link_weights, take_out_weights
from model.library_config import LibraryConfig, LibraryImageConfig, LibraryTextConfig
from model.manifest import IMAGE_GRAPH, TEXT_GRAPH, TOKENIZER, WEIGHTS
from model.runtime.processor import usable_cores
from model.runtime.session import session_options

HALF_TOLERANCE = 1e-3  # of graphs in half precision, whose pixels may round to the neighbouring number
SAME = 1e-5  # of any component: what the order of sums makes of the same vector is below
_ROWS = 3
_Array = npt.NDArray[Any]


def write_bundle(
    checkpoint: OnnxCheckpoint,
    path: Path,
    *,
    bundle_id: str | None,
    origin: Mapping[str, Any],
    matryoshka_dimensions: Sequence[int],
) -> None:
    """Write the bundle into the folder `path`. What is doubtful joins the warnings of the checkpoint.

    Raises ExportError where it does not compute what the files do, CheckpointError where it cannot be written.
    """
    path.mkdir(parents=True, exist_ok=True)
    image, weights = _take_weights(checkpoint.image, "visual.")
    text, further = _take_weights(checkpoint.text, "textual.")
    weights |= further
    precision = _precision(weights)
    parameters = sum(array.size for array in weights.values())
    try:
        save_file(weights, path / WEIGHTS)
    except SafetensorError as error:
        raise OSError(str(error)) from error
    (path / WEIGHTS).chmod(0o644)
    del weights, further
    checkpoint.warnings += _write_image(checkpoint, image, path)
    text_config, warnings = _write_text(checkpoint, text, path)
    checkpoint.warnings += warnings
    checkpoint.tokenizer.tokenizer.save(path / TOKENIZER)
    config = LibraryConfig(
        name=checkpoint.name,
        library="onnx",
        architecture=checkpoint.name,
        embed_dim=checkpoint.image.dimensions,
        image=LibraryImageConfig(image_size=checkpoint.preprocessing.size),
        text=text_config,
    )
    manifest = {
        "id": bundle_id or checkpoint.name,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "config": config,
        "preprocessing": checkpoint.preprocessing,
        "logit_scale": checkpoint.scale.scale,
        "logit_bias": checkpoint.scale.bias,
        "precision": precision,
        "weights_dtype": {"fp32": "float32", "fp16": "float16", "int8": "int8"}[precision],
        "source": {**checkpoint.source, **origin, "warnings": checkpoint.warnings},
        "matryoshka_dimensions": tuple(matryoshka_dimensions),
    }
    tolerance, large = HALF_TOLERANCE if precision == "fp16" else TOLERANCE, parameters > LARGE_PARAMETERS
    write_measured(path, manifest, tolerance, lambda draft: measure(checkpoint, draft, large, tolerance))


def _take_weights(tower: Tower, prefix: Prefix) -> tuple[ModelProto, dict[str, _Array]]:
    """The graph of a tower, and its large tensors, which have become inputs of it, to be linked."""
    external = {prefix + name: array for name, array in tower.graph.external.items()}
    proto = cut_out(tower, prefix)
    tensors = proto.graph.initializer
    mapped = {tensor.name: external[tensor.name] for tensor in tensors if tensor.name in external}
    for index in reversed(range(len(tensors))):
        tensor = tensors[index]
        if tensor.name in mapped:
            proto.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
            del tensors[index]
        elif not tensor.HasField("raw_data"):
            try:
                tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor), tensor.name))
            except Exception as error:  # whatever a malformed tensor makes of it
                raise CheckpointError(f"tensor {tensor.name!r:.100} is malformed: {error}") from error
    try:
        weights = take_out_weights(proto, "")
    except ValueError as error:  # of numpy: bytes that do not fill the dimensions
        raise CheckpointError(f"{tower.graph.file}: a tensor is malformed: {error}") from error
    # The protobuf library gives no memory back while anything of a message lives.
    small = ModelProto()
    small.CopyFrom(proto)
    tower.graph.proto, tower.graph.external = small, {}
    return small, mapped | weights


def _precision(weights: Mapping[str, _Array]) -> str:
    kinds = {array.dtype.name for array in weights.values()}
    if kinds & {"int8", "uint8"}:
        return "int8"
    return "fp16" if "float16" in kinds else "fp32"


def _write_image(checkpoint: OnnxCheckpoint, inner: ModelProto, path: Path) -> list[str]:
    whole = image_graph(inner, checkpoint.image, checkpoint.preprocessing)
    pixels = smoke_inputs.pixels(checkpoint.preprocessing, _ROWS)
    return _write(whole, path / IMAGE_GRAPH, checkpoint.image, PIXELS, pixels, "pictures")


def _write_text(checkpoint: OnnxCheckpoint, inner: ModelProto, path: Path) -> tuple[LibraryTextConfig, list[str]]:
    """Write the text graph: its configuration, with whether rows must be padded to the context, and warnings."""
    tower, tokenizer, config = checkpoint.text, checkpoint.tokenizer, checkpoint.tokenizer.text
    rows = smoke_inputs.token_rows(tokenizer.tokenizer)
    picked = [rows[i * (len(rows) - 1) // (_ROWS - 1)] for i in range(_ROWS)]

    def graph(length: int | None) -> ModelProto:
        return text_graph(inner, tower, config.pad_id, tokenizer.ends_with_pad, length)

    def padded(length: int) -> _Array:
        return np.array([[*ids, *[config.pad_id] * (length - len(ids))] for ids in picked], np.int64)

    fixed = config.fixed_length
    if not fixed:
        _save(graph(None), path / TEXT_GRAPH)
        session = _open(path / TEXT_GRAPH)
        whole = [_run(session, TOKEN_IDS, row[None]) for row in padded(tokenizer.compared_length)]
        trimmed = [_run(session, TOKEN_IDS, np.array([ids])) for ids in picked]
        fixed = not _same(trimmed, whole)
    length = config.context_length if fixed else None
    rows_of_ids = padded(length or tokenizer.compared_length)
    warnings = _write(graph(length), path / TEXT_GRAPH, tower, TOKEN_IDS, rows_of_ids, "texts")
    return config.model_copy(update={"fixed_length": fixed}), warnings


def _write(whole: ModelProto, file: Path, tower: Tower, name: str, rows: _Array, what: str) -> list[str]:
    """Write a graph, which may have to run each row by itself; that is a warning."""
    reason = f"takes {what} one at a time" if fixed_batch(tower) == 1 else ""
    if not reason:
        _save(whole, file)
        session = _open(file)
        together = _run(session, name, rows)
        alone = [_run(session, name, row[None]) for row in rows]
        if not _same([None] * len(rows) if together is None else [*together[:, None]], alone):
            reason = f"gives other vectors for {what} in a batch"
    if not reason:
        return []
    _save(one_at_a_time(whole), file)
    return [
        f"{tower.graph.file.parent.name}/{tower.graph.file.name} {reason}: they are computed one after the other. The "
        "checkpoint that it was exported from has no such limit"
    ]


def _save(whole: ModelProto, file: Path) -> None:
    proto = ModelProto()
    proto.CopyFrom(whole)
    link_weights(proto, file.parent / WEIGHTS)
    try:
        content = proto.SerializeToString()
    except Exception as error:  # of the protobuf library, for what is over 2 GiB
        raise CheckpointError(f"the graph without its weights cannot be written: {error}") from error
    file.write_bytes(content)
    try:
        onnx.checker.check_model(str(file))
    except onnx.checker.ValidationError as error:
        raise CheckpointError(f"the exported graph is malformed: {str(error)[:300]}") from error


def _open(file: Path) -> Any:
    options, providers = session_options(usable_cores()), ["CPUExecutionProvider"]
    try:
        return ort.InferenceSession(str(file.resolve()), options, providers, enable_fallback=0)
    except Exception as error:  # onnxruntime raises a dozen unrelated classes
        raise ExportError(f"{file.name} does not open: {error}") from error


def _run(session: Any, name: str, rows: _Array) -> _Array | None:
    """None where the graph does not take these."""
    try:
        vectors: _Array = session.run([EMBEDDINGS], {name: rows})[0]
    except Exception:  # onnxruntime raises a dozen unrelated classes
        return None
    return vectors


def _same(some: Sequence[_Array | None], others: Sequence[_Array | None]) -> bool:
    for a, b in zip(some, others, strict=True):
        if a is None or b is None or a.shape != b.shape or not np.abs(a - b).max() <= SAME:
            return False
    return True
