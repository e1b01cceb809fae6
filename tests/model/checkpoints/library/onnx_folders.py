"""Folders of ONNX files as immich's exporter, transformers.js' conversion and Qdrant's repositories have them."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import torch
from torch import Tensor, nn
from transformers import SiglipImageProcessorPil, XLMRobertaConfig, XLMRobertaModel

from tests.model.checkpoints.openclip.models import build, vary
from tests.model.checkpoints.transformers import clip_models, siglip_models
from tests.model.trained_tokenizers import unigram

MEAN, STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
PREPROCESS_CFG = {
    "size": [48, 48],
    "mode": "RGB",
    "mean": MEAN,
    "std": STD,
    "interpolation": "bicubic",
    "resize_mode": "shortest",
    "fill_color": 0,
}
CLIP_CFG = vary(text={"context_length": 16, "vocab_size": 1024})


class Calling(nn.Module):
    """A method of a model as a module, with what is wanted of its output."""

    def __init__(self, model: nn.Module, names: Sequence[str] = (), method: str = "__call__", **fixed: Any) -> None:
        super().__init__()
        self.model, self.names, self.method, self.fixed = model, names, method, fixed

    def forward(self, *values: Tensor) -> Any:
        output = getattr(self.model, self.method)(*values, **self.fixed)
        return tuple(output[name] for name in self.names) if self.names else output


class Named(nn.Module):
    """A model of transformers, its arguments by their names."""

    def __init__(self, model: nn.Module, inputs: Sequence[str], outputs: Sequence[str]) -> None:
        super().__init__()
        self.model, self.inputs, self.outputs = model, inputs, outputs

    def forward(self, *values: Tensor) -> Any:
        output = self.model(**dict(zip(self.inputs, values, strict=True)))
        return tuple(output[name] for name in self.outputs)


class MultilingualCLIP(nn.Module):
    """M-CLIP's text tower: the mean of XLM-RoBERTa's tokens, through one layer."""

    def __init__(self, vocab_size: int, dimensions: int) -> None:
        super().__init__()
        sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
        config = XLMRobertaConfig(vocab_size=vocab_size, max_position_embeddings=40, pad_token_id=1, **sizes)
        self.transformer = XLMRobertaModel(config, add_pooling_layer=False)
        self.transformer.set_attn_implementation("eager")
        self.LinearTransformation = nn.Linear(32, dimensions)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        embs = self.transformer(input_ids, attention_mask)[0]
        embs = (embs * attention_mask.unsqueeze(2)).sum(dim=1) / attention_mask.sum(dim=1)[:, None]
        return nn.functional.normalize(self.LinearTransformation(embs), dim=-1)


def export(
    module: nn.Module,
    args: tuple[Tensor, ...],
    file: Path,
    inputs: Sequence[str],
    outputs: Sequence[str],
    opset: int = 17,
    dynamic: dict[str, dict[int, str]] | None = None,
    dynamo: bool = False,
) -> Path:
    """By torch's tracing exporter, which all of them used until torch took the other one by itself."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module.eval(), args, str(file), input_names=list(inputs), output_names=list(outputs),
            opset_version=opset, dynamic_axes=dynamic, dynamo=dynamo, verbose=False,
        )  # fmt: skip
    return file


@contextmanager
def slow_attention() -> Iterator[None]:
    """As immich's exporter sets it."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def immich(open_clip: Any, folder: Path, *, dynamo: bool = False) -> Path:
    """Both towers take one row of a fixed length; ids are int32, vectors are normalised."""
    model = build(open_clip, CLIP_CFG)
    side, length = CLIP_CFG["vision_cfg"]["image_size"], CLIP_CFG["text_cfg"]["context_length"]
    opset, output = (18, "embeddings") if dynamo else (17, "embedding")  # a name that the new one gives to a node
    visual, textual = folder / "visual", folder / "textual"
    with slow_attention():
        images = Calling(model, method="encode_image", normalize=True)
        pixels = torch.randn(1, 3, side, side)
        export(images, (pixels,), visual / "model.onnx", ["image"], [output], opset, dynamo=dynamo)
        ids = torch.ones(1, length, dtype=torch.int32)
        texts = Calling(model, method="encode_text", normalize=True)
        export(texts, (ids,), textual / "model.onnx", ["text"], [output], opset, dynamo=dynamo)
    write(visual / "preprocess_cfg.json", PREPROCESS_CFG)
    write(folder / "config.json", CLIP_CFG)
    clip_models.clip_tokenizer(1024).save_pretrained(textual)
    return folder


def immich_multilingual(open_clip: Any, folder: Path) -> Path:
    """The text tower has a mask; the configuration is that of the image tower's own model."""
    immich(open_clip, folder)
    tokenizer = unigram()
    torch.manual_seed(1)
    model = MultilingualCLIP(tokenizer.get_vocab_size(), CLIP_CFG["embed_dim"])
    ones = torch.ones(1, 16, dtype=torch.int32)
    textual = folder / "textual"
    export(model, (ones, ones), textual / "model.onnx", ["input_ids", "attention_mask"], ["embedding"])
    tokenizer.save(str(textual / "tokenizer.json"))
    write(textual / "tokenizer_config.json", {"pad_token": "<pad>", "model_max_length": 512})
    return folder


def clip_model() -> Any:
    model = clip_models.random_model(clip_models.small_text(), clip_models.small_vision())
    model.set_attn_implementation("eager")
    return model


def transformers_js(folder: Path, *, whole: bool = False) -> Path:
    """Batches of any size, texts of any length, vectors of any length."""
    model = clip_model()
    clip_models.save(model, folder, clip_models.clip_tokenizer(1024))
    (folder / "model.safetensors").unlink()
    processor = json.loads((folder / "processor_config.json").read_text())
    (folder / "processor_config.json").unlink()
    write(folder / "preprocessor_config.json", processor["image_processor"])
    ids, pixels = torch.tensor([[1022, 5, 6, 1023]] * 2), torch.randn(2, 3, 48, 48)
    batch, both = {0: "batch_size"}, {0: "batch_size", 1: "sequence_length"}
    images = Calling(model, ["pooler_output"], "get_image_features")
    texts = Calling(model, ["pooler_output"], "get_text_features")
    place = folder / "onnx"
    export(images, (pixels,), place / "vision_model.onnx", ["pixel_values"], ["image_embeds"], 14,
           {"pixel_values": batch, "image_embeds": batch})  # fmt: skip
    export(texts, (ids,), place / "text_model.onnx", ["input_ids"], ["text_embeds"], 14,
           {"input_ids": both, "text_embeds": batch})  # fmt: skip
    if whole:
        inputs = ["input_ids", "pixel_values", "attention_mask"]
        outputs = ["logits_per_image", "logits_per_text", "text_embeds", "image_embeds"]
        dynamic = {"input_ids": both, "attention_mask": both, "pixel_values": {0: "image_batch_size"}}
        args = ids, pixels, torch.ones_like(ids)
        export(Named(model, inputs, outputs), args, place / "model.onnx", inputs, outputs, 14, dynamic)
    return folder


def qdrant(folder: Path) -> Path:
    """A folder for each tower; the text tower has a mask, and text ends with the token that fills rows up."""
    model = clip_model()
    whole = clip_models.save(model, folder / "whole", clip_models.clip_tokenizer(1024))
    vision, text = folder / "clip-ViT-B-32-vision", folder / "clip-ViT-B-32-text"
    pixels, ids = torch.randn(2, 3, 48, 48), torch.tensor([[1022, 5, 6, 1023]] * 2)
    batch, both = {0: "batch_size"}, {0: "batch_size", 1: "sequence_length"}
    images = Calling(model, ["pooler_output", "last_hidden_state"], "get_image_features")
    export(images, (pixels,), vision / "model.onnx", ["pixel_values"], ["image_embeds", "last_hidden_state"], 14,
           {"pixel_values": batch})  # fmt: skip
    texts = Calling(model, ["pooler_output", "last_hidden_state"], "get_text_features")
    export(texts, (ids, torch.ones_like(ids)), text / "model.onnx", ["input_ids", "attention_mask"],
           ["text_embeds", "last_hidden_state"], 14, {"input_ids": both, "attention_mask": both})  # fmt: skip
    processor = json.loads((whole / "processor_config.json").read_text())
    write(vision / "preprocessor_config.json", processor["image_processor"])
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (whole / name).rename(text / name)
    for file in whole.iterdir():
        file.unlink()
    whole.rmdir()
    settings = json.loads((text / "tokenizer_config.json").read_text())
    write(text / "tokenizer_config.json", settings | {"model_max_length": 40})
    return folder


def siglip(folder: Path, *, whole: bool = False) -> Path:
    """transformers.js' of SigLIP: the pooled output is the vector, and texts are padded to the context length."""
    model = siglip_models.random_model(siglip_models.small_text(), siglip_models.small_vision())
    model.set_attn_implementation("eager")
    model.config.save_pretrained(folder)
    tokenizer = unigram(template="$A </s>")
    tokenizer.save(str(folder / "tokenizer.json"))
    write(folder / "tokenizer_config.json", {"pad_token": "</s>", "model_max_length": 64})
    image_processor = SiglipImageProcessorPil(size={"height": 50, "width": 50})
    image_processor.save_pretrained(folder)
    batch, outputs = {0: "batch_size"}, ["last_hidden_state", "pooler_output"]
    export(Named(model.vision_model, ["pixel_values"], outputs), (torch.randn(2, 3, 50, 50),),
           folder / "onnx" / "vision_model.onnx", ["pixel_values"], outputs, 14, {"pixel_values": batch})  # fmt: skip
    export(Named(model.text_model, ["input_ids"], outputs), (torch.ones(2, 64, dtype=torch.int64),),
           folder / "onnx" / "text_model.onnx", ["input_ids"], outputs, 14,
           {"input_ids": {0: "batch_size", 1: "sequence_length"}})  # fmt: skip
    if whole:
        inputs, names = (
            ["input_ids", "pixel_values"],
            ["logits_per_image", "logits_per_text", "text_embeds", "image_embeds"],
        )
        dynamic = {"input_ids": {0: "text_batch_size", 1: "sequence_length"}, "pixel_values": {0: "image_batch_size"}}
        args = torch.ones(2, 64, dtype=torch.int64), torch.randn(2, 3, 50, 50)
        export(Named(model, inputs, names), args, folder / "onnx" / "model.onnx", inputs, names, 14, dynamic)
    return folder


def write(file: Path, content: Any) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content))


def move_data_out(file: Path, location: str) -> None:
    """Weights beside the graph, as exporters put them there for graphs of over 2 GB."""
    proto = onnx.load(file)
    file.unlink()
    onnx.save(proto, file, save_as_external_data=True, location=location, size_threshold=0)


@dataclass(frozen=True)
class Theirs:
    """Both graphs of a folder run by onnxruntime with what numpy and the tokenizers library make of the inputs."""

    image: Path
    text: Path

    def images(self, pixels: npt.NDArray[np.uint8], mean: Any = MEAN, std: Any = STD) -> npt.NDArray[Any]:
        session = ort.InferenceSession(str(self.image))
        name, output = session.get_inputs()[0].name, _output(session, "image_embeds")
        scaled = pixels.astype(np.float32) / 255.0
        scaled *= 1.0 / np.array(std, np.float32)
        scaled -= np.array(mean, np.float32) / np.array(std, np.float32)
        each = [session.run([output], {name: picture.transpose(2, 0, 1)[None]})[0] for picture in scaled]
        return _unit(np.concatenate(each))

    def texts(self, encodings: Sequence[Any]) -> npt.NDArray[Any]:
        """Of encodings of the tokenizers library, which hold ids and mask."""
        session = ort.InferenceSession(str(self.text))
        inputs = {value.name: np.int32 if "int32" in value.type else np.int64 for value in session.get_inputs()}
        output, vectors = _output(session, "text_embeds"), []
        for encoding in encodings:
            values = {name: encoding.attention_mask if "mask" in name else encoding.ids for name in inputs}
            feeds = {name: np.array([value], inputs[name]) for name, value in values.items()}
            vectors.append(session.run([output], feeds)[0])
        return _unit(np.concatenate(vectors))


def _output(session: Any, known: str) -> str:
    names = [value.name for value in session.get_outputs()]
    return next(name for name in (known, "embedding", "embeddings", "pooler_output") if name in names)


def _unit(vectors: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
