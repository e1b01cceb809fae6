"""Adapters (LoRA): changes to a model that is not with them, refused with the way to merge them into it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from model.checkpoints.checkpoint import CheckpointError
from model.checkpoints.folders import read_object

_CONFIG, _WEIGHTS = "adapter_config.json", "adapter_model."  # PEFT's
_TENSOR = re.compile(r"(?:^|[._])(?:lora_|lokr_|hada_|base_layer\.)")
_ENDINGS = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".index.json")


def refuse_adapter(folder: Path) -> None:
    """Raise CheckpointError where a folder holds an adapter, and no weights of a model beside it."""
    names = [file.name for file in folder.iterdir()]
    if _CONFIG not in names or any(name.endswith(_ENDINGS) and not name.startswith(_WEIGHTS) for name in names):
        return
    config = read_object(folder / _CONFIG) if (folder / _CONFIG).stat().st_size else {}
    base = config.get("base_model_name_or_path")
    base = base[:200] if isinstance(base, str) and base else None
    raise CheckpointError(
        f"{folder}: {_CONFIG} is of an adapter (LoRA), changes to {base or 'a model'}: merge them into it, save "
        f"that, and import it. {_how_to_merge(base, folder.name)}"
    )


def refuse_adapter_tensors(names: Iterable[object]) -> None:
    """Raise CheckpointError where tensors of such names are changes to a model."""
    found = [name for name in names if isinstance(name, str) and _TENSOR.search(name)]
    if found:
        raise CheckpointError(
            f"{found[0]:.200} and {len(found) - 1} others are those of an adapter (LoRA), changes to a model: "
            f"merge them into it, save that, and import it. {_how_to_merge(None, 'ADAPTER_FOLDER')}"
        )


def _how_to_merge(base: str | None, adapter: str) -> str:
    model = f"AutoModel.from_pretrained({base or 'MODEL'!r})"
    return (
        f"With transformers and PEFT: PeftModel.from_pretrained({model}, {adapter!r}).merge_and_unload()"
        '.save_pretrained("merged"), and copy the tokenizer and preprocessor_config.json of the model into "merged"'
    )
