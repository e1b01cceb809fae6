"""A bundle -> a folder that open_clip loads with the same outputs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from model.bundle import Bundle
from model.checkpoints import pixels
from model.checkpoints.checkpoint import CheckpointError
from model.checkpoints.folders import FORMAT, new_folder, write_object
from model.checkpoints.restoring import load_network
from model.config import Activation, ModelConfig, ResNetConfig, TextConfig, ViTConfig
from model.export.tensors import write_tensors
from model.manifest import TOKENIZER
from model.tokenizers.clip import CLIP_VOCAB_SIZE, END_OF_TEXT, START_OF_TEXT, Tokenizer

CONFIG = "open_clip_config.json"
WEIGHTS = "open_clip_model.safetensors"
README = "README.md"

_ACT_KWARGS: dict[Activation, dict[str, Any]] = {
    "quick_gelu": {},
    "gelu": {},
    "gelu_tanh": {"act_kwargs": {"approximate": "tanh"}},
}


def write_folder(bundle: Bundle, folder: Path) -> None:
    """Write a hub folder that open_clip loads with the same outputs; `folder` must be new or empty.

    Raises CheckpointError naming the layer that open_clip has no counterpart of.
    """
    own_tokenizer = not _has_clips_tokenizer(bundle)
    model_cfg = to_model_cfg(bundle.manifest.config, bundle.id if own_tokenizer else None)
    network = load_network(bundle)
    with new_folder(folder) as draft:
        preprocess_cfg = pixels.to_openclip(bundle.preprocessing)
        write_object(draft / CONFIG, {"model_cfg": model_cfg, "preprocess_cfg": preprocess_cfg})
        write_tensors(network.state_dict(), draft / WEIGHTS, FORMAT)
        if own_tokenizer:
            _write_tokenizer(bundle, draft)
        (draft / README).write_text(_readme(bundle, own_tokenizer), "utf-8")


def to_model_cfg(config: ModelConfig, tokenizer: str | None = None) -> dict[str, Any]:
    """The `model_cfg` whose towers have the names, shapes and outputs of ours.

    `tokenizer` names one that is not CLIP's: from a folder, open_clip reads the folder's under any name.
    Raises CheckpointError where there is none.
    """
    image, text = config.image, config.text
    if not isinstance(image, ViTConfig | ResNetConfig) or not isinstance(text, TextConfig):
        raise CheckpointError(
            "visual.pool: open_clip takes SigLIP's image tower from timm, under other names: "
            "use --format huggingface, which transformers loads"
        )
    if isinstance(image, ResNetConfig) and image.block != "bottleneck":
        raise CheckpointError(
            "visual.layer1.0 is a basic block of two convolutions, of which open_clip has no counterpart: "
            "only bottlenecks can be written"
        )
    if isinstance(image, ResNetConfig) and image.stem != "deep":
        raise CheckpointError(
            "visual.conv2 is the end of a strided stem, of which open_clip has no counterpart: only deep stems can be "
            "written"
        )
    text_activation = config.text_activation or config.activation
    # The convolutional tower has an activation of its own, which is always the same.
    image_activation = text_activation if isinstance(image, ResNetConfig) else config.activation
    if (image_activation == "quick_gelu") != (text_activation == "quick_gelu"):
        raise CheckpointError(
            f"open_clip has no {image_activation} in the image tower beside {text_activation} in the text tower"
        )
    return {
        "embed_dim": config.embed_dim,
        "quick_gelu": text_activation == "quick_gelu",
        "vision_cfg": _vision_cfg(image) | _ACT_KWARGS[image_activation],
        "text_cfg": _text_cfg(tokenizer, text) | _ACT_KWARGS[text_activation],
    }


def _vision_cfg(image: ViTConfig | ResNetConfig) -> dict[str, Any]:
    if isinstance(image, ResNetConfig):
        head_width = image.features // image.heads
        sizes = {"layers": list(image.layers), "width": image.width, "head_width": head_width, "patch_size": None}
        return {"image_size": image.image_size, **sizes}
    return {
        "image_size": image.image_size,
        "layers": image.layers,
        "width": image.width,
        "head_width": image.width // image.heads,
        "patch_size": image.patch_size,
        **_block_cfg(image),
    }


def _text_cfg(tokenizer: str | None, text: TextConfig) -> dict[str, Any]:
    return {
        "context_length": text.context_length,
        "vocab_size": text.vocab_size,
        **({"hf_tokenizer_name": tokenizer, "tokenizer_kwargs": {"clean": "lower"}} if tokenizer else {}),
        "width": text.width,
        "heads": text.heads,
        "layers": text.layers,
        **_block_cfg(text),
    }


def _block_cfg(tower: ViTConfig | TextConfig) -> dict[str, Any]:
    cfg: dict[str, Any] = {}
    if tower.mlp_width is not None:
        ratio = tower.mlp_width / tower.width
        # They take the whole part of the product, which rounding may have left just below.
        cfg["mlp_ratio"] = ratio if int(tower.width * ratio) == tower.mlp_width else ratio + 0.5 / tower.width
    if tower.norm_eps != TextConfig.model_fields["norm_eps"].default:
        cfg["norm_kwargs"] = {"eps": tower.norm_eps}
    return cfg


def _has_clips_tokenizer(bundle: Bundle) -> bool:
    if bundle.manifest.config.text.vocab_size != CLIP_VOCAB_SIZE:
        return False
    clips = json.loads(Tokenizer.clip().as_json)
    return bool(json.loads(bundle.read(TOKENIZER))["model"] == clips["model"])


def _write_tokenizer(bundle: Bundle, folder: Path) -> None:
    """The bundle's tokenizer as the files that transformers, which open_clip asks for it, reads."""
    content = json.loads(bundle.read(TOKENIZER))
    # open_clip has cleaned the text exactly by then; composing characters once more would change what entities spell.
    cleaning = content["normalizer"]["normalizers"]
    content["normalizer"]["normalizers"] = [step for step in cleaning if step["type"] != "NFC"]
    write_object(folder / TOKENIZER, content)
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": bundle.context_length,
        "bos_token": START_OF_TEXT,
        "eos_token": END_OF_TEXT,
        # After the end of the text nothing is looked at, so that its mark can fill the rest of a row.
        "pad_token": END_OF_TEXT,
    }
    write_object(folder / "tokenizer_config.json", settings)


def _readme(bundle: Bundle, own_tokenizer: bool) -> str:
    source = bundle.manifest.source
    lines = [
        f"# {bundle.id}",
        "",
        f"Written from the Sightword bundle `{bundle.id}`, digest `{bundle.digest}`, for open_clip 3.3 or later.",
    ]
    if source:
        known = ", ".join(f"{key} {value}" for key, value in source.items() if isinstance(value, str | int | float))
        lines += [f"Its source: {known or 'see the manifest of the bundle'}."]
    lines += [
        "",
        "```python",
        "import open_clip",
        "",
        'where = "local-dir:/path/of/this/folder"',
        "model, _, preprocess = open_clip.create_model_and_transforms(where)",
        "tokenizer = open_clip.get_tokenizer(where)",
        "```",
        "",
        "Vectors are those of the bundle for the same pixels and tokens. What differs around them:",
        "",
        *_pixel_differences(bundle),
        "- open_clip cuts a long text without saying so, and reads control tokens that are spelt out in a text.",
    ]
    if own_tokenizer:
        lines += [
            "- The tokenizer is not the usual one. From a folder, open_clip finds it there; before you upload the "
            "folder to a hub, set `hf_tokenizer_name` to the name of your repository."
        ]
    return "\n".join(lines) + "\n"


def _pixel_differences(bundle: Bundle) -> list[str]:
    preprocessing = bundle.preprocessing
    lines = []
    if preprocessing.exif_orientation:
        lines.append("- open_clip does not turn pictures upright by their EXIF orientation, the bundle does.")
    if preprocessing.alpha == "white":
        lines.append("- open_clip drops transparency, the bundle puts it on white.")
    if preprocessing.crop == "floor":
        lines.append("- The bundle crops as transformers does, open_clip as torchvision: at times one pixel apart.")
    return lines
