"""Torch network -> bundle: two ONNX graphs over one safetensors file, measured against the network they came from.

The exporter sees the parameters as graph inputs, so it cannot fold them; afterwards each becomes an initialiser that
points at its bytes in weights.safetensors. onnxruntime folds transposes, casts and batch norms when it opens the graph.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from model import probe
from model.bundle import IMAGE_GRAPH, MANIFEST, TEXT_GRAPH, TOKENIZER, WEIGHTS, Bundle, ExportReport, seal
from model.config import Preprocessing
from model.engine import Engine
from model.external import link_weights
from model.network import CLIP
from model.tokenizer import Tokenizer

TOLERANCE = 1e-4
BATCH_SIZES = (1, 2, 3, 4, 5, 8, 13, 16, 32, 33)
OPSET = 18
WeightsDtype = Literal["float32", "float16"]


class ExportError(RuntimeError):
    """The graphs do not compute what the network does."""


class ImageGraph(nn.Module):
    """Normalisation, image tower and L2 norm: pixels [batch, size, size, 3] uint8 -> [batch, embed_dim]."""

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(self, network: CLIP, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("pixel_mean", torch.tensor(preprocessing.mean).view(3, 1, 1), persistent=False)
        self.register_buffer("pixel_std", torch.tensor(preprocessing.std).view(3, 1, 1), persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        """Embed whole pictures."""
        scaled = pixels.permute(0, 3, 1, 2).float() / 255
        return F.normalize(self.network.encode_image((scaled - self.pixel_mean) / self.pixel_std), dim=-1)


class TextGraph(nn.Module):
    """Text tower and L2 norm: token ids [batch, length] int64 -> [batch, embed_dim]."""

    def __init__(self, network: CLIP) -> None:
        super().__init__()
        self.network = network

    def forward(self, token_ids: Tensor) -> Tensor:
        """Embed whole texts."""
        return F.normalize(self.network.encode_text(token_ids), dim=-1)


def export_bundle(
    network: CLIP,
    path: Path,
    *,
    tokenizer: Tokenizer,
    preprocessing: Preprocessing,
    weights_dtype: WeightsDtype = "float32",
    bundle_id: str | None = None,
    source: Mapping[str, Any] | None = None,
) -> Bundle:
    """Write `network` as a bundle into the folder `path` and check that the engine computes what torch does.

    With `weights_dtype="float16"` matrices are rounded to half precision first, in the network too: the file halves,
    computation stays fp32, and both sides are compared on the same rounded values. Raises ExportError, and leaves no
    manifest, if the largest difference of any output exceeds TOLERANCE.
    """
    path.mkdir(parents=True, exist_ok=True)
    network = network.float().eval()
    if weights_dtype == "float16":
        _round_to_half(network)
    _write_weights(network, path / WEIGHTS, weights_dtype)
    tokenizer.save(path / TOKENIZER)
    _write_graphs(network, preprocessing, path)
    manifest = {
        "id": bundle_id or network.config.name,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "config": network.config,
        "preprocessing": preprocessing,
        "logit_scale": float(network.logit_scale.detach().exp()),
        "weights_dtype": weights_dtype,
        "source": dict(source or {}),
    }
    # The engine opens only sealed bundles, so the first seal carries no figures and the second the measured ones.
    unmeasured = ExportReport(
        image_max_abs_diff=0, image_min_cosine=0, text_max_abs_diff=0, text_min_cosine=0,
        pictures=0, texts=0, batch_sizes=(), text_lengths=(0, 0), tolerance=TOLERANCE,
    )  # fmt: skip
    draft = seal(path, {**manifest, "export": unmeasured})
    try:
        return seal(path, {**manifest, "export": measure(network, draft)})
    except BaseException:
        (path / MANIFEST).unlink()  # or what was refused would load, with figures of an export that never was
        raise


@torch.no_grad()
def measure(network: CLIP, bundle: Bundle) -> ExportReport:
    """Compare torch and the engine on the probe's pictures and texts, over batch sizes and text lengths.

    Raises ExportError if a vector differs by more than TOLERANCE or is not finite.
    """
    engine = Engine(bundle, provider="cpu")
    image_graph, text_graph = ImageGraph(network, bundle.preprocessing).eval(), TextGraph(network).eval()
    pixels = probe.pictures(bundle.preprocessing, max(BATCH_SIZES))
    rows = probe.token_rows(bundle.tokenizer())
    pad = bundle.tokenizer().pad
    # One text of each length alone, then batches of many lengths.
    padded = [pad([row]) for row in rows]
    padded += [pad([rows[i * len(rows) // size] for i in range(size)]) for size in BATCH_SIZES]
    parts = [pixels[:size] for size in BATCH_SIZES]
    images = [(image_graph(torch.from_numpy(part)).numpy(), engine.embed_images(part)) for part in parts]
    texts = [(text_graph(torch.from_numpy(ids)).numpy(), engine.embed_texts(ids)) for ids in padded]
    image_diff, image_cosine = _compare(images)
    text_diff, text_cosine = _compare(texts)
    worst = float(np.max([image_diff, text_diff]))
    if not worst <= TOLERANCE:  # written so that NaN fails too
        raise ExportError(f"the exported graphs differ from the network by {worst:.2e}, more than {TOLERANCE:.0e}")
    return ExportReport(
        image_max_abs_diff=image_diff,
        image_min_cosine=image_cosine,
        text_max_abs_diff=text_diff,
        text_min_cosine=text_cosine,
        pictures=len(pixels),
        texts=len(rows),
        batch_sizes=BATCH_SIZES,
        text_lengths=(len(rows[0]), len(rows[-1])),
        tolerance=TOLERANCE,
    )


def _compare(pairs: list[tuple[np.ndarray, np.ndarray]]) -> tuple[float, float]:
    # numpy's max and min keep a NaN, Python's lose it.
    difference = float(np.max([np.abs(a - b).max() for a, b in pairs]))
    cosine = float(np.min([(a * b).sum(axis=1).min() for a, b in pairs]))
    return difference, cosine


def _round_to_half(network: CLIP) -> None:
    """Round matrices to values that half precision can hold; vectors (norms, biases) stay as they are."""
    for parameter in network.parameters():
        if parameter.dim() > 1:
            parameter.data = parameter.data.half().float()


def _write_weights(network: CLIP, file: Path, dtype: WeightsDtype) -> None:
    state = {}
    for name, tensor in network.state_dict().items():
        narrow = dtype == "float16" and tensor.dim() > 1
        state[name] = (tensor.half() if narrow else tensor).contiguous()
    save_file(state, file)
    file.chmod(0o644)  # safetensors writes 0600, which another user's service could not read


def _write_graphs(network: CLIP, preprocessing: Preprocessing, path: Path) -> None:
    batch = torch.export.Dim("batch", min=1, max=65536)
    length = torch.export.Dim("length", min=2, max=network.config.text.context_length)
    size = preprocessing.size
    pixels = torch.zeros(2, size, size, 3, dtype=torch.uint8)
    token_ids = torch.ones(2, 7, dtype=torch.int64)
    graphs: list[tuple[nn.Module, Tensor, str, dict[int, Any], str]] = [
        (ImageGraph(network, preprocessing), pixels, "pixels", {0: batch}, IMAGE_GRAPH),
        (TextGraph(network), token_ids, "token_ids", {0: batch, 1: length}, TEXT_GRAPH),
    ]
    for graph, example, name, dims, file in graphs:
        proto = _export_graph(graph.eval(), example, name, dims)
        link_weights(proto, path / WEIGHTS)
        _strip(proto)
        onnx.save(proto, path / file)
        onnx.checker.check_model(str(path / file))


class _ParametersAsInputs(nn.Module):
    """Calls a graph with its state passed in, which keeps the exporter from folding it into new constants."""

    def __init__(self, graph: nn.Module) -> None:
        super().__init__()
        # Held in a list so that the parameters are not registered a second time as this module's own.
        self._graph = [graph]

    def forward(self, example: Tensor, state: dict[str, Tensor]) -> Tensor:
        output: Tensor = torch.func.functional_call(self._graph[0], state, (example,))
        return output


def _export_graph(graph: nn.Module, example: Tensor, name: str, dims: dict[int, Any]) -> onnx.ModelProto:
    used = _used_state(graph, example)
    prefix = "network."
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quiet, level = logging.getLogger("torch.onnx"), logging.getLogger("torch.onnx").level
        quiet.setLevel(logging.ERROR)
        try:
            program = torch.onnx.export(
                _ParametersAsInputs(graph).eval(),
                (example,),
                kwargs={"state": used},
                input_names=[name, *(key.removeprefix(prefix) for key in used)],
                output_names=["embeddings"],
                dynamic_shapes={"example": dims, "state": dict.fromkeys(used)},
                opset_version=OPSET,
                dynamo=True,
                verbose=False,
            )
        finally:
            quiet.setLevel(level)
    assert program is not None
    proto: onnx.ModelProto = program.model_proto
    return proto


def _strip(proto: onnx.ModelProto) -> None:
    """Drop stack traces and shape notes: they name the exporting machine's files and no runtime reads them."""
    del proto.graph.value_info[:]
    for node in proto.graph.node:
        del node.metadata_props[:]
        node.ClearField("doc_string")


def _used_state(graph: nn.Module, example: Tensor) -> dict[str, Tensor]:
    """The parameters and buffers that this graph's output depends on, by name."""
    towers = ("network.visual.",) if isinstance(graph, ImageGraph) else ()
    state = {**dict(graph.named_parameters()), **dict(graph.named_buffers())}
    used = {}
    for key, value in state.items():
        mine = key.startswith(towers) if towers else not key.startswith("network.visual.")
        if mine and key.startswith("network.") and not key.endswith(("num_batches_tracked", "logit_scale")):
            used[key] = value.detach()
    return used
