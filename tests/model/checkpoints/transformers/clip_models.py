"""CLIPModels of random weights as transformers itself builds and saves them, and what they answer."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file
from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPProcessor, CLIPTokenizer

from model.bundle import Bundle
from model.config import OPENAI_MEAN, OPENAI_STD
from model.network import CLIP
from model.runtime.engine import Engine
from model.tokenizers.clip import Tokenizer

PASSAGE = 8 * "A photo of the big red dog, isn't it? There are 12 cats & 3 birds in London's old streets!  "
TEXTS = [PASSAGE[:length] for length in (0, 1, 2, 7, 13, 20, 33, 48, 71, 92, 130, 180, 700)]
Answers = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], npt.NDArray[np.float32]]


def random_model(text: dict[str, Any], vision: dict[str, Any], projection_dim: int = 24) -> CLIPModel:
    """A model in which nothing is left at a value that hides a mistake."""
    torch.manual_seed(0)
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=projection_dim)).eval()
    for name, parameter in model.named_parameters():
        if "norm" in name or "layrnorm" in name or name.endswith("bias"):
            parameter.data += 0.2 * torch.randn_like(parameter)
        elif ".layers." in name:
            parameter.data *= 3
    model.logit_scale.data.fill_(3.3)
    return model


def small_text(**fields: Any) -> dict[str, Any]:
    """A text tower of 1,024 tokens."""
    sizes = {"hidden_size": 32, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2}
    ends = {"vocab_size": 1024, "bos_token_id": 1022, "eos_token_id": 1023}
    return {**sizes, **ends, "max_position_embeddings": 40, **fields}


def small_vision(**fields: Any) -> dict[str, Any]:
    """An image tower for pictures of 48 pixels."""
    sizes = {"hidden_size": 48, "intermediate_size": 192, "num_hidden_layers": 2, "num_attention_heads": 3}
    return {**sizes, "image_size": 48, "patch_size": 16, **fields}


def clip_tokenizer(vocab_size: int) -> CLIPTokenizer:
    """Transformers' own tokenizer on CLIP's vocabulary, or the beginning of it."""
    model = json.loads(Tokenizer.clip(vocab_size).as_json)["model"]
    return CLIPTokenizer(vocab=model["vocab"], merges=[tuple(pair) for pair in model["merges"]])


def save(model: CLIPModel, folder: Path, tokenizer: CLIPTokenizer) -> Path:
    """A folder as transformers saves it today: weights, tokenizer, and how pictures are prepared."""
    model.save_pretrained(folder)
    size = model.config.vision_config.image_size
    CLIPProcessor(CLIPImageProcessorPil(size={"shortest_edge": size}, crop_size=size), tokenizer).save_pretrained(
        folder
    )
    return folder


def age(folder: Path, *, half: bool = False) -> Path:
    """Turn a folder into one as transformers saved it in 2022: names, counters, and both pairs of configurations."""
    state = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    for tower in ("text_model", "vision_model"):
        positions = len(state[f"{tower}.embeddings.position_embedding.weight"])
        state[f"{tower}.embeddings.position_ids"] = torch.arange(positions)[None]
    narrow = {name: tensor.half() if half and tensor.is_floating_point() else tensor for name, tensor in state.items()}
    torch.save(narrow, folder / "pytorch_model.bin")
    config = json.loads((folder / "config.json").read_text())
    for key in ("text_config", "vision_config"):
        told = {name: value for name, value in config[key].items() if name != "model_type"}
        config[f"{key}_dict"] = {name: value for name, value in told.items() if name != "hidden_act"}
        # What stands here gives way to the other.
        config[key] = {**told, "num_hidden_layers": 7, "hidden_act": "quick_gelu"}
    (folder / "config.json").write_text(json.dumps(config))
    processor = json.loads((folder / "processor_config.json").read_text())
    (folder / "processor_config.json").unlink()
    (folder / "preprocessor_config.json").write_text(json.dumps(processor["image_processor"]))
    return folder


def answers(model: CLIPModel, pixels: npt.NDArray[np.uint8], texts: Sequence[str], tokenizer: CLIPTokenizer) -> Answers:
    """image_embeds, text_embeds and logits_per_image, from pixels [batch, size, size, 3] and texts."""
    longest = model.config.text_config.max_position_embeddings
    rows = tokenizer(list(texts), padding=True, truncation=True, max_length=longest, return_tensors="pt")
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (OPENAI_MEAN, OPENAI_STD))
    scaled = (torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255 - mean) / std
    with torch.no_grad():
        output = model(pixel_values=scaled, **rows)
    return tuple(part.numpy() for part in (output.image_embeds, output.text_embeds, output.logits_per_image))


def engine_answers(bundle: Bundle, pixels: npt.NDArray[np.uint8]) -> Answers:
    engine, tokenizer = Engine(bundle, provider="cpu"), bundle.tokenizer()
    image = engine.embed_images(pixels)
    text = engine.embed_texts(tokenizer.pad([tokenizer.truncate(ids) for ids in tokenizer.encode(TEXTS)]))
    return image, text, bundle.logit_scale * image @ text.T


def network_answers(network: CLIP, tokenizer: Tokenizer, pixels: npt.NDArray[np.uint8]) -> Answers:
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (OPENAI_MEAN, OPENAI_STD))
    scaled = (torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255 - mean) / std
    ids = tokenizer.pad([tokenizer.truncate(ids) for ids in tokenizer.encode(TEXTS)])
    with torch.no_grad():
        image, text = network(scaled, torch.from_numpy(ids))
        return image.numpy(), text.numpy(), (network.logit_scale.exp() * image @ text.T).numpy()


def random_pixels(size: int, count: int = 3) -> npt.NDArray[np.uint8]:
    """Noise over stripes, which are wider from picture to picture: [count, size, size, 3]."""
    noise = np.random.default_rng(0).integers(0, 128, (count, size, size, 3))
    stripes = np.stack([np.arange(size) * 3 // (size * picture // count + 9) % 2 for picture in range(count)])
    return (noise + 127 * stripes[:, None, :, None]).astype(np.uint8)


def assert_close(ours: Answers, theirs: Answers) -> None:
    """Every number within 1e-4, every vector within a cosine of 0.99999."""
    for mine, other in zip(ours, theirs, strict=True):
        assert np.abs(mine - other).max() < 1e-4
    for mine, other in zip(ours[:2], theirs[:2], strict=True):
        assert (mine * other).sum(axis=1).min() > 0.99999
        # Vectors that are all alike would agree with anything.
        assert (other @ other.T).min() < 0.95
