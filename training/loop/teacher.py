"""A bundle that a smaller network learns from: its similarities of the same pictures and texts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from model.bundle import Bundle
from model.embedder import embed_texts
from model.runtime.engine import Engine


class Teacher:
    """Runs in the engine, on what the student sees."""

    def __init__(self, path: Path) -> None:
        bundle = Bundle.load(path)
        self._engine, self._tokenizer, self._size = Engine(bundle), bundle.tokenizer(), bundle.image_size

    def embed(self, rgb: Tensor, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Pictures [batch, 3, side, side] from 0 to 1 and texts -> their vectors of unit length, on the CPU."""
        resized = F.interpolate(rgb, size=(self._size, self._size), mode="bicubic", antialias=True)
        pixels = (resized.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().cpu()
        pictures = torch.from_numpy(self._engine.embed_images(pixels.numpy()))
        return pictures, torch.from_numpy(embed_texts(self._tokenizer, self._engine.embed_texts, texts))
