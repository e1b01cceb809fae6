"""Torch network -> bundle: weights, tokenizer and graphs, measured against the network they came from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from model import smoke_inputs
from model.bundle import Bundle, write_manifest
from model.config import Preprocessing
from model.export.graphs import ImageGraph, TextGraph, graph_state, write_graphs
from model.export.simplified import simplified
from model.export.tensors import write_tensors
from model.manifest import MANIFEST, TOKENIZER, WEIGHTS, ExportReport
from model.network import AnyNetwork, LibraryNetwork
from model.runtime.engine import Engine
from model.tokenizers.clip import TextTokenizer

TOLERANCE = 1e-4
BATCH_SIZES = (1, 2, 3, 4, 5, 8, 13, 16, 32, 33)
# Of large networks, which take seconds a picture on a CPU, fewer are compared.
LARGE_PARAMETERS = 50_000_000
LARGE_BATCH_SIZES = (1, 3)
LARGE_TEXT_LENGTHS = 6
WeightsDtype = Literal["float32", "float16"]


class ExportError(RuntimeError):
    """The graphs do not compute what the network does."""


def export_bundle(
    network: AnyNetwork,
    path: Path,
    *,
    tokenizer: TextTokenizer,
    preprocessing: Preprocessing,
    weights_dtype: WeightsDtype = "float32",
    bundle_id: str | None = None,
    source: Mapping[str, Any] | None = None,
    matryoshka_dimensions: Sequence[int] = (),
    tolerance: float = TOLERANCE,
) -> Bundle:
    """Write `network` as a bundle into the folder `path` and check that the engine computes what torch does.

    With `weights_dtype="float16"` matrices are rounded to half precision first, in the network too: the file halves,
    computation stays fp32, and both sides are compared on the same rounded values. Raises ExportError, and leaves no
    manifest, if the largest difference of any output exceeds `tolerance`.
    """
    path.mkdir(parents=True, exist_ok=True)
    network = network.float().eval()
    if weights_dtype == "float16":
        _round_to_half(network)
    exported = simplified(network) if isinstance(network, LibraryNetwork) else network
    state = graph_state(exported, preprocessing) if isinstance(exported, LibraryNetwork) else exported.state_dict()
    _write_weights(state, path / WEIGHTS, weights_dtype)
    tokenizer.save(path / TOKENIZER)
    write_graphs(exported, preprocessing, path)
    del exported, state
    manifest = {
        "id": bundle_id or network.config.name,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "config": network.config,
        "preprocessing": preprocessing,
        "logit_scale": float(network.logit_scale.detach().exp()),
        "logit_bias": None if network.logit_bias is None else float(network.logit_bias.detach()),
        "weights_dtype": weights_dtype,
        "source": dict(source or {}),
        "matryoshka_dimensions": tuple(matryoshka_dimensions),
    }
    # The engine opens only bundles with a manifest: the first one carries no figures, the second the measured ones.
    unmeasured = ExportReport(
        image_max_abs_diff=0, image_min_cosine=0, text_max_abs_diff=0, text_min_cosine=0,
        pictures=0, texts=0, batch_sizes=(), text_lengths=(0, 0), tolerance=tolerance,
    )  # fmt: skip
    draft = write_manifest(path, {**manifest, "export": unmeasured})
    try:
        return write_manifest(path, {**manifest, "export": measure(network, draft, tolerance)})
    except BaseException:
        (path / MANIFEST).unlink()  # or what was refused would load, with figures of an export that never was
        raise


@torch.no_grad()
def measure(network: AnyNetwork, bundle: Bundle, tolerance: float = TOLERANCE) -> ExportReport:
    """Compare torch and the engine on the smoke inputs, over batch sizes and text lengths.

    Raises ExportError if a vector differs by more than `tolerance` or is not finite.
    """
    engine = Engine(bundle, provider="cpu")
    image_graph, text_graph = ImageGraph(network, bundle.preprocessing).eval(), TextGraph(network).eval()
    large = sum(parameter.numel() for parameter in network.parameters()) > LARGE_PARAMETERS
    sizes = LARGE_BATCH_SIZES if large else BATCH_SIZES
    pixels = smoke_inputs.pixels(bundle.preprocessing, max(sizes))
    tokenizer = bundle.tokenizer()
    rows = smoke_inputs.token_rows(tokenizer)
    if large:
        rows = [rows[i * (len(rows) - 1) // (LARGE_TEXT_LENGTHS - 1)] for i in range(LARGE_TEXT_LENGTHS)]
    # Torch, the slower of the two, embeds each picture and each text once.
    image_vectors = image_graph(torch.from_numpy(pixels)).numpy()
    # A library's own code pads every text to the context: that shorter rows give the same is among what is measured.
    length = bundle.context_length if isinstance(network, LibraryNetwork) else 0
    padded = [_padded(tokenizer.pad([row]), length, bundle.manifest.config.text.pad_id) for row in rows]
    text_vectors = np.concatenate([text_graph(torch.from_numpy(row)).numpy() for row in padded])
    images = [(image_vectors[:size], engine.embed_images(pixels[:size])) for size in sizes]
    # One text of each length alone, then batches of many lengths.
    groups = [[i] for i in range(len(rows))] + [[i * len(rows) // size for i in range(size)] for size in sizes]
    texts = [(text_vectors[group], engine.embed_texts(tokenizer.pad([rows[i] for i in group]))) for group in groups]
    image_diff, image_cosine = _compare(images)
    text_diff, text_cosine = _compare(texts)
    worst = float(np.max([image_diff, text_diff]))
    if not worst <= tolerance:  # written so that NaN fails too
        raise ExportError(f"the exported graphs differ from the network by {worst:.2e}, more than {tolerance:.0e}")
    return ExportReport(
        image_max_abs_diff=image_diff,
        image_min_cosine=image_cosine,
        text_max_abs_diff=text_diff,
        text_min_cosine=text_cosine,
        pictures=len(pixels),
        texts=len(rows),
        batch_sizes=sizes,
        text_lengths=(len(rows[0]), len(rows[-1])),
        tolerance=tolerance,
    )


def _padded(ids: npt.NDArray[np.int64], length: int, pad_id: int) -> npt.NDArray[np.int64]:
    return np.pad(ids, ((0, 0), (0, max(0, length - ids.shape[1]))), constant_values=pad_id)


def _compare(pairs: list[tuple[np.ndarray, np.ndarray]]) -> tuple[float, float]:
    # numpy's max and min keep a NaN, Python's lose it.
    difference = float(np.max([np.abs(a - b).max() for a, b in pairs]))
    cosine = float(np.min([(a * b).sum(axis=1).min() for a, b in pairs]))
    return difference, cosine


def _round_to_half(network: AnyNetwork) -> None:
    """Round matrices to values that half precision can hold; vectors (norms, biases) stay as they are."""
    for parameter in network.parameters():
        if parameter.dim() > 1:
            parameter.data = parameter.data.half().float()


def _write_weights(state: Mapping[str, Tensor], file: Path, dtype: WeightsDtype) -> None:
    narrow = {name: tensor.half() for name, tensor in state.items() if dtype == "float16" and tensor.dim() > 1}
    write_tensors({**state, **narrow}, file)
