"""Losses of large batches in chunks of rows: the same to rounding, in the memory of a chunk."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from training.data.collate import Batch
from training.data.matches import match_drawn
from training.objectives import objective
from training.objectives.contrastive import contrastive_loss
from training.objectives.distillation import affinity_loss
from training.objectives.objective import ALL, LocalRows
from training.objectives.rank import consistency_losses
from training.objectives.sigmoid import sigmoid_loss

IMAGES, TEXTS, DIM = 50, 37, 16
PART = LocalRows(slice(10, 41), slice(5, 30))
Loss = Callable[[Tensor, Tensor, Tensor, Tensor, LocalRows], Tensor]


def unit(count: int, seed: int) -> Tensor:
    return F.normalize(torch.randn(count, DIM, generator=torch.Generator().manual_seed(seed)), dim=-1)


drawn = torch.arange(IMAGES) % TEXTS
POSITIVE = F.one_hot(drawn, TEXTS).bool()
IGNORED = (torch.rand(IMAGES, TEXTS, generator=torch.Generator().manual_seed(9)) < 0.1) & ~POSITIVE
COUNTS = torch.bincount(drawn, minlength=TEXTS)
BATCH = Batch(np.arange(IMAGES), [""] * TEXTS, drawn, COUNTS, match_drawn(drawn.numpy(), TEXTS))
LOSSES: dict[str, Loss] = {
    "rank": lambda image, text, scale, bias, rows: (
        consistency_losses(image, text, scale, BATCH, (0.3, 0.7), rows.images).sum() + 0 * bias
    ),
    "contrastive": lambda image, text, scale, bias, rows: (
        contrastive_loss(image, text, scale, POSITIVE, IGNORED, COUNTS, rows) + 0 * bias
    ),
    "sigmoid": lambda image, text, scale, bias, rows: sigmoid_loss(image, text, scale, bias, POSITIVE, IGNORED, rows),
    "affinity": lambda image, text, scale, bias, rows: (
        affinity_loss((image, text), scale, (unit(IMAGES, 3), unit(TEXTS, 4)), 20, rows) + 0 * bias
    ),
}


def gradients(loss: Loss, rows: LocalRows) -> tuple[list[Tensor], int]:
    """The loss, its gradients, and the largest number of elements that was kept for the way back."""
    leaves = [
        each.requires_grad_() for each in (unit(IMAGES, 0), unit(TEXTS, 1), torch.tensor(12.0), torch.tensor(-3.0))
    ]
    kept: list[int] = [0]
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.numel()) or t, lambda t: t):
        value = loss(*leaves, rows)
    return [value.detach(), *torch.autograd.grad(value, leaves)], sum(kept)


@pytest.mark.parametrize("rows", [ALL, PART], ids=["all", "part"])
@pytest.mark.parametrize("name", LOSSES)
def test_chunks_of_rows_have_the_same_loss_and_gradients_in_less_memory(
    monkeypatch: pytest.MonkeyPatch, name: str, rows: LocalRows
) -> None:
    whole, most = gradients(LOSSES[name], rows)
    monkeypatch.setattr(objective, "MAX_SIMILARITIES", 4 * TEXTS)
    chunked, least = gradients(LOSSES[name], rows)
    for one, other in zip(whole, chunked, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-5, atol=1e-6)
    assert least < 0.5 * most  # that of features: similarities are not kept at all


@pytest.mark.parametrize(("most", "calls"), [(IMAGES * TEXTS, 1), (IMAGES * TEXTS - 1, 2), (1, IMAGES)])
def test_rows_are_taken_at_once_where_they_fit(monkeypatch: pytest.MonkeyPatch, most: int, calls: int) -> None:
    monkeypatch.setattr(objective, "MAX_SIMILARITIES", most)
    seen: list[slice] = []

    def losses(rows: slice) -> Tensor:
        seen.append(rows)
        return torch.arange(IMAGES)[rows].float()

    assert torch.equal(objective.row_losses(losses, slice(None), (IMAGES, TEXTS)), torch.arange(IMAGES).float())
    assert len(seen) == calls
