"""A folder with the ONNX graphs of a dual encoder -> its towers, tokenizer, preprocessing and logit scale."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from model import smoke_inputs
from model.checkpoints import pixels
from model.checkpoints.checkpoint import CheckpointError, Options, naming
from model.checkpoints.folders import model_name, read_object
from model.checkpoints.onnx_exports import tokenizer as tokenizers
from model.checkpoints.onnx_exports.graph_file import read_graph
from model.checkpoints.onnx_exports.layouts import PREPROCESS_CFG, Layout
from model.checkpoints.onnx_exports.logit_scale import Scale, choose_scale, is_sigmoid, measure_scale
from model.checkpoints.onnx_exports.original import Original, image_feeds, text_feeds
from model.checkpoints.onnx_exports.signature import embedding_rows, expect_known_batch, image_tower, text_tower
from model.checkpoints.onnx_exports.tokenizer import ExportTokenizer, read_export_tokenizer
from model.checkpoints.onnx_exports.towers import Tower
from model.config import Preprocessing

_UNIT = 1e-4  # how far from 1 the length of a normalised vector may be; half precision has 5e-4
_SAMPLES = 3
CLIP_CONTEXT = 77


@dataclass
class OnnxCheckpoint:
    """Two graphs, each beside the file that it came from in a session of its own, and what else makes a bundle."""

    name: str
    image: Tower
    text: Tower
    original_image: Original
    original_text: Original
    preprocessing: Preprocessing
    tokenizer: ExportTokenizer
    scale: Scale
    source: dict[str, Any]
    warnings: list[str]


@dataclass(frozen=True)
class _Samples:
    """A few pictures [size, size, 3] and rows of ids, the shortest and the longest among them."""

    preprocessing: Preprocessing
    pictures: npt.NDArray[np.uint8]
    rows: list[list[int]]
    pad_id: int
    length: int

    @classmethod
    def of(cls, preprocessing: Preprocessing, tokenizer: ExportTokenizer) -> _Samples:
        rows = smoke_inputs.token_rows(tokenizer.tokenizer)
        picked = [rows[i * (len(rows) - 1) // (_SAMPLES - 1)] for i in range(_SAMPLES)]
        pictures = smoke_inputs.pixels(preprocessing, _SAMPLES)
        return cls(preprocessing, pictures, picked, tokenizer.text.pad_id, tokenizer.compared_length)

    def images(self, tower: Tower) -> list[dict[str, Any]]:
        return [image_feeds(tower, self.preprocessing, picture) for picture in self.pictures]

    def texts(self, tower: Tower) -> list[dict[str, Any]]:
        return [text_feeds(tower, row, self.pad_id, self.length) for row in self.rows]


def read_folder(folder: Path, layout: Layout, options: Options) -> OnnxCheckpoint:
    """The export that `find_layout` found. Raises CheckpointError naming the file that is not as it must be."""
    if options.activation is not None or options.architecture is not None:
        raise CheckpointError(f"{folder}: an exported graph is what it is: leave out --activation and --architecture")
    if options.logit_bias is not None and options.logit_scale is None:
        raise CheckpointError("--logit-bias is of use beside --logit-scale only")
    config = read_object(layout.config) if layout.config.is_file() else {}
    warnings = list(layout.warnings)
    image, text = _towers(layout, folder)
    preprocessing, pixels_from = _preprocessing(layout, image, config, options, warnings)
    tokenizer = _tokenizer(layout, text, config)
    samples = _Samples.of(preprocessing, tokenizer)
    images, texts = samples.images(image), samples.texts(text)
    same = layout.image == layout.text
    original_image = Original.open(image.graph, texts[0] if same else None)
    original_text = Original.open(text.graph, images[0] if same else None)
    image, text = _run(original_image, image, images), _run(original_text, text, texts)
    _expect_one_space(image, text, config)
    name = model_name(folder)
    known_as = [str(config.get("_name_or_path") or ""), name, layout.image.parent.name]
    scale = choose_scale(options, config, known_as, _measured(layout, folder, samples, config, warnings))
    source = {
        "format": layout.kind,
        "image_graph": str(layout.image.relative_to(folder)),
        "text_graph": str(layout.text.relative_to(folder)),
        "tokenizer_from": tokenizer.source,
        "preprocessing_from": pixels_from,
        "logit_scale_from": scale.source,
        **({"passed_over": ", ".join(layout.passed_over)} if layout.passed_over else {}),
    }
    return OnnxCheckpoint(
        name, image, text, original_image, original_text, preprocessing, tokenizer, scale, source,
        [*warnings, *scale.warnings],
    )  # fmt: skip


def _towers(layout: Layout, folder: Path) -> tuple[Tower, Tower]:
    try:
        towers = image_tower(read_graph(layout.image, folder)), text_tower(read_graph(layout.text, folder))
    except CheckpointError as error:
        if layout.image != layout.text:
            raise
        raise CheckpointError(
            f"{error}. Where it is one tower of two, put its folder, named ...-vision or ...-text, beside the other's "
            "into one folder, and name that"
        ) from error
    for tower in towers:
        expect_known_batch(tower)
    return towers


def _preprocessing(
    layout: Layout, image: Tower, config: Mapping[str, Any], options: Options, warnings: list[str]
) -> tuple[Preprocessing, str]:
    file = layout.preprocessing
    settings = read_object(file) if file.is_file() else None
    dims = image.graph.inputs[image.values].dims or ()
    with naming(file):
        side = dims[2] or _side(settings or {}, config)
        if side is None:
            raise CheckpointError("it says nothing of the size of pictures, and the graph takes any")
        if options.image_size not in (None, side):
            raise CheckpointError(f"--image-size {options.image_size}: an exported graph keeps its {side} pixels")
        if settings is None:
            warnings.append(f"{file.name} is missing: pictures are prepared as for {_whose(file, config)}")
        if file.name == PREPROCESS_CFG:
            return pixels.from_openclip(settings or {}, side, options), file.name
        family = str(config.get("model_type") or "clip")
        return pixels.from_transformers(settings, side, options, family), file.name


def _side(settings: Mapping[str, Any], config: Mapping[str, Any]) -> int | None:
    """The side of the pictures that a tower for any size is given."""
    vision = config.get("vision_config") or config.get("vision_cfg")
    sizes = [
        settings.get("crop_size"),
        settings.get("size"),
        (vision if isinstance(vision, dict) else {}).get("image_size"),
    ]
    for size in sizes:
        value = size
        if isinstance(size, dict):
            value = size.get("height", size.get("shortest_edge"))
        elif isinstance(size, list) and size:
            value = size[0]
        if type(value) is int and value > 0:
            return value
    return None


def _whose(file: Path, config: Mapping[str, Any]) -> str:
    sigmoid = file.name != PREPROCESS_CFG and is_sigmoid(config)
    return "the published SigLIP models" if sigmoid else "OpenAI's CLIP"


def _tokenizer(layout: Layout, text: Tower, config: Mapping[str, Any]) -> ExportTokenizer:
    cfg = config.get("text_cfg") or config.get("text_config") or {}
    cfg = cfg if isinstance(cfg, Mapping) else {}
    fixed = (text.graph.inputs[text.values].dims or (None, None))[1]
    said = [
        cfg.get("context_length"),
        cfg.get("max_position_embeddings"),
        tokenizers.longest(tokenizers.settings_of(layout.tokenizer)),
    ]
    known = [number for number in said if type(number) is int and number > 0]
    with naming(layout.config):
        # open_clip's configurations name a length only where it is not CLIP's.
        context = fixed or (min(known) if known else CLIP_CONTEXT if "text_cfg" in config else None)
        if context is None:
            raise CheckpointError("nothing says how many tokens a text may have, and the graph takes any number")
        clean = tokenizers.cleaning(cfg) if "text_cfg" in config else "none"
    return read_export_tokenizer(
        layout.tokenizer, context, embedding_rows(text), clean, fixed is not None, config.get("pad_token_id")
    )


def _run(original: Original, tower: Tower, feeds: list[dict[str, Any]]) -> Tower:
    """The tower with what its vectors are like. Raises CheckpointError where they are none."""
    with naming(tower.graph.file):
        vectors = [original.run(tower.output, feed) for feed in feeds]
        if any(vector.ndim != 2 or len(vector) != 1 or vector.shape != vectors[0].shape for vector in vectors):
            raise CheckpointError(f"its output {tower.output} is {list(vectors[0].shape)} of one row, not one vector")
        floats = np.concatenate(vectors).astype(np.float64)
        if not np.isfinite(floats).all():
            raise CheckpointError(f"its output {tower.output} holds values that are not finite")
        unit = bool(np.abs(np.linalg.norm(floats, axis=1) - 1).max() <= _UNIT)
    return replace(tower, dimensions=floats.shape[1], unit_length=unit)


def _expect_one_space(image: Tower, text: Tower, config: Mapping[str, Any]) -> None:
    if image.dimensions != text.dimensions:
        raise CheckpointError(
            f"{image.graph.file} gives {image.dimensions} dimensions ({image.output}), {text.graph.file} "
            f"{text.dimensions} ({text.output}): they are of different models, or exported without their projections"
        )
    said = config.get("projection_dim", config.get("embed_dim"))
    if type(said) is int and said != image.dimensions and not is_sigmoid(config):
        raise CheckpointError(
            f"{image.graph.file} gives {image.dimensions} dimensions ({image.output}), and the configuration says "
            f"{said}: it was exported without its projection"
        )


def _measured(
    layout: Layout, folder: Path, samples: _Samples, config: Mapping[str, Any], warnings: list[str]
) -> Scale | None:
    if layout.whole is None:
        return None
    try:
        graph = read_graph(layout.whole, folder)
        image, text = image_tower(graph), text_tower(graph)
        pairs = [{**picture, **row} for picture in samples.images(image) for row in samples.texts(text)]
        return measure_scale(Original.open(graph), image.output, text.output, pairs, is_sigmoid(config))
    except CheckpointError as error:
        warnings.append(f"no logit scale could be measured: {error}")
        return None
