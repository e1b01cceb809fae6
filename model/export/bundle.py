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

from model.bundle import Bundle
from model.config import Preprocessing
from model.export.comparison import (
    TOLERANCE,
    ExportError,
    comparison_inputs,
    engine_pairs,
    mixture_pairs,
    report,
    write_measured,
)
from model.export.graphs import ImageGraph, MixtureGraph, TextGraph, graph_state, write_graphs
from model.export.simplified import simplified
from model.export.tensors import write_tensors
from model.manifest import TOKENIZER, WEIGHTS, ExportReport
from model.network import AnyNetwork, LibraryNetwork
from model.network.pretrained_text import frozen_names
from model.runtime.engine import Engine
from model.tokenizers.clip import TextTokenizer

LARGE_PARAMETERS = 50_000_000  # of which fewer inputs are compared
__all__ = ["TOLERANCE", "ExportError", "export_bundle", "measure"]
WeightsDtype = Literal["float32", "float16"]


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
    return write_measured(path, manifest, tolerance, lambda draft: measure(network, draft, tolerance))


@torch.no_grad()
def measure(network: AnyNetwork, bundle: Bundle, tolerance: float = TOLERANCE) -> ExportReport:
    """Compare torch and the engine on the smoke inputs, over batch sizes and text lengths.

    Raises ExportError if a vector, or a cosine of a mixed one, differs by more than `tolerance` or is not finite.
    """
    engine = Engine(bundle, provider="cpu")
    image_graph, text_graph = ImageGraph(network, bundle.preprocessing).eval(), TextGraph(network).eval()
    inputs = comparison_inputs(bundle, sum(tensor.numel() for tensor in network.parameters()) > LARGE_PARAMETERS)
    # Torch, the slower of the two, embeds each picture and each text once.
    images = image_graph(torch.from_numpy(inputs.pixels)).numpy()
    # A library's own code pads every text to the context: that shorter rows give the same is among what is measured.
    length = bundle.context_length if isinstance(network, LibraryNetwork) else 0
    tokenizer, pad_id = bundle.tokenizer(), bundle.manifest.config.text.pad_id
    padded = [_padded(tokenizer.pad([row]), length, pad_id) for row in inputs.rows]
    texts = np.concatenate([text_graph(torch.from_numpy(row)).numpy() for row in padded])
    pairs = engine_pairs(engine, tokenizer, inputs, images, texts)
    mixed = None
    if network.mixture is not None:
        cosines = MixtureGraph(network)(torch.from_numpy(images), torch.from_numpy(texts)).numpy()
        mixed = mixture_pairs(engine, images, texts, cosines)
    return report(inputs, *pairs, tolerance, "the exported graphs differ from the network", mixed)


def _padded(ids: npt.NDArray[np.int64], length: int, pad_id: int) -> npt.NDArray[np.int64]:
    return np.pad(ids, ((0, 0), (0, max(0, length - ids.shape[1]))), constant_values=pad_id)


def _round_to_half(network: AnyNetwork) -> None:
    """Round matrices to values that half precision can hold; vectors (norms, biases) stay as they are."""
    for parameter in network.parameters():
        if parameter.dim() > 1:
            parameter.data = parameter.data.half().float()
    for name in frozen_names(network):
        path, _, last = name.rpartition(".")
        module = network.get_submodule(path)
        frozen: Tensor = getattr(module, last)
        if frozen.dim() > 1:
            setattr(module, last, frozen.half().float())


def _write_weights(state: Mapping[str, Tensor], file: Path, dtype: WeightsDtype) -> None:
    narrow = {name: tensor.half() for name, tensor in state.items() if dtype == "float16" and tensor.dim() > 1}
    write_tensors({**state, **narrow}, file)
