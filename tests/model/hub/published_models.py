"""Small models of random weights as their projects publish them."""

from __future__ import annotations

from pathlib import Path

from tests.model.checkpoints.transformers import clip_models

NAME = "an-org/a-model"


def save_huggingface(folder: Path) -> Path:
    """A CLIPModel that transformers wrote, with files beside it that nobody needs."""
    model = clip_models.random_model(clip_models.small_text(), clip_models.small_vision())
    clip_models.save(model, folder, clip_models.clip_tokenizer(1024))
    (folder / "README.md").write_text("# A model\n")
    (folder / "pytorch_model.bin").write_bytes(b"the same weights in another format" * 1000)
    return folder
