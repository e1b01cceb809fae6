"""Text towers of transformers inside a model of open_clip: their configuration, which open_clip asks a hub for."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from model.checkpoints.checkpoint import CheckpointError, naming
from model.checkpoints.folders import read_object
from model.checkpoints.library.outline import refuse_absurd

CONFIG = "config.json"
_ROBERTA = {"max_position_embeddings": 514, "type_vocab_size": 1, "layer_norm_eps": 1e-5, "pad_token_id": 1}
_BASE = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072}
_LARGE = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}
_XLM_ROBERTA = {"model_type": "xlm-roberta", "vocab_size": 250_002, **_ROBERTA}
_MT5 = {"model_type": "mt5", "vocab_size": 250_112, "d_kv": 64, "feed_forward_proj": "gated-gelu", "pad_token_id": 0}
_NLLB = {
    "model_type": "m2m_100",
    "vocab_size": 256_206,
    "d_model": 1024,
    "encoder_attention_heads": 16,
    "decoder_attention_heads": 16,
    "max_position_embeddings": 1024,
    "scale_embedding": True,
    "pad_token_id": 1,
}
# The fields of the published config.json that are not transformers' defaults, or that count most.
PUBLISHED: Mapping[str, Mapping[str, Any]] = {
    "roberta-base": {"model_type": "roberta", "vocab_size": 50_265, **_ROBERTA, **_BASE},
    "roberta-large": {"model_type": "roberta", "vocab_size": 50_265, **_ROBERTA, **_LARGE},
    "xlm-roberta-base": {**_XLM_ROBERTA, **_BASE},
    "xlm-roberta-large": {**_XLM_ROBERTA, **_LARGE},
    "bert-base-uncased": {"model_type": "bert", "vocab_size": 30_522, "pad_token_id": 0, **_BASE},
    "bert-base-cased": {"model_type": "bert", "vocab_size": 28_996, "pad_token_id": 0, **_BASE},
    "google/mt5-base": {**_MT5, "d_model": 768, "d_ff": 2048, "num_heads": 12, "num_layers": 12},
    "google/mt5-large": {**_MT5, "d_model": 1024, "d_ff": 2816, "num_heads": 16, "num_layers": 24},
    "google/mt5-xl": {**_MT5, "d_model": 2048, "d_ff": 5120, "num_heads": 32, "num_layers": 24},
    "facebook/nllb-200-distilled-600M": {**_NLLB, "encoder_layers": 12, "encoder_ffn_dim": 4096},
    "facebook/nllb-200-distilled-1.3B": {**_NLLB, "encoder_layers": 24, "encoder_ffn_dim": 8192},
}
_OWNERS = ("FacebookAI/", "google-bert/")  # that names without an owner have today
# Of a decoder, of which no embedding comes, one small layer is built: the real ones are as large as the encoders.
_NO_DECODER = {"mt5": {"num_decoder_layers": 1}, "m2m_100": {"decoder_layers": 1, "decoder_ffn_dim": 64}}


def text_config(name: str, folder: Path) -> dict[str, Any]:
    """The configuration of a text model: that in the folder, if it has one, else that of the published name.

    Raises CheckpointError where it is neither at hand nor one of open_clip's kinds.
    """
    from open_clip.hf_configs import arch_dict

    file = folder / CONFIG
    config = read_object(file) if file.is_file() else {}
    kind = config.get("model_type")
    if isinstance(kind, str) and kind in arch_dict:  # it may be of the whole model, as transformers has it
        with naming(file):
            return _checked(config, arch_dict[kind]["config_names"].get("layers", ""))
    published = PUBLISHED.get(name) or next((PUBLISHED.get(name.removeprefix(owner)) for owner in _OWNERS
                                             if name.startswith(owner)), None)  # fmt: skip
    if published is None:
        raise CheckpointError(
            f"text_cfg.hf_model_name is {name!r:.200}, whose configuration is not at hand: put its {CONFIG} into the "
            f"folder. Known without one are {', '.join(PUBLISHED)}"
        )
    return dict(published)


@contextmanager
def text_config_folder(config: Mapping[str, Any]) -> Iterator[str]:
    """A folder with that configuration, for transformers to read, which looks at no hub then."""
    with tempfile.TemporaryDirectory() as folder:
        content = {**config, **_NO_DECODER.get(config["model_type"], {})}
        (Path(folder) / CONFIG).write_text(json.dumps(content), "utf-8")
        yield folder


def _checked(config: dict[str, Any], layers: str) -> dict[str, Any]:
    """The configuration, which names no code, and sizes that can be built. `layers` is the field of their number."""
    if "auto_map" in config:
        raise CheckpointError("auto_map names code of the checkpoint, and nothing of a checkpoint is executed")
    refuse_absurd({**config, "layers": config.get(layers, 1)}, CONFIG)
    return config
