"""One configuration: built and saved by open_clip, imported by us, and both given the same pictures and texts."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.architectures.cut import cut_model_cfg, cut_text_model
from benchmarks.architectures.tokenizers import TEXTS, write_tokenizer
from model.smoke_inputs import PASSAGE

TOLERANCE, COSINE = 1e-4, 0.99999
PICTURES = 4
ALL_TEXTS = ("", *TEXTS, PASSAGE, f"{PASSAGE} {PASSAGE}")


def compare(name: str, full: bool, folder: Path) -> dict[str, Any]:
    """What became of one configuration, in a row of the table. `folder` is new, and holds gigabytes."""
    import open_clip

    source, started = folder / "source", time.perf_counter()
    cfg = _write_source(name, full, source)
    theirs = _random_model(open_clip, source)
    row = {
        "name": name,
        "layers": "all" if full else "2",
        "parameters": sum(parameter.numel() for parameter in theirs.parameters()),
        "dimensions": cfg["embed_dim"],
    }
    del theirs
    began = time.perf_counter()
    try:
        bundle, warnings = _import(source, folder / "bundle")
    except Exception as error:  # the reason is what the table is for
        reason = " ".join(f"{error}".replace(str(source), "FOLDER").split())
        return row | {"outcome": "refused", "reason": reason[:600]}
    row |= {"import_s": round(time.perf_counter() - began, 1), "warnings": warnings, **_describe(bundle)}
    theirs = open_clip.create_model(f"local-dir:{source}").eval()
    picture, text, cosine = _differences(open_clip, theirs, source, bundle)
    exact = max(picture, text) <= TOLERANCE and cosine >= COSINE
    row |= {"picture": picture, "text": text, "cosine": cosine, "outcome": "exact" if exact else "different"}
    return row | {"seconds": round(time.perf_counter() - started, 1)}


def _write_source(name: str, full: bool, folder: Path) -> dict[str, Any]:
    """A hub folder without weights yet, and what open_clip asks a hub for into the cache of that."""
    import open_clip

    from model.checkpoints.library.hf_text import PUBLISHED
    from model.checkpoints.openclip.pretrained import preprocess_cfg

    cfg: dict[str, Any] = open_clip.get_model_config(name)
    folder.mkdir(parents=True)
    if not full:
        cfg = cut_model_cfg(cfg)
    if text_model := cfg["text_cfg"].get("hf_model_name"):
        config = dict(PUBLISHED[text_model]) if full else cut_text_model(dict(PUBLISHED[text_model]))
        if not full:
            (folder / "config.json").write_text(json.dumps(config), "utf-8")
        _write_cache(text_model, config)
    if tokenizer := cfg["text_cfg"].get("hf_tokenizer_name"):
        write_tokenizer(tokenizer, folder)
    content = {"model_cfg": cfg, "preprocess_cfg": preprocess_cfg(name, "any")}
    (folder / "open_clip_config.json").write_text(json.dumps(content), "utf-8")
    return cfg


def _write_cache(text_model: str, config: dict[str, Any]) -> None:
    cached = Path(os.environ["HF_HUB_CACHE"]) / f"models--{text_model.replace('/', '--')}"
    for file, content in (("refs/main", "0" * 40), (f"snapshots/{'0' * 40}/config.json", json.dumps(config))):
        (cached / file).parent.mkdir(parents=True, exist_ok=True)
        (cached / file).write_text(content, "utf-8")


def _random_model(open_clip: Any, folder: Path) -> Any:
    """open_clip's network, saved; in which nothing is left at a value that hides a mistake."""
    import torch
    from safetensors.torch import save_file
    from torch import nn

    torch.manual_seed(0)
    model = open_clip.create_model(f"local-dir:{folder}", load_weights=False, pretrained_hf=False).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d) and module.running_mean is not None:
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    with torch.no_grad():
        for label, parameter in model.named_parameters():
            if label in ("logit_scale", "logit_bias"):
                continue
            if label == "text_decoder.text_projection":
                parameter.normal_()  # which open_clip leaves as the memory was
            elif parameter.dim() <= 1 or "gamma" in label or "layer_scale" in label:
                parameter.add_(0.1 * torch.randn_like(parameter))
    state = {label: tensor.contiguous() for label, tensor in model.state_dict().items()}
    save_file(state, folder / "open_clip_model.safetensors")
    return model


def _import(source: Path, to: Path) -> tuple[Any, list[str]]:
    from model.checkpoints.checkpoint import Options
    from model.checkpoints.importer import import_checkpoint

    return import_checkpoint(source, to, Options())


def _describe(bundle: Any) -> dict[str, Any]:
    config = bundle.manifest.config
    library = getattr(config, "library", None)
    return {
        "way": library or "own",
        "image_size": bundle.image_size,
        "context": bundle.context_length,
        "padded": bool(library and config.text.fixed_length),
        "megabytes": round(sum(file.stat().st_size for file in bundle.path.iterdir()) / 1e6),
    }


def _differences(open_clip: Any, model: Any, source: Path, bundle: Any) -> tuple[float, float, float]:
    """The largest difference of any component for pictures and for texts, and the smallest cosine."""
    import torch
    from torch.nn import functional as F

    from model import smoke_inputs
    from model.runtime.engine import Engine

    engine, preprocessing = Engine(bundle, "cpu"), bundle.preprocessing
    pixels = smoke_inputs.pixels(preprocessing, PICTURES)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (preprocessing.mean, preprocessing.std))
    tokenizer = bundle.tokenizer()
    rows = [tokenizer.truncate(row) for row in tokenizer.encode(list(ALL_TEXTS))]
    with torch.no_grad():
        images = model.encode_image((torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255 - mean) / std)
        texts = model.encode_text(open_clip.get_tokenizer(f"local-dir:{source}")(list(ALL_TEXTS)))
    pairs = [
        (F.normalize(images.float(), dim=-1).numpy(), engine.embed_images(pixels)),
        (F.normalize(texts.float(), dim=-1).numpy(), engine.embed_texts(tokenizer.pad(rows))),
    ]
    worst = [float(np.abs(a - b).max()) for a, b in pairs]
    return worst[0], worst[1], float(min((a * b).sum(axis=1).min() for a, b in pairs))
