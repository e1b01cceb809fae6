"""The files of a variant in each precision: weights.safetensors, and graphs that point into it."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import onnx
from safetensors import safe_open
from safetensors.numpy import save_file as save_arrays

from model import smoke_inputs
from model.bundle import Bundle
from model.checkpoints.networks import load_network
from model.checkpoints.weights import read_weights
from model.export.external_data import link_weights, take_out_weights, unlink_weights
from model.export.graphs import write_graphs
from model.export.tensors import write_tensors
from model.library_config import LibraryConfig
from model.manifest import IMAGE_GRAPH, MIXTURE_GRAPH, TEXT_GRAPH, WEIGHTS, FileName
from model.variant_report import LOW_COSINE, Precision
from model.variants.dynamic_quantization import quantize_graph
from model.variants.float16_graphs import to_float16
from model.variants.float16_range import check_closeness, check_range
from model.variants.fusion import fuse
from model.variants.graph_fusion import fuse_attention
from model.variants.half_precision import check_activations, to_bfloat16, to_half
from model.variants.options import VariantError
from model.variants.static_quantization import MIXED, mean_cosine, quantization_of, quantize_convolutions

Pixels = npt.NDArray[np.uint8]
Computes = Literal["float32", "float16", "int8"]
# Of each graph that a bundle may have, what it is given at a run; all else is weights.
INPUTS: dict[FileName, int] = {IMAGE_GRAPH: 1, TEXT_GRAPH: 1, MIXTURE_GRAPH: 2}


class Stored(NamedTuple):
    """What the manifest says of a variant's graphs and weights."""

    precision: Precision
    weights_dtype: Literal["float32", "float16", "bfloat16", "int8"]
    computes: Computes
    kept: Mapping[str, tuple[str, ...]] = {}  # by graph, what stays in float32 beside what always does
    static: bool = False  # the image tower's activations have ranges that were measured beforehand


def write_fused(source: Bundle, folder: Path) -> Stored:
    """Graphs with fused operators, on the weights as they are."""
    shutil.copyfile(source.path / WEIGHTS, folder / WEIGHTS)
    if isinstance(source.manifest.config, LibraryConfig):
        protos = {file: _load_unlinked(source.path / file) for file in _graphs_of(source)}
        for proto in protos.values():
            fuse_attention(proto)
        _link(protos, folder)
        return Stored("fp32", source.manifest.weights_dtype, "float32")
    network = load_network(source)
    fuse(network)
    write_graphs(network, source.preprocessing, folder)
    return Stored("fp32", source.manifest.weights_dtype, "float32")


def write_fp16(source: Bundle, folder: Path, graphs: Path, pixels: Pixels) -> Stored:
    """Graphs that compute in fp16. `pixels` are tried first: raises VariantError if something leaves its range."""
    if isinstance(source.manifest.config, LibraryConfig):
        return _write_fp16_graphs(source, folder, graphs, pixels)
    fused = graphs != source.path
    network = load_network(source)
    to_half(network)
    if network.mixture is not None:
        network.mixture.float()
    tokenizer = source.tokenizer()
    check_activations(
        network, source.preprocessing, pixels, tokenizer.pad(smoke_inputs.token_rows(tokenizer)[-len(pixels) :])
    )
    if fused:
        fuse(network)
    write_tensors(network.state_dict(), folder / WEIGHTS)
    write_graphs(network, source.preprocessing, folder)
    return Stored("fp16", "float16", "float16", {IMAGE_GRAPH: _mixture_kept(source)})


def _write_fp16_graphs(source: Bundle, folder: Path, graphs: Path, pixels: Pixels) -> Stored:
    """The graphs in the folder `graphs` with other types: of a library's network there are no others."""
    tokenizer = source.tokenizer()
    rows = smoke_inputs.token_rows(tokenizer)[-len(pixels) :]
    items: dict[str, npt.NDArray[Any]] = {IMAGE_GRAPH: pixels, TEXT_GRAPH: tokenizer.pad(rows)}
    protos: dict[FileName, onnx.ModelProto] = {}
    tensors: dict[str, npt.NDArray[Any]] = {}
    kept: dict[str, tuple[str, ...]] = {}
    with safe_open(source.path / WEIGHTS, "np") as weights:
        for file in (IMAGE_GRAPH, TEXT_GRAPH):
            protos[file] = _load_unlinked(graphs / file)
            made = to_float16(protos[file], weights.get_tensor)
            check_range(source.path / file, made, items[file])
            tensors |= made.tensors
            kept[file] = made.wide
    _save(tensors, folder)
    _link(protos, folder)
    for file in (IMAGE_GRAPH, TEXT_GRAPH):
        check_closeness(source.path / file, folder / file, items[file])
    return Stored("fp16", "float16", "float16", kept)


def write_bf16(source: Bundle, folder: Path, graphs: Path) -> Stored:
    """The graphs in the folder `graphs` on matrices that are stored in bfloat16 and computed with in fp32.

    No kernel of onnxruntime's CPU provider computes in bfloat16: the weights are widened when the graphs are opened.
    """
    write_tensors(to_bfloat16(read_weights(source.path / WEIGHTS)), folder / WEIGHTS)
    _link({file: _load_unlinked(graphs / file) for file in _graphs_of(source)}, folder)
    return Stored("bf16", "bfloat16", "float32")


def write_int8(source: Bundle, folder: Path, graphs: Path, range_pixels: Pixels | None, pixels: Pixels) -> Stored:
    """The graphs in the folder `graphs` on int8 matrices.

    With `range_pixels`, on which the ranges of activations are measured, the image tower is in int8 throughout.

    A tower with depthwise convolutions is tried on `pixels`: where it loses too much, convolutions stay as they are.
    """
    protos: dict[FileName, onnx.ModelProto] = {}
    tensors: dict[str, npt.NDArray[Any]] = {}
    kept: dict[str, tuple[str, ...]] = {}
    static = None if range_pixels is None else _quantize_image_graph(graphs / IMAGE_GRAPH, range_pixels, pixels)
    with safe_open(source.path / WEIGHTS, "np") as weights:
        for file in (IMAGE_GRAPH, TEXT_GRAPH):
            if file == IMAGE_GRAPH and static is not None:
                protos[file], kept[file] = static
                tensors |= take_out_weights(protos[file], "image.")
            else:
                protos[file] = _load_unlinked(graphs / file)
                tensors |= quantize_graph(protos[file], weights.get_tensor)
                kept[file] = ("convolutions",) * any(node.op_type == "Conv" for node in protos[file].graph.node)
        if source.mixture is not None:
            mixture = protos[MIXTURE_GRAPH] = _load_unlinked(graphs / MIXTURE_GRAPH)
            tensors |= {
                value.name: weights.get_tensor(value.name) for value in mixture.graph.input[INPUTS[MIXTURE_GRAPH] :]
            }
    kept[IMAGE_GRAPH] += _mixture_kept(source)
    _save(tensors, folder)
    _link(protos, folder)
    return Stored("int8", "int8", "int8", kept, static=static is not None)


def _quantize_image_graph(
    graph: Path, range_pixels: Pixels, pixels: Pixels
) -> tuple[onnx.ModelProto, tuple[str, ...]] | None:
    """The graph in int8 and what stays in float32 of it; None where it loses too much."""
    quantization = quantization_of(onnx.load(graph, load_external_data=False))
    quantized = quantize_convolutions(graph, range_pixels, quantization)
    if quantization is MIXED and not mean_cosine(graph, quantized, pixels) >= LOW_COSINE:
        return None
    return quantized, quantization.kept


def _graphs_of(source: Bundle) -> list[FileName]:
    return [file for file in INPUTS if file in source.manifest.files]


def _mixture_kept(source: Bundle) -> tuple[str, ...]:
    """What a report says of pictures that are mixed for each text: that is little work, and stays in float32."""
    return ("what mixes it for each text",) if source.mixture else ()


def _save(tensors: Mapping[str, npt.NDArray[Any]], folder: Path) -> None:
    save_arrays({name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}, folder / WEIGHTS)
    (folder / WEIGHTS).chmod(0o644)


def _load_unlinked(graph: Path) -> onnx.ModelProto:
    proto = onnx.load(graph, load_external_data=False)
    unlink_weights(proto)
    return proto


def _link(protos: Mapping[FileName, onnx.ModelProto], folder: Path) -> None:
    for file, proto in protos.items():
        link_weights(proto, folder / WEIGHTS)
        if surplus := proto.graph.input[INPUTS[file] :]:
            raise VariantError(f"{file} wants {surplus[0].name}, which {WEIGHTS} does not hold")
        onnx.save(proto, folder / file)
        onnx.checker.check_model(str(folder / file))
