"""SiglipModels of random weights as transformers itself builds and saves them, and what they answer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from transformers import SiglipConfig, SiglipImageProcessorPil, SiglipModel, SiglipProcessor

from tests.model.checkpoints.transformers.clip_models import Answers
from tests.model.sentences import siglip2_tokenizer, siglip_tokenizer, spiece

TEXTS = ["", "a", "A photo of a cat, isn't it?", "a red_cup ＆ é ½", "猫 🐈 sat", "two dogs " * 15, "two dogs " * 70]


def random_model(text: dict[str, Any], vision: dict[str, Any]) -> SiglipModel:
    """A model in which nothing is left at a value that hides a mistake."""
    torch.manual_seed(0)
    model = SiglipModel(SiglipConfig(text_config=text, vision_config=vision)).eval()
    for name, parameter in model.named_parameters():
        if "norm" in name or name.endswith("bias") or "probe" in name:
            parameter.data += 0.2 * torch.randn_like(parameter)
        elif "embedding" in name:
            parameter.data = torch.randn_like(parameter)
        elif ".layers." in name:
            parameter.data *= 3
    model.logit_scale.data.fill_(3.3)
    model.logit_bias.data.fill_(-4.5)
    return model


def small_text(**fields: Any) -> dict[str, Any]:
    """A text tower whose embedding has more rows than the tokenizer has pieces."""
    sizes = {"hidden_size": 48, "intermediate_size": 130, "num_hidden_layers": 2, "num_attention_heads": 2}
    return {**sizes, "vocab_size": 704, "bos_token_id": 2, "eos_token_id": 1, **fields}


def small_vision(**fields: Any) -> dict[str, Any]:
    """An image tower for pictures of 50 pixels: 3 patches a side, and 8 pixels that are left over."""
    sizes = {"hidden_size": 48, "intermediate_size": 200, "num_hidden_layers": 2, "num_attention_heads": 3}
    return {**sizes, "image_size": 50, "patch_size": 14, **fields}


def save(model: SiglipModel, folder: Path, *, second: bool = False) -> SiglipProcessor:
    """A folder as transformers saves it today, with the tokenizer of SigLIP or, if `second`, of SigLIP 2."""
    folder.mkdir(exist_ok=True)
    tokenizer = siglip2_tokenizer(folder) if second else siglip_tokenizer(folder, spiece())
    side = model.config.vision_config.image_size
    processor = SiglipProcessor(SiglipImageProcessorPil(size={"height": side, "width": side}), tokenizer)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return processor


def token_ids(processor: SiglipProcessor, texts: Sequence[str]) -> torch.Tensor:
    rows = processor.tokenizer(list(texts), padding="max_length", max_length=64, truncation=True)["input_ids"]
    return torch.tensor(rows)


def answers(model: SiglipModel, pixels: npt.NDArray[np.uint8], ids: torch.Tensor) -> Answers:
    """image_embeds, text_embeds and logits_per_image, from pixels [batch, size, size, 3] and padded token ids."""
    scaled = (torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255 - 0.5) / 0.5
    with torch.no_grad():
        output = model(pixel_values=scaled, input_ids=ids)
    return tuple(part.numpy() for part in (output.image_embeds, output.text_embeds, output.logits_per_image))
