"""Features of a step's micro-batches, and their gradients on the way back through the towers.

With several micro-batches the features are computed without a graph, the loss is taken of all of them, and then each
micro-batch is computed again with its graph and given the gradients of its features (GradCache, Gao et al. 2021): the
gradients of the whole batch in the memory of one micro-batch, for a second forward pass.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from model.network.gradient_checkpointing import frozen_statistics
from training.loop.augmenter import Augmenter
from training.loop.loader import MicroBatch, StepInputs
from training.loop.precision import ComputePrecision, autocast
from training.loop.towers import SharedTowers
from training.objectives.distillation import Teacher
from training.objectives.objective import Features

Gradients = tuple[Tensor | None, Tensor | None]  # of the features; None for a tower that is frozen


class GradientCache:
    """Encodes the micro-batches of one process, forwards and backwards."""

    def __init__(
        self, towers: SharedTowers, augmenter: Augmenter, precision: ComputePrecision, device: torch.device
    ) -> None:
        self._towers, self._augmenter = towers, augmenter
        self._precision, self._device = precision, device
        self._with_graph: Features | None = None  # where there is one micro-batch

    def forward(self, inputs: StepInputs) -> Features:
        """The features of all micro-batches, without their graph: [local images, dim] and [local texts, dim]."""
        if len(inputs.micro_batches) == 1:
            self._with_graph = image, text = self._encode(inputs.micro_batches[0], inputs.step, self._towers.module)
            return image.detach(), text.detach()
        with torch.no_grad(), frozen_statistics(self._towers.towers):
            parts = [self._encode(part, inputs.step, self._towers.towers) for part in inputs.micro_batches]
        return _concatenate(parts)

    def backward(self, inputs: StepInputs, gradients: Gradients) -> None:
        """Give the towers the gradients of the features that `forward` made of the same inputs."""
        if self._with_graph is not None:
            features, self._with_graph = self._with_graph, None
            _backward(features, gradients)
            return
        done = [0, 0]
        for number, micro_batch in enumerate(inputs.micro_batches):
            with self._towers.gradient_sync(enabled=number == len(inputs.micro_batches) - 1):
                features = self._encode(micro_batch, inputs.step, self._towers.module)
                ends = [start + len(each) for start, each in zip(done, features, strict=True)]
                image, text = (
                    None if gradient is None else gradient[start:end]
                    for gradient, start, end in zip(gradients, done, ends, strict=True)
                )
                _backward(features, (image, text))
            done = ends

    @torch.no_grad()
    def teacher_features(self, inputs: StepInputs, teacher: Teacher | None) -> Features:
        """What a teacher makes of the very images and texts that the towers see; without one, what was stored."""
        parts = []
        for micro_batch in inputs.micro_batches:
            if teacher is None:
                assert micro_batch.teacher is not None
                image, text = micro_batch.teacher
                parts.append((image.to(self._device), text.to(self._device)))
                continue
            image, text = teacher.embed(self._augmenter.augment(micro_batch, inputs.step), micro_batch.texts)
            parts.append((image.to(self._device), text[: micro_batch.text_count].to(self._device)))
        return _concatenate(parts)

    def _encode(self, micro_batch: MicroBatch, step: int, towers: nn.Module) -> Features:
        rgb = self._augmenter.augment(micro_batch, step)
        kept = None if micro_batch.kept is None else micro_batch.kept.to(self._device, non_blocking=True)
        token_ids = [ids.to(self._device, non_blocking=True) for ids in micro_batch.token_ids]
        text_order = micro_batch.text_order.to(self._device, non_blocking=True)
        with autocast(self._precision, self._device):
            image, text = towers(rgb, kept, token_ids, text_order)
        return image, text[: micro_batch.text_count]


def _concatenate(parts: list[Features]) -> Features:
    return torch.cat([image for image, _ in parts]), torch.cat([text for _, text in parts])


def _backward(features: Features, gradients: Gradients) -> None:
    pairs = [(f, g) for f, g in zip(features, gradients, strict=True) if f.requires_grad and g is not None]
    if pairs:
        torch.autograd.backward([feature for feature, _ in pairs], [gradient for _, gradient in pairs])
