"""What the inputs and outputs of an exported graph are: by their names where those are known, else by their shapes."""

from __future__ import annotations

from onnx import TensorProto

from model.checkpoints.checkpoint import CheckpointError, naming
from model.checkpoints.onnx_exports.graph_file import GraphFile, nodes_of
from model.checkpoints.onnx_exports.towers import Tower, needed_inputs

_FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16)
_WHOLE = (TensorProto.INT32, TensorProto.INT64)
_MASKS = (*_WHOLE, *_FLOATS, TensorProto.BOOL)
_IDS, _MASK, _TYPES = ("input_ids", "text", "token_ids"), "attention_mask", "token_type_ids"
_IMAGE_OUTPUTS = ("image_embeds", "image_embeddings", "image_features", "embedding", "embeddings")
_TEXT_OUTPUTS = ("text_embeds", "text_embeddings", "text_features", "embedding", "embeddings")
_POOLED = ("sentence_embedding", "pooler_output")
_MAX_SIDE, _MAX_LENGTH = 4096, 32_768


def image_tower(graph: GraphFile) -> Tower:
    """The image tower of a graph. Raises CheckpointError where its inputs and outputs are none."""
    with naming(graph.file):
        pictures = [name for name, value in graph.inputs.items() if value.dims is not None and len(value.dims) == 4]
        if len(pictures) != 1:
            raise CheckpointError(f"one input of four dimensions was expected, for pictures: it has {_listed(graph)}")
        [name] = pictures
        value = graph.inputs[name]
        if value.dtype not in _FLOATS:
            raise CheckpointError(f"its input {name} takes {_type(value.dtype)}, not normalised pixels in floats")
        _, channels, height, width = value.dims or ()
        if channels not in (3, None) or height != width or (height or 1) > _MAX_SIDE:
            raise CheckpointError(f"its input {name} takes {list(value.dims or ())}, not [batch, 3, size, size]")
        output = _output(graph, _IMAGE_OUTPUTS)
        _expect_only(graph, output, {name})
        return Tower(graph, output, name)


def text_tower(graph: GraphFile) -> Tower:
    """The text tower of a graph. Raises CheckpointError where its inputs and outputs are none."""
    with naming(graph.file):
        output = _output(graph, _TEXT_OUTPUTS)
        needed = needed_inputs(graph, output)
        others = [name for name in graph.inputs if name in needed and name not in (_MASK, _TYPES)]
        ids = next((name for name in _IDS if name in others), others[0] if len(others) == 1 else None)
        if ids is None:
            raise CheckpointError(f"none of its inputs is known to take token ids: it has {_listed(graph)}")
        value = graph.inputs[ids]
        if value.dtype not in _WHOLE or value.dims is None or len(value.dims) != 2:
            raise CheckpointError(f"its input {ids} takes {_type(value.dtype)} {value.dims}, not ids [batch, length]")
        if (value.dims[1] or 1) > _MAX_LENGTH:
            raise CheckpointError(f"its input {ids} takes {value.dims[1]} tokens, more than {_MAX_LENGTH}")
        _expect_only(graph, output, {ids, _MASK, _TYPES})
        for name in needed - {ids}:
            if graph.inputs[name].dtype not in _MASKS:
                raise CheckpointError(f"its input {name} takes {_type(graph.inputs[name].dtype)}")
        mask, types = (name if name in needed else None for name in (_MASK, _TYPES))
        return Tower(graph, output, ids, mask, types)


def fixed_batch(tower: Tower) -> int | None:
    """How many rows a graph takes, and no other number; None where it takes any."""
    return (tower.graph.inputs[tower.values].dims or (None,))[0]


def expect_known_batch(tower: Tower) -> None:
    """Raise CheckpointError for a graph that takes several rows and neither less nor more."""
    rows = fixed_batch(tower)
    if rows not in (None, 1):
        raise CheckpointError(
            f"{tower.graph.file}: it takes batches of {rows} only: export it for batches of any size, or of one"
        )


def embedding_rows(tower: Tower) -> int | None:
    """Tokens that the embedding of a text tower has rows for; None where it is not found."""
    graph = tower.graph.proto.graph
    rows = {tensor.name: tensor.dims[0] for tensor in graph.initializer if len(tensor.dims) == 2}
    names = {tower.values}
    for node in nodes_of(graph):
        if node.op_type in ("Cast", "Identity") and names.intersection(node.input):
            names |= set(node.output)
        elif node.op_type == "Gather" and len(node.input) > 1 and node.input[1] in names and node.input[0] in rows:
            return int(rows[node.input[0]])
        elif node.op_type in ("DequantizeLinear", "Identity") and node.input[0] in rows:
            rows[node.output[0]] = rows[node.input[0]]
    return None


def _output(graph: GraphFile, known: tuple[str, ...]) -> str:
    for name in (*known, *_POOLED):
        if name in graph.outputs and graph.outputs[name].dtype in _FLOATS:
            return name
    flat = [name for name, value in graph.outputs.items() if value.dims is None or len(value.dims) == 2]
    if len(flat) != 1 or graph.outputs[flat[0]].dtype not in _FLOATS:
        raise CheckpointError(f"none of its outputs, {', '.join(graph.outputs)[:200]}, is known to be an embedding")
    return flat[0]


def _expect_only(graph: GraphFile, output: str, known: set[str]) -> None:
    further = sorted(needed_inputs(graph, output) - known)
    if further:
        raise CheckpointError(
            f"its output {output} also depends on {', '.join(further)[:200]}, which nothing here fills"
        )


def _listed(graph: GraphFile) -> str:
    return ", ".join(f"{name} {list(value.dims or ())}" for name, value in graph.inputs.items())[:300] or "none"


def _type(dtype: int) -> str:
    return str(TensorProto.DataType.Name(dtype)) if dtype in TensorProto.DataType.values() else str(dtype)
