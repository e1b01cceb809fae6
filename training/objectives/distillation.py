"""Distillation from a larger CLIP: its similarities of the same images and texts (TinyCLIP, Wu et al. 2023)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from model.bundle import Bundle
from model.embedder import embed_texts
from model.runtime.engine import DEVICE, Engine
from model.runtime.providers import Device
from training.config import ConfigError
from training.config import Objective as ObjectiveConfig
from training.config.captions import STORED
from training.objectives.objective import ALL, Features, LocalRows, cross_entropy, row_losses


class Teacher:
    """A bundle that runs in the engine, on what the student sees."""

    def __init__(self, path: Path, threads: int | None = None, device: Device = DEVICE) -> None:
        """`threads` of a CPU, by default all that the process has, or a GPU.

        Raises BundleError, EngineError, and ConfigError for one whose pictures are mixed for each text.
        """
        bundle = Bundle.load(path)
        if bundle.mixture is not None:
            raise ConfigError(
                f"objective.teacher: {bundle.id} has {bundle.mixture.tokens} vectors of a picture, which are mixed for "
                "each text: name a bundle with one"
            )
        self._engine = Engine(bundle, threads=threads, device=device)
        self._tokenizer, self._size = bundle.tokenizer(), bundle.image_size

    def embed(self, rgb: Tensor, texts: Sequence[str]) -> Features:
        """Images [batch, 3, side, side] from 0 to 1, and texts -> their features of unit length, on the CPU."""
        resized = F.interpolate(rgb, size=(self._size, self._size), mode="bicubic", antialias=True)
        pixels = (resized.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().cpu()
        image = torch.from_numpy(self._engine.embed_images(pixels.numpy()))
        return image, torch.from_numpy(embed_texts(self._tokenizer, self._engine.embed_texts, texts))


class Distillation:
    """The loss that a teacher adds to the objective, and the teacher."""

    def __init__(self, config: ObjectiveConfig, threads: int | None = None, device: Device = DEVICE) -> None:
        """`config` must name a teacher, which runs on `threads` or `device`; of a stored one there are vectors only.

        Raises BundleError and EngineError.
        """
        assert config.teacher is not None
        self.teacher = None if config.teacher == STORED else Teacher(Path(config.teacher), threads, device)
        self._weight, self._scale = config.teacher_weight, config.teacher_scale

    def loss(self, student: Features, logit_scale: Tensor, teacher: Features, local: LocalRows) -> Tensor:
        """The share of `local` in the weighted loss, by the features of the whole batch."""
        return self._weight * affinity_loss(student, logit_scale, teacher, self._scale, local)


def affinity_loss(
    student: Features, logit_scale: Tensor, teacher: Features, teacher_scale: float, local: LocalRows = ALL
) -> Tensor:
    """How far similarities are from a teacher's: the mean of both directions' cross-entropies.

    Both are given as image [images, dim] and text [texts, dim] of unit length; their dimensions may differ.
    Affinity mimicking of TinyCLIP (equation 3), without the constant of the teacher's own entropy.
    """
    (image, text), (teacher_image, teacher_text) = student, teacher

    def by_image_of(rows: slice) -> Tensor:
        target = (teacher_scale * teacher_image[rows] @ teacher_text.T).softmax(dim=1)
        return cross_entropy(logit_scale * image[rows] @ text.T, target)

    def by_text_of(rows: slice) -> Tensor:
        target = (teacher_scale * teacher_text[rows] @ teacher_image.T).softmax(dim=1)
        return cross_entropy(logit_scale * text[rows] @ image.T, target)

    by_image = row_losses(by_image_of, local.images, (len(image), len(text)))
    by_text = row_losses(by_text_of, local.texts, (len(text), len(image)))
    return (by_image.sum() / len(image) + by_text.sum() / len(text)) / 2
