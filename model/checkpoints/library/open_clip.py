"""Models of open_clip that are not computed by our networks, built by open_clip itself."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call

from model.checkpoints import pixels
from model.checkpoints.checkpoint import CheckpointError, LibraryArchitecture, LibraryCheckpoint, Options, naming
from model.checkpoints.library.branches import are_fused, fuse
from model.checkpoints.library.model_cfg import checked_fields
from model.checkpoints.library.open_clip_model import (
    build,
    chosen,
    load,
    open_clip_for,
    read_weights,
    set_image_size,
)
from model.checkpoints.library.openclip_tokenizer import read_openclip_tokenizer
from model.checkpoints.library.outline import outline
from model.checkpoints.library.padding import measure_length
from model.checkpoints.library.tokenizer import FolderTokenizer
from model.library_config import LibraryConfig, LibraryImageConfig
from model.network import LibraryNetwork

__all__ = ["OpenClipNetwork", "checked", "read"]


class OpenClipNetwork(LibraryNetwork):
    """A CustomTextCLIP or CoCa of open_clip."""

    appended_id: int | None = None  # of a class token, in the last place of each row

    def encode_image(self, pixels: Tensor) -> Tensor:
        """Normalised pixels [batch, 3, size, size] -> [batch, embed_dim], of any length."""
        return _vector(self.model.visual(pixels))

    def encode_text(self, token_ids: Tensor) -> Tensor:
        """Token ids [batch, length <= context] -> [batch, embed_dim], of any length."""
        text = self.model.text
        if self.appended_id is not None:
            token_ids = torch.cat([token_ids, torch.full_like(token_ids[:, :1], self.appended_id)], dim=1)
        if hasattr(text, "pooler"):  # of transformers; their own code goes on to tokens, which no vector is made of
            seen = (token_ids != text.config.pad_token_id).long()
            output = text.transformer(input_ids=token_ids, attention_mask=seen)
            vectors: Tensor = text.proj(text.pooler(output, seen))
            return vectors
        mask = text.attn_mask
        if mask is None or text.cls_emb is not None or text.use_pad_mask:
            return _vector(text(token_ids))
        # The causal mask, of the size of the context, is not cut by open_clip to shorter rows, which it never has.
        length = token_ids.shape[1]
        return _vector(functional_call(text, {"attn_mask": mask[:length, :length]}, (token_ids,)))


def read(
    architecture: LibraryArchitecture,
    weights: Path,
    beside: Path,
    preprocess_cfg: Mapping[str, Any],
    options: Options,
    name: str | None = None,
) -> LibraryCheckpoint:
    """The network, pixels and tokenizer of a model that open_clip defines.

    `beside` is the folder of the tokenizer, and of the configuration of a text model of transformers. The model's name
    is `name`, or that of the architecture. Raises CheckpointError.
    """
    refusal = architecture.refusal
    cfg = chosen(checked(architecture), options)
    side = _side(cfg["vision_cfg"])
    preprocessing = pixels.from_openclip(preprocess_cfg, side, options)
    with open_clip_for(refusal) as library:
        sketch = outline(partial(build, cfg, beside))
    tokenizer = _tokenizer(beside, cfg["text_cfg"], refusal)
    with open_clip_for(refusal):
        read = read_weights(weights, sketch)
        model = build(cfg, beside)  # a network that the file has the tensors of
        if are_fused(read.state):
            fuse(model)
        with naming(weights):
            warnings = [*read.warnings, *load(model, read.state)]
        if options.image_size is not None:
            set_image_size(model, options.image_size)
        config = LibraryConfig(
            name=name or architecture.name,
            library="open_clip",
            architecture=architecture.name,
            embed_dim=cfg["embed_dim"],
            image=LibraryImageConfig(image_size=side),
            text=tokenizer.text_config(cfg["text_cfg"].get("context_length", 77), model.text.vocab_size, False),
        )
        network = OpenClipNetwork(config, model, model.logit_scale, model.logit_bias)
        network.appended_id = tokenizer.appended_id
        with torch.no_grad():
            network.encode_image(torch.zeros(1, 3, side, side))  # some take pictures of another size only
        ours = tokenizer.build(config.text)
        measure_length(network, ours)
    source = {
        "weights": weights.name,
        "library": f"open_clip {library.__version__}",
        "tokenizer_from": tokenizer.source,
    }
    source |= {"activation_from": "--activation" if options.activation else "the configuration"}
    source |= {"unwrapped": read.described()} if read.described() else {}
    return LibraryCheckpoint(network, preprocessing, ours, source, [*warnings, *tokenizer.warnings])


def _tokenizer(folder: Path, text_cfg: Mapping[str, Any], refusal: str) -> FolderTokenizer:
    try:
        return read_openclip_tokenizer(folder, text_cfg)
    except CheckpointError as error:
        # Where both ways want the same files, the first to say so says it.
        raise CheckpointError(refusal if "hf_tokenizer_name is" in refusal else f"{refusal}; and {error}") from error


def checked(architecture: LibraryArchitecture) -> dict[str, Any]:
    """Its `model_cfg`, in which nothing fetches, runs or fills memory. Raises CheckpointError for what is none."""
    cfg = architecture.model_cfg
    sections = ("vision_cfg", "text_cfg")
    if not isinstance(cfg, Mapping) or not all(isinstance(cfg.get(name), Mapping) for name in sections):
        raise CheckpointError(architecture.refusal)
    return checked_fields(cfg)


def _side(vision_cfg: Mapping[str, Any]) -> int:
    """The sides of the pictures that the image tower takes. Raises CheckpointError."""
    size = vision_cfg.get("image_size", 224)
    side = size[0] if isinstance(size, list) else size  # which are two that are equal
    if type(side) is not int or side < 1:
        raise CheckpointError(f"model_cfg.vision_cfg.image_size is {size!r:.100}, not a number of pixels")
    return side


def _vector(output: Tensor | tuple[Tensor, ...]) -> Tensor:
    """Towers that also give their tokens, for a decoder, give the vector first."""
    return output[0] if isinstance(output, tuple) else output
