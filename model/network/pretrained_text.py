"""A pretrained language model that stays as it is, under layers that are trained to meet an image tower.

Cheng et al. 2024 (arXiv 2405.03190): a text tower keeps what a language model knows of paraphrases where that model is
frozen and only alignment layers on top of it learn, with the image tower. Which layers they are is our choice.
"""

from __future__ import annotations

from typing import Any, Self

import torch
from torch import Tensor, nn

from model.network.transformer import LayerNorm, Stack, Transformer
from model.pretrained_text import Pooling, TransformersTextConfig
from model.requirements import needs

_WITHOUT_POOLER = ("distilbert", "electra")
_NORM_EPS = 1e-5


class FrozenEncoder(nn.Module):
    """The language model. Its weights are buffers: nothing that gathers, decays or updates parameters meets them."""

    def __init__(self, config: TransformersTextConfig) -> None:
        super().__init__()
        self.pad_id = config.pad_id
        self.model = build_language_model(dict(config.architecture))
        for module in self.model.modules():
            for name, parameter in list(module.named_parameters(recurse=False)):
                delattr(module, name)
                module.register_buffer(name, parameter.detach())
        self.eval()

    def train(self, mode: bool = True) -> Self:
        """Nothing: it never trains, so that nothing in it is ever dropped out."""
        return super().train(False)

    def forward(self, token_ids: Tensor) -> Tensor:
        """Token ids [batch, length], filled up with `pad_id` -> its outputs [batch, length, width]."""
        outputs: Tensor = self.model(input_ids=token_ids, attention_mask=(token_ids != self.pad_id).long())[0]
        return outputs


class PretrainedText(nn.Module):
    """Frozen language model, alignment layers, pooling, norm and projection."""

    def __init__(self, config: TransformersTextConfig, embed_dim: int) -> None:
        super().__init__()
        self.config = config
        stack = Stack(config.width, config.alignment_layers, config.heads, None, _NORM_EPS, "gelu")
        self.encoder = FrozenEncoder(config)
        self.alignment = Transformer(stack) if config.alignment_layers else None
        self.ln_final = LayerNorm(config.width, eps=_NORM_EPS)
        self.text_projection = nn.Linear(config.width, embed_dim, bias=False)
        nn.init.normal_(self.text_projection.weight, std=config.width**-0.5)

    def forward(self, token_ids: Tensor) -> Tensor:
        """Token ids [batch, length], filled up with `pad_id` -> [batch, embed_dim], not of unit length."""
        return self.align(self.frozen(token_ids), token_ids)

    def frozen(self, token_ids: Tensor) -> Tensor:
        """What never changes for a text: [batch, length, width], or pooled, [batch, 1, width], if no block follows."""
        outputs: Tensor = self.encoder(token_ids)
        return outputs if self.alignment is not None else self._pool(outputs, token_ids).unsqueeze(1)

    def align(self, frozen: Tensor, token_ids: Tensor) -> Tensor:
        """What `frozen` gave for the token ids [batch, length] -> [batch, embed_dim]: all that is trained."""
        if self.alignment is None:
            pooled = frozen[:, 0]
        else:
            seen = token_ids != self.config.pad_id
            pooled = self._pool(self.alignment(frozen, mask=seen[:, None, None, :]), token_ids)
        encoded: Tensor = self.text_projection(self.ln_final(pooled))
        return encoded

    def _pool(self, outputs: Tensor, token_ids: Tensor) -> Tensor:
        return pool_tokens(outputs, token_ids != self.config.pad_id, self.config.pooling)


def pool_tokens(outputs: Tensor, seen: Tensor, pooling: Pooling) -> Tensor:
    """Outputs [batch, length, width] of the tokens that are `seen` [batch, length] -> [batch, width]."""
    if pooling == "cls":
        return outputs[:, 0]
    mask = seen.unsqueeze(-1)
    if pooling == "max":
        return outputs.masked_fill(~mask, torch.finfo(outputs.dtype).min).amax(1)
    weights = mask.to(outputs.dtype)
    return (outputs * weights).sum(1) / weights.sum(1).clamp(min=1)


def build_language_model(architecture: dict[str, Any]) -> Any:
    """The network of transformers of these fields of a config.json, with random weights, or none on "meta".

    Ends the program with what to install where transformers is not there.
    """
    with needs("convert-all"):
        import transformers

    kind = str(architecture["model_type"])
    native = transformers.CONFIG_MAPPING[kind].from_dict(architecture)
    models: Any = transformers.MODEL_MAPPING
    model = models[type(native)](native, **without_pooler(kind))
    _compute_buffers(model)
    return model


def without_pooler(kind: str) -> dict[str, bool]:
    """Arguments that build a language model of that type without what would make one vector of its outputs."""
    return {} if kind in _WITHOUT_POOLER else {"add_pooling_layer": False}


def _compute_buffers(model: nn.Module) -> None:
    """Give buffers that no checkpoint has their values, also where the network was built without memory."""
    saved = model.state_dict().keys()
    for path, buffer in list(model.named_buffers()):
        if path in saved:
            continue
        module, _, name = path.rpartition(".")
        with torch.device("cpu"):
            values = torch.arange(buffer.shape[-1]) if name == "position_ids" else torch.zeros(buffer.shape[-1])
            setattr(model.get_submodule(module), name, values.to(buffer.dtype).expand(buffer.shape).contiguous())


def frozen_names(network: nn.Module) -> frozenset[str]:
    """The names, in the state of a network or of what holds one, of tensors that never change."""
    encoders = [(path, module) for path, module in network.named_modules() if isinstance(module, FrozenEncoder)]
    return frozenset(f"{path}.{name}" if path else name for path, module in encoders for name in module.state_dict())
