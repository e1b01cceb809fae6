"""Small networks of timm and transformers, each two towers behind the interface of a library's network."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from model.library_config import LibraryConfig, LibraryImageConfig, LibraryTextConfig
from model.network import LibraryNetwork

SIZE, CONTEXT, VOCABULARY, WIDTH = 64, 20, 600, 32


class TwoTowers(LibraryNetwork):
    """A network of timm for pictures and any module for token ids, of which the first vector of each row is taken."""

    def encode_image(self, pixels: Tensor) -> Tensor:
        output: Tensor = self.model.image(pixels)
        return output

    def encode_text(self, token_ids: Tensor) -> Tensor:
        length = token_ids.shape[1]
        mask = getattr(self.model.text, "attn_mask", None)  # open_clip's, of the size of the context
        cut = {} if mask is None else {"attn_mask": mask[:length, :length]}
        output: Tensor = functional_call(self.model.text, cut, (token_ids,))
        return output


class Pooled(nn.Module):
    """A text tower of transformers with its mask, and the mean over what it leaves."""

    def __init__(self, tower: nn.Module) -> None:
        super().__init__()
        self.tower, self.projection = tower, nn.Linear(48, WIDTH)

    def forward(self, token_ids: Tensor) -> Tensor:
        mask = (token_ids != 0).long()
        tokens = self.tower(input_ids=token_ids, attention_mask=mask).last_hidden_state
        mean = (tokens * mask.unsqueeze(-1)).sum(1) / mask.sum(1, keepdim=True)
        output: Tensor = self.projection(mean)
        return output


def network(image: str, text: str) -> TwoTowers:
    """A network of random weights that depends on what it is given: scales and statistics are not those of a start."""
    torch.manual_seed(0)
    model = nn.Module()
    model.image, model.text = _image_tower(image), _text_tower(text)
    config = LibraryConfig(
        name="towers",
        library="open_clip",
        architecture=f"{image} and {text}",
        embed_dim=WIDTH,
        image=LibraryImageConfig(image_size=SIZE),
        text=LibraryTextConfig(
            context_length=CONTEXT, vocab_size=VOCABULARY, pad_id=0, fixed_length=False, tokenizer="clip"
        ),
    )
    return TwoTowers(config, model.eval(), torch.tensor(2.0))


def _image_tower(name: str) -> nn.Module:
    import timm

    shape: dict[str, dict[str, Any]] = {
        "convnext_tiny": {"depths": (1, 1, 2, 1), "dims": (16, 32, 48, 64), "ls_init_value": 0.3},
        "eva02_tiny_patch14_224": {"img_size": SIZE, "patch_size": 16, "embed_dim": 48, "depth": 2, "num_heads": 3},
        "fastvit_sa12": {"layers": (1, 1, 1, 1), "embed_dims": (16, 32, 64, 128)},
        "swin_tiny_patch4_window7_224": {
            "img_size": SIZE, "window_size": 4, "embed_dim": 24, "depths": (2, 2), "num_heads": (2, 4),
        },
    }  # fmt: skip
    tower: nn.Module = timm.create_model(name, num_classes=WIDTH, **shape[name])
    with torch.no_grad():
        for parameter_name, parameter in tower.named_parameters():
            if "gamma" in parameter_name:
                parameter.uniform_(0.1, 0.6)
        tower.train()(torch.randn(8, 3, SIZE, SIZE))
    return tower


def _text_tower(name: str) -> nn.Module:
    import transformers

    if name == "clip":
        from open_clip.transformer import TextTransformer

        return TextTransformer(CONTEXT, VOCABULARY, width=48, heads=3, layers=2, output_dim=WIDTH)
    if name == "mt5":
        config = transformers.MT5Config(
            vocab_size=VOCABULARY, d_model=48, d_kv=16, d_ff=96, num_layers=2, num_heads=3
        )  # fmt: skip
        return Pooled(transformers.MT5EncoderModel(config))
    roberta = transformers.XLMRobertaConfig(
        vocab_size=VOCABULARY, hidden_size=48, num_hidden_layers=2, num_attention_heads=3, intermediate_size=96,
        max_position_embeddings=CONTEXT + 2, pad_token_id=0, type_vocab_size=1,
    )  # fmt: skip
    return Pooled(transformers.XLMRobertaModel(roberta, add_pooling_layer=False))
