"""Torch network -> ONNX graphs over one safetensors file: one of each tower, and what mixes for each text.

The exporter sees the parameters as graph inputs, so it cannot fold them; afterwards each becomes an initialiser that
points at its bytes in weights.safetensors. onnxruntime folds transposes, casts and batch norms when it opens the graph.
"""

from __future__ import annotations

import logging
import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from onnxscript import ir
from onnxscript import opset20 as op
from torch import Tensor, nn
from torch.nn import functional as F

from model.config import Preprocessing
from model.export.external_data import link_weights
from model.export.touched import touched_state
from model.library_config import LibraryConfig
from model.manifest import IMAGE_GRAPH, MIXTURE_GRAPH, TEXT_GRAPH, WEIGHTS, FileName
from model.network import AnyNetwork, LibraryNetwork
from model.network.resnet import ModifiedResNet

OPSET = 20  # the first with an operator for GELU, which onnxruntime does not recognise in the nodes that make it up
_MINUS_INFINITY = numpy_helper.from_array(np.array([-np.inf], np.float32))
PREFIX = "network."  # before the names of a network's tensors in a graph's module
IMAGE_TOWER, MIXTURE = f"{PREFIX}visual.", f"{PREFIX}mixture."
NOT_IN_A_GRAPH = ("num_batches_tracked", "logit_scale", "logit_bias")


class ImageGraph(nn.Module):
    """Normalisation, image tower and L2 norm: pixels [batch, size, size, 3] uint8 -> [batch, embed_dim].

    It is [batch, tokens, embed_dim] of a network with a mixture. The tower computes in the precision of its parameters,
    what surrounds it in float32.
    """

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(self, network: AnyNetwork, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.network = network
        tower = network.model if isinstance(network, LibraryNetwork) else network.visual
        self.dtype = next(tower.parameters()).dtype
        self.register_buffer("pixel_mean", torch.tensor(preprocessing.mean).view(3, 1, 1), persistent=False)
        self.register_buffer("pixel_std", torch.tensor(preprocessing.std).view(3, 1, 1), persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        """Embed whole pictures."""
        scaled = (pixels.permute(0, 3, 1, 2).float() / 255 - self.pixel_mean) / self.pixel_std
        return F.normalize(self.network.encode_image(scaled.to(self.dtype)).float(), dim=-1)


class PatchGraph(ImageGraph):
    """The same vectors, for towers whose patches do not overlap: one product in place of normalisation and convolution.

    Both are linear, so they are folded into the matrix, when the graph is opened; it multiplies the pixels as they are.
    """

    def forward(self, pixels: Tensor) -> Tensor:
        """Embed whole pictures."""
        assert not isinstance(self.network, LibraryNetwork)
        visual = self.network.visual
        assert not isinstance(visual, ModifiedResNet)
        kernel = visual.conv1.weight  # [width, 3, patch, patch]
        side = kernel.shape[-1]
        grid = pixels.shape[1] // side
        whole = pixels[:, : grid * side, : grid * side]
        patches = whole.reshape(-1, grid, side, grid, 3 * side).transpose(2, 3).reshape(-1, grid**2, 3 * side**2)
        matrix = (kernel / (255 * self.pixel_std)).permute(2, 3, 1, 0).flatten(0, 2)
        black = -(kernel * (self.pixel_mean / self.pixel_std)).sum(dim=(1, 2, 3))
        bias = black if visual.conv1.bias is None else black + visual.conv1.bias
        return F.normalize(visual.encode_patches(patches.float() @ matrix + bias), dim=-1)


class TextGraph(nn.Module):
    """Text tower and L2 norm: token ids [batch, length] int64 -> [batch, embed_dim]."""

    def __init__(self, network: AnyNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, token_ids: Tensor) -> Tensor:
        """Embed whole texts."""
        return F.normalize(self.network.encode_text(token_ids).float(), dim=-1)


class MixtureGraph(nn.Module):
    """What of images and texts is compared: [images, tokens, dim] and [texts, dim] -> cosines [images, texts].

    In float32 whatever the towers compute in: of what is kept, nothing is lost, and it is little beside them.
    """

    def __init__(self, network: AnyNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor, texts: Tensor) -> Tensor:
        """Mix each image for each text, and compare."""
        assert self.network.mixture is not None
        cosines: Tensor = self.network.mixture(images, texts)
        return cosines


def write_graphs(network: AnyNetwork, preprocessing: Preprocessing, path: Path) -> None:
    """Write the graphs into the folder `path`, pointing into the weights.safetensors that is there.

    Those of the towers compute in the precision of their parameters; tensors stored in another one pass through a Cast.
    """
    text = network.config.text
    batch = torch.export.Dim("batch", min=1, max=65536)
    text_dims = {0: batch}
    if not text.fixed_length:
        text_dims[1] = torch.export.Dim("length", min=2, max=text.context_length)
    pixels, token_ids = example_inputs(network, preprocessing)
    graphs: list[tuple[nn.Module, Tensor, str, dict[int, Any], FileName]] = [
        (_image_graph(network, preprocessing), pixels, "pixels", {0: batch}, IMAGE_GRAPH),
        (TextGraph(network), token_ids, "token_ids", text_dims, TEXT_GRAPH),
    ]
    for graph, example, name, dims, file in graphs:
        _save(export_graph(graph.eval(), example, name, dims), path, file)
    if network.mixture is not None:
        _save(_export_mixture(MixtureGraph(network).eval()), path, MIXTURE_GRAPH)


def _save(proto: onnx.ModelProto, path: Path, file: FileName) -> None:
    link_weights(proto, path / WEIGHTS)
    _strip_metadata(proto)
    onnx.save(proto, path / file)
    onnx.checker.check_model(str(path / file))


def example_inputs(network: AnyNetwork, preprocessing: Preprocessing) -> tuple[Tensor, Tensor]:
    """What the graphs are traced with: pixels [2, size, size, 3] and token ids [2, length], none of them padding."""
    text = network.config.text
    pixels = torch.zeros(2, preprocessing.size, preprocessing.size, 3, dtype=torch.uint8)
    token = 2 if text.pad_id == 1 and isinstance(network.config, LibraryConfig) else 1
    return pixels, torch.full((2, text.context_length if text.fixed_length else 7), token, dtype=torch.int64)


def graph_state(network: LibraryNetwork, preprocessing: Preprocessing) -> dict[str, Tensor]:
    """The tensors that either graph reads, by the names that they have there."""
    pixels, token_ids = example_inputs(network, preprocessing)
    graphs = (ImageGraph(network, preprocessing), pixels), (TextGraph(network), token_ids)
    used = [used_state(graph.eval(), example) for graph, example in graphs]
    return {name.removeprefix(PREFIX): tensor for state in used for name, tensor in state.items()}


def _image_graph(network: AnyNetwork, preprocessing: Preprocessing) -> ImageGraph:
    if isinstance(network, LibraryNetwork):
        return ImageGraph(network, preprocessing)
    # Half precision cannot hold the matrix that multiplies 0 .. 255.
    whole = network.visual.conv1.weight.dtype == torch.float32
    patches = whole and not isinstance(network.visual, ModifiedResNet)
    return (PatchGraph if patches else ImageGraph)(network, preprocessing)


class _ParametersAsInputs(nn.Module):
    """Calls a graph with its state passed in, which keeps the exporter from folding it into new constants."""

    def __init__(self, graph: nn.Module) -> None:
        super().__init__()
        # Held in a list so that the parameters are not registered a second time as this module's own.
        self._graph = [graph]

    def forward(self, examples: tuple[Tensor, ...], state: dict[str, Tensor]) -> Tensor:
        output: Tensor = torch.func.functional_call(self._graph[0], state, examples)
        return output


def export_graph(graph: nn.Module, example: Tensor, name: str, dims: dict[int, Any]) -> onnx.ModelProto:
    """Trace a graph, whose one input has that name and dynamic dimensions, with its weights as further inputs."""
    return _trace(graph, used_state(graph, example), {name: (example, dims)}, "embeddings")


def _export_mixture(graph: MixtureGraph) -> onnx.ModelProto:
    mixture = graph.network.mixture
    assert mixture is not None
    dim, tokens = len(mixture.query), mixture.tokens
    used = {f"{MIXTURE}{name}": tensor.detach() for name, tensor in mixture.named_parameters()}
    count = {name: torch.export.Dim(name, min=1, max=2**24) for name in ("images", "texts")}
    examples = {
        "images": (torch.ones(2, tokens, dim), {0: count["images"]}),
        "texts": (torch.ones(3, dim), {0: count["texts"]}),
    }
    return _trace(graph, used, examples, "cosines")


def _trace(
    graph: nn.Module, used: dict[str, Tensor], examples: dict[str, tuple[Tensor, dict[int, Any]]], output: str
) -> onnx.ModelProto:
    """Of inputs by name, an example each and its dynamic dimensions; `used` are the weights."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quiet, level = logging.getLogger("torch.onnx"), logging.getLogger("torch.onnx").level
        quiet.setLevel(logging.ERROR)
        try:
            program = torch.onnx.export(
                _ParametersAsInputs(graph).eval(),
                (tuple(example for example, _ in examples.values()),),
                kwargs={"state": used},
                input_names=[*examples, *(key.removeprefix(PREFIX) for key in used)],
                output_names=[output],
                dynamic_shapes={
                    "examples": tuple(dims for _, dims in examples.values()),
                    "state": dict.fromkeys(used),
                },
                opset_version=OPSET,
                custom_translation_table={torch.ops.aten.scaled_dot_product_attention.default: _attention},
                dynamo=True,
                verbose=False,
            )
        finally:
            quiet.setLevel(level)
    assert program is not None
    proto: onnx.ModelProto = program.model_proto
    return proto


def _attention(
    query: Any,
    key: Any,
    value: Any,
    mask: Any = None,
    dropout: float = 0.0,
    causal: bool = False,
    scale: float | None = None,
    grouped: bool = False,
) -> Any:
    """Attention in the fewest nodes; the exporter's own has a dozen for shapes in each layer and copies keys twice.

    The parameters are those of the torch operator, of which no network that we know sets the last.
    """
    assert not any((dropout, grouped))
    rank = len(query.shape)
    factor = query.shape[-1] ** -0.5 if scale is None else scale
    scaled = op.Mul(query, op.CastLike(op.Constant(value_float=factor), query))  # type: ignore[type-var]
    scores = op.MatMul(scaled, op.Transpose(key, perm=[*range(rank - 2), rank - 1, rank - 2]))
    if mask is not None and mask.dtype != ir.DataType.BOOL:
        scores = op.Add(scores, mask)
    elif mask is not None:
        # The same two nodes in every layer, of which onnxruntime keeps one pair.
        seen, hidden = (op.CastLike(op.Constant(value_float=value), query) for value in (0.0, -math.inf))  # type: ignore[type-var]
        scores = op.Add(scores, op.Where(mask, seen, hidden))
    elif causal:
        length = op.Shape(query, start=-2, end=-1)
        square = op.Concat(length, length, axis=0)
        hidden = op.CastLike(op.ConstantOfShape(square, value=_MINUS_INFINITY), query)  # type: ignore[type-var]
        scores = op.Add(scores, op.Trilu(hidden, op.Constant(value_int=1), upper=1))  # type: ignore[arg-type]
    return op.MatMul(op.Softmax(scores, axis=-1), value)


def _strip_metadata(proto: onnx.ModelProto) -> None:
    """Drop stack traces and shape notes: they name the exporting machine's files and no runtime reads them."""
    del proto.graph.value_info[:]
    for node in proto.graph.node:
        del node.metadata_props[:]
        node.ClearField("doc_string")


def used_state(graph: nn.Module, example: Tensor) -> dict[str, Tensor]:
    """The parameters and buffers that this graph's output depends on, by name."""
    if isinstance(graph.network, LibraryNetwork):
        return {name: tensor for name, tensor in touched_state(graph, example).items() if name.startswith(PREFIX)}
    pictures = isinstance(graph, ImageGraph)
    state = {**dict(graph.named_parameters()), **dict(graph.named_buffers())}
    saved = graph.state_dict()  # what is computed, such as positions, becomes a constant of the graph
    used = {}
    for key, value in state.items():
        mine = key.startswith(IMAGE_TOWER) if pictures else not key.startswith((IMAGE_TOWER, MIXTURE))
        if mine and key in saved and key.startswith(PREFIX) and not key.endswith(NOT_IN_A_GRAPH):
            used[key] = value.detach()
    return used
