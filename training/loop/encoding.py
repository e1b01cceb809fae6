"""Vectors of a step's chunks, and the way back.

With several chunks the vectors are computed without a graph, the loss is taken of all of them, and then each chunk is
computed again with its graph and given the gradients of its vectors (GradCache, Gao et al. 2021): the gradients of the
whole batch in the memory of one chunk, for a second forward pass.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from model.network.gradient_checkpointing import frozen_statistics
from training.loop.loading import Chunk, Presenting
from training.loop.precision import Chosen, autocast
from training.loop.teacher import Teacher
from training.loop.towers import SharedTowers

Vectors = tuple[Tensor, Tensor]  # [pictures, dim] and [texts, dim]
Gradients = tuple[Tensor | None, Tensor | None]


class Encoding:
    """The chunks of one step on their way through the towers, and a teacher's vectors of them."""

    def __init__(self, towers: SharedTowers, presenting: Presenting, precision: Chosen, device: torch.device) -> None:
        self._towers, self._presenting = towers, presenting
        self._precision, self._device = precision, device
        self._with_graph: Vectors | None = None  # where there is one chunk

    def forward(self, chunks: Sequence[Chunk], step: int) -> Vectors:
        """The vectors of all chunks, without their graph."""
        if len(chunks) == 1:
            self._with_graph = image, text = self._encode(chunks[0], step, self._towers.module)
            return image.detach(), text.detach()
        with torch.no_grad(), frozen_statistics(self._towers.alone):
            return _joined([self._encode(chunk, step, self._towers.alone) for chunk in chunks])

    def backward(self, chunks: Sequence[Chunk], step: int, gradients: Gradients) -> None:
        """Give the towers the gradients of the vectors that `forward` made of the same chunks."""
        if self._with_graph is not None:
            vectors, self._with_graph = self._with_graph, None
            _backward(vectors, gradients)
            return
        done = [0, 0]
        for number, chunk in enumerate(chunks):
            with self._towers.summing(now=number == len(chunks) - 1):
                vectors = self._encode(chunk, step, self._towers.module)
                ends = [start + len(made) for start, made in zip(done, vectors, strict=True)]
                image, text = (
                    None if gradient is None else gradient[start:end]
                    for gradient, start, end in zip(gradients, done, ends, strict=True)
                )
                _backward(vectors, (image, text))
            done = ends

    @torch.no_grad()
    def taught(self, chunks: Sequence[Chunk], step: int, teacher: Teacher) -> Vectors:
        """What a teacher makes of what the towers see."""
        made = []
        for chunk in chunks:
            image, text = teacher.embed(self._presenting.augmented(chunk, step), chunk.texts)
            made.append((image.to(self._device), text[: _texts(chunk)].to(self._device)))
        return _joined(made)

    def _encode(self, chunk: Chunk, step: int, module: nn.Module) -> Vectors:
        rgb, kept = self._presenting.augmented(chunk, step), self._presenting.kept_patches(chunk, step)
        token_ids = [ids.to(self._device, non_blocking=True) for ids in chunk.token_ids]
        with autocast(self._precision, self._device):
            image, text = module(rgb, kept, token_ids, chunk.order.to(self._device))
        return image, text[: _texts(chunk)]


def _texts(chunk: Chunk) -> int:
    count: int = chunk.columns.stop - chunk.columns.start
    return count


def _joined(parts: list[Vectors]) -> Vectors:
    return torch.cat([image for image, _ in parts]), torch.cat([text for _, text in parts])


def _backward(vectors: Vectors, gradients: Gradients) -> None:
    pairs = [(v, g) for v, g in zip(vectors, gradients, strict=True) if v.requires_grad and g is not None]
    if pairs:
        torch.autograd.backward([vector for vector, _ in pairs], [gradient for _, gradient in pairs])
