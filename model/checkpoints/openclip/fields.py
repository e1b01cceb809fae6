"""The fields of an open_clip `model_cfg`: which values our towers compute, and the numbers in them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from model.checkpoints.checkpoint import CheckpointError
from model.config import Activation

Values = Mapping[str, tuple[Any, ...] | None]  # by field; None: any value

OFF = (None, False)
_MAX_NUMBER = 10**9

# Both towers: features of the blocks that ours do not have, and outputs that ours do not give.
BLOCKS: Values = {
    "ls_init_value": (None,),
    "block_type": (None, "default", "custom"),
    **dict.fromkeys(("qk_norm", "scaled_cosine_attn", "scale_heads"), OFF),
    **dict.fromkeys(("scale_attn_inner", "scale_attn", "scale_fc", "output_tokens"), OFF),
}

# What the text towers of CLIP and SigLIP have in common.
TEXT: Values = {
    **BLOCKS,
    **dict.fromkeys(("context_length", "vocab_size", "width", "heads", "layers", "mlp_ratio"), None),
    **dict.fromkeys(("act_kwargs", "norm_kwargs", "hf_tokenizer_name", "tokenizer_kwargs"), None),
    "tokenizer_mode": (None, ""),
    "hf_model_name": (None, ""),
    "embed_cls": OFF,
    # What counts only for masks, pools and towers that have to be absent, or that open_clip itself passes over.
    **dict.fromkeys(("pad_id", "eos_id", "final_ln_after_pool"), None),
    **dict.fromkeys(("hf_model_pretrained", "hf_proj_type", "hf_pooler_type"), None),
}

_WHY = {
    "multimodal_cfg": "CoCa's text decoder is not supported",
    "hf_model_name": "text towers of transformers are not supported",
    "attentional_pool": "the layer visual.attn_pool is not supported",
    "no_ln_pre": "a tower without the layer visual.ln_pre is not supported",
    "ls_init_value": "the layers ls_1 and ls_2 are not supported",
    "embed_cls": "the layer cls_emb is not supported",
    "init_logit_bias": "logit_bias is supported with SigLIP's towers only",
}


@dataclass(frozen=True)
class Section:
    """A `model_cfg`, or the part of it for a tower. Every method raises CheckpointError naming the field."""

    prefix: str  # before the names of its fields in errors: nothing, `vision_cfg.` or `text_cfg.`
    cfg: Mapping[str, Any]

    def get(self, field: str, default: Any = None) -> Any:
        """The value of a field, unchecked."""
        return self.cfg.get(field, default)

    def refused(self, field: str, value: Any, why: str = "") -> CheckpointError:
        """The error for a field with a value that our towers do not compute."""
        why = why or _WHY.get(field, "no tower that we have computes this")
        return CheckpointError(f"model_cfg has {self.prefix}{field} {value!r:.200}: {why}")

    def check(self, values: Values, defaults: Mapping[str, Any] | None = None) -> None:
        """Refuse a field that `values` does not know, or that has none of its values there.

        `defaults` is what open_clip takes for fields that are absent and whose default is refused.
        """
        for field, value in {**self.cfg, **(defaults or {}), **self.cfg}.items():
            if field not in values:
                raise self.refused(field, value, _WHY.get(field, "this field is not known"))
            allowed = values[field]
            # By type as well: to Python, 0 and 1 are False and True.
            if allowed is not None and not any(value == known and type(value) is type(known) for known in allowed):
                raise self.refused(field, value)

    def whole(self, field: str, default: int | None = None) -> int:
        """A whole number, or a pair that gives it twice, as open_clip allows for the sides of pictures and patches."""
        value = self.get(field, default)
        first = value[0] if isinstance(value, list) and len(value) == 2 and value[0] == value[1] else value
        if type(first) is not int or not 0 < first <= _MAX_NUMBER:
            raise self.refused(field, value, f"this must be a whole number from 1 to {_MAX_NUMBER}")
        return first

    def text_tower(self) -> dict[str, Any]:
        """The sizes of a text tower, by our names."""
        width = self.whole("width", 512)
        return {
            "context_length": self.whole("context_length", 77),
            "vocab_size": self.whole("vocab_size", 49408),
            "width": width,
            "heads": self.whole("heads", 8),
            "layers": self.whole("layers", 12),
            "mlp_width": self.mlp_width(width),
            "norm_eps": self.norm_eps(),
        }

    def mlp_width(self, width: int) -> int | None:
        """Hidden units of the perceptrons; None where they are the usual four times the width."""
        ratio = self.get("mlp_ratio", 4.0)
        if type(ratio) not in (int, float) or not 0 < ratio < 100:
            raise self.refused("mlp_ratio", ratio, "this must be a number above 0")
        hidden = int(width * ratio)
        return None if hidden == 4 * width else hidden

    def norm_eps(self) -> float:
        """The epsilon of the LayerNorms."""
        norm = self.get("norm_kwargs") or {}
        if not isinstance(norm, Mapping) or set(norm) - {"eps"}:
            raise self.refused("norm_kwargs", norm, "of the norms only eps can be chosen")
        eps = norm.get("eps", 1e-5)
        if type(eps) not in (int, float) or not 0 <= eps < 1:
            raise self.refused("norm_kwargs", norm, "eps must be a number below 1")
        return float(eps)

    def activation(self, quick_gelu: bool) -> Activation:
        """The activation of a tower of open_clip's own."""
        arguments = self.get("act_kwargs") or {}
        known: dict[str, Activation] = {"tanh": "gelu_tanh", "none": "gelu"}
        if not arguments:
            return "quick_gelu" if quick_gelu else "gelu"
        approximate = arguments.get("approximate") if isinstance(arguments, Mapping) and len(arguments) == 1 else None
        if quick_gelu or not isinstance(approximate, str) or approximate not in known:
            raise self.refused("act_kwargs", arguments, "no activation that we have takes these")
        return known[approximate]
