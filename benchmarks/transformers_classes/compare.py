"""One class: built and saved by transformers, imported by us, and both given the same pictures and texts."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.transformers_classes.models import SPECS, configuration, processors
from benchmarks.transformers_classes.tokenizers import TEXTS

TOLERANCE, COSINE = 1e-4, 0.99999
# Where a class with a head on it has the dual encoder.
_INSIDE = {"CLIPSegForImageSegmentation": "clip", "FlavaForPreTraining": "flava", "OwlViTForObjectDetection": "owlvit"}


def compare(name: str, full: bool, folder: Path) -> dict[str, Any]:
    """What became of one class, in a row of the table. `folder` is new, and may hold gigabytes."""
    import transformers

    from model.checkpoints.checkpoint import Options
    from model.checkpoints.importer import import_checkpoint

    source = folder / "source"
    model, images, processor = save(transformers, name, full, source)
    row: dict[str, Any] = {
        "name": name,
        "layers": "all" if full else "2",
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
    }
    began = time.perf_counter()
    try:
        bundle, warnings = import_checkpoint(source, folder / "bundle", Options())
    except Exception as error:  # the reason is what the table is for
        reason = " ".join(f"{error}".replace(str(source), "FOLDER").split())
        return row | {"outcome": "refused", "reason": reason[:600]}
    config = bundle.manifest.config
    library = getattr(config, "library", None)
    row |= {
        "import_s": round(time.perf_counter() - began, 1),
        "way": library or "own",
        "dimensions": bundle.manifest.config.embed_dim,
        "image_size": bundle.image_size,
        "context": bundle.context_length,
        "padded": bool(library and config.text.fixed_length),
        "warnings": warnings,
    }
    picture, text, cosine = differences(model, images, processor, bundle)
    exact = max(picture, text) <= TOLERANCE and cosine >= COSINE
    return row | {"picture": picture, "text": text, "cosine": cosine, "outcome": "exact" if exact else "different"}


def save(transformers: Any, name: str, full: bool, folder: Path) -> tuple[Any, Any, Any]:
    """The network with random weights, its processor of pictures and that of both, saved as transformers does it."""
    import torch

    torch.manual_seed(0)
    model = getattr(transformers, name)(configuration(transformers, name, full)).eval()
    with torch.no_grad():
        for label, parameter in model.named_parameters():
            if "norm" in label or label.endswith("bias"):
                parameter.add_(0.2 * torch.randn_like(parameter))
            elif not full and parameter.dim() > 1 and ("layer" in label or "block" in label):
                parameter.mul_(3)
        for label, buffer in model.named_buffers():
            if label.endswith("running_var"):
                buffer.uniform_(0.5, 1.5)
    model.save_pretrained(folder)
    images, processor = processors(transformers, name, full, folder)
    processor.save_pretrained(folder)
    if images is None:
        side = SPECS[name].full_pixels if full else SPECS[name].pixels
        settings = {"image_processor_type": f"{name.removesuffix('Model')}ImageProcessor"}
        size = {"size": {"height": side, "width": side}}
        (folder / "preprocessor_config.json").write_text(json.dumps(settings | size), "utf-8")
    return model, images, processor


def differences(model: Any, images: Any, processor: Any, bundle: Any) -> tuple[float, float, float]:
    """The largest difference of any component for pictures and for texts, and the smallest cosine."""
    import torch
    from torch.nn import functional as F

    from model import smoke_inputs
    from model.images.preprocessing import preprocess
    from model.runtime.engine import Engine

    photographs = smoke_inputs.photographs()
    pixels = np.stack([preprocess(photograph, bundle.preprocessing) for photograph in photographs])
    tokenizer, engine = bundle.tokenizer(), Engine(bundle, "cpu")
    rows = [tokenizer.truncate(row) for row in tokenizer.encode(list(TEXTS))]
    lengths = {"padding": "max_length", "truncation": True, "max_length": bundle.context_length}
    given = processor(text=list(TEXTS), return_tensors="pt", **lengths)
    # Where transformers has no processor without torchvision, it is given our pixels, from 0 to 1.
    scaled = torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255
    scaled = scaled if images is None else images(photographs, return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        theirs = [F.normalize(vectors, dim=-1).numpy() for vectors in features(model, scaled, given)]
    ours = [engine.embed_images(pixels), engine.embed_texts(tokenizer.pad(rows))]
    worst = [float(np.abs(a - b).max()) for a, b in zip(theirs, ours, strict=True)]
    return worst[0], worst[1], float(min((a * b).sum(axis=1).min() for a, b in zip(theirs, ours, strict=True)))


def features(model: Any, pixels: Any, given: Any) -> tuple[Any, Any]:
    """What the original makes of normalised pixels, and of what its processor makes of texts, of any length."""
    name = type(model).__name__
    if name == "BlipForImageTextRetrieval":
        pictures, texts = model.vision_model(pixel_values=pixels), model.text_encoder(**given)
        return model.vision_proj(pictures[0][:, 0]), model.text_proj(texts[0][:, 0])
    model = getattr(model, _INSIDE[name]) if name in _INSIDE else model
    pictures = model.get_image_features(pixel_values=pixels).pooler_output
    texts = model.get_text_features(**given).pooler_output
    # FLAVA's are of every token, of which its loss takes the first.
    return (pictures[:, 0], texts[:, 0]) if name.startswith("Flava") else (pictures, texts)
