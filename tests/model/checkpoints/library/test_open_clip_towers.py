"""One tiny model of each mechanism that open_clip's configurations have: our vectors beside open_clip's own.

Of the networks before they are exported, in a tenth of the time: `python -m benchmarks.architectures` does all of it.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from model.checkpoints.checkpoint import CheckpointError, LibraryCheckpoint, Options
from model.checkpoints.importer import import_checkpoint, read_checkpoint
from model.checkpoints.library.branches import are_fused, fuse
from model.checkpoints.library.hf_text import PUBLISHED, text_config
from model.runtime.engine import Engine
from model.smoke_inputs import PASSAGE
from tests.model.checkpoints.library.folders import FAMILIES
from tests.model.checkpoints.openclip.models import TEXT, TEXTS, VIT, build, save_folder, vary

SMALL = {"image_size": 32, "patch_size": 16, "width": 64, "layers": 2, "head_width": 32}
ENCODER = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 96}
ROBERTA = {"vocab_size": 700, "max_position_embeddings": 100, "type_vocab_size": 1, "pad_token_id": 1, **ENCODER}
TEXT_MODELS: dict[str, dict[str, Any]] = {
    "roberta-base": {"model_type": "roberta", **ROBERTA},
    "xlm-roberta-base": {"model_type": "xlm-roberta", **ROBERTA},
    "bert-base-uncased": {"model_type": "bert", **ROBERTA, "pad_token_id": 0},
    "google/mt5-base": {
        **{"model_type": "mt5", "vocab_size": 700, "d_model": 64, "d_kv": 32, "d_ff": 96, "num_heads": 2},
        **{"num_layers": 2, "num_decoder_layers": 1, "feed_forward_proj": "gated-gelu", "pad_token_id": 0},
    },
    "facebook/nllb-200-distilled-600M": {
        **{"model_type": "m2m_100", "vocab_size": 900, "d_model": 64, "encoder_layers": 2, "decoder_layers": 1},
        **{"encoder_ffn_dim": 96, "decoder_ffn_dim": 32, "encoder_attention_heads": 2, "decoder_attention_heads": 2},
        **{"scale_embedding": True, "pad_token_id": 1, "max_position_embeddings": 100},
    },
}
COCA = {
    "embed_dim": 32,
    "vision_cfg": {**SMALL, "output_tokens": True, "attentional_pool": True, "attn_pooler_heads": 2},
    "text_cfg": {**TEXT, "context_length": 24, "embed_cls": True, "output_tokens": True},
    "multimodal_cfg": {"context_length": 24, "width": 64, "heads": 2, "layers": 1, "mlp_ratio": 2},
    "custom_text": True,
}
WORDS = {"context_length": 24, "vocab_size": 700}
SEPARATED = {"hf_tokenizer_name": "bert-base-uncased", "tokenizer_kwargs": {"strip_sep_token": True}}


def hf(name: str, **text: Any) -> dict[str, Any]:
    text_cfg = {"hf_model_name": name, "hf_tokenizer_name": name, "context_length": 40, **text}
    return {"embed_dim": 32, "vision_cfg": SMALL, "text_cfg": text_cfg, "custom_text": True}


def timm(name: str, size: int, **vision: Any) -> dict[str, Any]:
    vision_cfg = {"timm_model_name": name, "image_size": size, "timm_proj": "linear", "timm_pool": "avg", **vision}
    return {"embed_dim": 32, "vision_cfg": vision_cfg, "text_cfg": TEXT, "custom_text": True}


# The configuration, the kind of its tokenizer, and whether its texts must be padded to the context.
MECHANISMS: dict[str, tuple[dict[str, Any], str | None, bool]] = {
    "RoBERTa, its mean over a mask": (hf("roberta-base"), "roberta", False),
    "XLM-RoBERTa": (hf("xlm-roberta-base", hf_proj_type="linear"), "xlm_roberta", False),
    "BERT's first token": (hf("bert-base-uncased", hf_pooler_type="cls_pooler"), "bert", False),
    "mT5's encoder": (hf("google/mt5-base", hf_pooler_type="mean_pooler"), "mt5", False),
    "NLLB's encoder": (
        hf("facebook/nllb-200-distilled-600M", hf_pooler_type="cls_pooler", hf_proj_type="linear"), "nllb", False
    ),
    "CoCa": (COCA, None, True),
    "CoCa with RoBERTa": (
        {**COCA, "text_cfg": {**hf("roberta-base")["text_cfg"], "hf_proj_type": "linear", "output_tokens": True}},
        "roberta", False,
    ),
    "CLIPA, no causal mask, the last token": (
        vary({"no_ln_pre": True, "pool_type": "avg", "final_ln_after_pool": True},
             {**SEPARATED, **WORDS, "pool_type": "last", "no_causal_mask": True}), "bert", True,
    ),
    "an end of its own": (
        vary(text={**WORDS, "hf_tokenizer_name": "facebook/xlm-v-base", "pool_type": "eos", "eos_id": 2}),
        "xlm_roberta", False,
    ),
    "no causal mask, MobileCLIP's": (vary(text={"no_causal_mask": True}), None, True),
    "FastViT, whose branches are fused": (timm("fastvit_t8", 64), None, False),
    "PE-Core": (timm("vit_pe_core_tiny_patch16_384", 384, timm_pool="map"), None, False),
    "Swin": (timm("swin_tiny_patch4_window7_224", 224), None, False),
    "own blocks with scales and norms": (vary({"qk_norm": True, "scale_heads": True, "scale_fc": True}), None, False),
    "a bias of the logits": (vary(init_logit_bias=-10), None, False),
}  # fmt: skip


def reference(open_clip: Any, cfg: dict[str, Any], folder: Path) -> nn.Module:
    """open_clip's network, which finds the configuration of its text model in a folder."""
    cfg = copy.deepcopy(cfg)
    if name := cfg["text_cfg"].get("hf_model_name"):
        (folder / "text_model").mkdir(parents=True)
        (folder / "text_model" / "config.json").write_text(json.dumps(TEXT_MODELS[name]))
        cfg["text_cfg"] |= {"hf_model_name": str(folder / "text_model"), "hf_model_pretrained": False}
    if "multimodal_cfg" in cfg:
        torch.manual_seed(0)
        del cfg["custom_text"]
        coca: nn.Module = open_clip.CoCa(**cfg).eval()
        nn.init.normal_(coca.text_decoder.text_projection)  # which open_clip leaves as the memory was
        return coca
    return build(open_clip, cfg)


def saved(network: nn.Module, cfg: dict[str, Any], tokenizer: str | None, folder: Path) -> Path:
    """As on a hub: configuration, weights, tokenizer, and the configuration of the text model."""
    if tokenizer is not None:
        FAMILIES[tokenizer](folder)
    save_folder(network, cfg, folder, weights="open_clip_model.safetensors")
    if name := cfg["text_cfg"].get("hf_model_name"):
        (folder / "config.json").write_text(json.dumps(TEXT_MODELS[name]))
    return folder


def their_tokens(open_clip: Any, folder: Path, cfg: dict[str, Any]) -> torch.Tensor:
    return open_clip.get_tokenizer(f"local-dir:{folder}")([*TEXTS, PASSAGE])


def our_rows(checkpoint: Any, config: Any) -> list[np.ndarray]:
    tokenizer = checkpoint.tokenizer
    rows = [tokenizer.truncate(row) for row in tokenizer.encode([*TEXTS, PASSAGE])]
    length = config.text.context_length if config.text.fixed_length else 0
    return [np.pad(row, (0, max(0, length - len(row))), constant_values=config.text.pad_id)[None] for row in rows]


@pytest.mark.parametrize("name", MECHANISMS)
@torch.no_grad()
def test_vectors_are_open_clips(open_clip: Any, tmp_path: Path, name: str) -> None:
    cfg, tokenizer, padded = MECHANISMS[name]
    network = reference(open_clip, cfg, tmp_path)
    folder = saved(network, cfg, tokenizer, tmp_path / "model")
    checkpoint = read_checkpoint(folder, Options())
    assert isinstance(checkpoint, LibraryCheckpoint)
    assert not checkpoint.warnings
    assert (checkpoint.network.logit_bias is not None) == ("init_logit_bias" in cfg)
    config = checkpoint.network.config
    assert config.text.fixed_length == padded
    pixels = torch.rand(2, 3, config.image.image_size, config.image.image_size)
    theirs = F.normalize(network.encode_image(pixels), dim=-1)
    np.testing.assert_allclose(F.normalize(checkpoint.network.encode_image(pixels), dim=-1), theirs, atol=1e-5)
    texts = F.normalize(network.encode_text(their_tokens(open_clip, folder, cfg)), dim=-1)
    rows = [torch.from_numpy(row) for row in our_rows(checkpoint, config)]
    ours = torch.cat([F.normalize(checkpoint.network.encode_text(row), dim=-1) for row in rows])
    np.testing.assert_allclose(ours, texts, atol=1e-5)


@torch.no_grad()
def test_a_bundle_holds_the_mask(open_clip: Any, tmp_path: Path) -> None:
    cfg, tokenizer, _ = MECHANISMS["RoBERTa, its mean over a mask"]
    network = reference(open_clip, cfg, tmp_path)
    folder = saved(network, cfg, tokenizer, tmp_path / "model")
    bundle, _ = import_checkpoint(folder, tmp_path / "bundle", Options())
    tokenizer_of = bundle.tokenizer()
    ids = tokenizer_of.pad([tokenizer_of.truncate(row) for row in tokenizer_of.encode([*TEXTS, PASSAGE])])
    texts = F.normalize(network.encode_text(their_tokens(open_clip, folder, cfg)), dim=-1)
    np.testing.assert_allclose(Engine(bundle, "cpu").embed_texts(ids), texts, atol=1e-5)


def test_weights_whose_branches_were_fused_before(open_clip: Any, tmp_path: Path) -> None:
    cfg = timm("fastvit_t8", 64)
    network = build(open_clip, cfg)
    pixels = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        before = network.encode_image(pixels)
        fuse(network)
        folder = save_folder(network, cfg, tmp_path / "model", weights="open_clip_model.safetensors")
        checkpoint = read_checkpoint(folder, Options())
        np.testing.assert_allclose(checkpoint.network.encode_image(pixels), before, atol=1e-4)
    assert are_fused(checkpoint.network.state_dict())
    assert not checkpoint.warnings


def test_text_models_are_known_without_a_hub(tmp_path: Path) -> None:
    assert text_config("roberta-base", tmp_path)["hidden_size"] == 768
    assert text_config("FacebookAI/xlm-roberta-large", tmp_path) == dict(PUBLISHED["xlm-roberta-large"])
    with pytest.raises(CheckpointError, match=r"hf_model_name is 'someone/else'.*config\.json into the folder"):
        text_config("someone/else", tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "roberta", "num_hidden_layers": 10**6}))
    with pytest.raises(CheckpointError, match=r"num_hidden_layers is 1000000"):
        text_config("roberta-base", tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert", "auto_map": {"AutoModel": "code.Mine"}}))
    with pytest.raises(CheckpointError, match="nothing of a checkpoint is executed"):
        text_config("bert-base-uncased", tmp_path)


def test_the_size_of_pictures_can_be_chosen(open_clip: Any, tmp_path: Path) -> None:
    cfg = vary({"no_ln_pre": True})
    network = build(open_clip, cfg)
    folder = save_folder(network, cfg, tmp_path / "model", weights="open_clip_model.safetensors")
    checkpoint = read_checkpoint(folder, Options(image_size=64))
    theirs = build(open_clip, vary({"no_ln_pre": True, "image_size": 64}))
    open_clip.load_checkpoint(theirs, str(folder / "open_clip_model.safetensors"))
    pixels = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        np.testing.assert_allclose(checkpoint.network.encode_image(pixels), theirs.encode_image(pixels), atol=1e-5)
    assert checkpoint.preprocessing.size == 64
    assert "resized from 10 to 17 positions" in checkpoint.warnings[0]


def test_the_activation_can_be_chosen_where_towers_are_open_clips(open_clip: Any, tmp_path: Path) -> None:
    cfg = vary({"no_ln_pre": True})
    network = build(open_clip, cfg)
    folder = save_folder(network, cfg, tmp_path / "model", weights="open_clip_model.safetensors")
    theirs = build(open_clip, {**cfg, "quick_gelu": True})
    pixels = torch.rand(1, 3, 48, 48)
    checkpoint = read_checkpoint(folder, Options(activation="quick_gelu"))
    with torch.no_grad():
        np.testing.assert_allclose(checkpoint.network.encode_image(pixels), theirs.encode_image(pixels), atol=1e-5)
    save_folder(network, timm("convnext_atto", 64), tmp_path / "timm", weights="open_clip_model.safetensors")
    with pytest.raises(CheckpointError, match="timm_model_name is 'convnext_atto', of timm"):
        read_checkpoint(tmp_path / "timm", Options(activation="gelu"))


@pytest.mark.parametrize(
    ("cfg", "reason"),
    [
        (vary({"no_ln_pre": True, "image_size": [48, 64]}), r"\[48, 64\]: pictures are square"),
        (vary({"no_ln_pre": True, "width": 128}), "the network needs"),
        (vary({"no_ln_pre": True}, {"no_such_field": 1}), "cannot build it"),
    ],
)
def test_what_cannot_be_built_is_refused_by_name(
    open_clip: Any, tmp_path: Path, cfg: dict[str, Any], reason: str
) -> None:
    folder = save_folder(build(open_clip, VIT), cfg, tmp_path / "model", weights="open_clip_model.safetensors")
    with pytest.raises(CheckpointError, match=reason):
        read_checkpoint(folder, Options())
