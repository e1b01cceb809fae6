"""The interface of a loss, and what every loss shares: the part of the batch that one process answers for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from model.network import Network
from training.data.collate import Batch, Masks

Features = tuple[Tensor, Tensor]  # of images [images, dim] and of texts [texts, dim], of unit length
MaskRows = Callable[[slice], Masks]  # of some of the images, or of the texts, and all of the others [rows, others]


# Similarities that are held at once: 64 MiB in float32, and a few times that with what a softmax keeps of them.
MAX_SIMILARITIES = 2**24


@dataclass(frozen=True)
class LocalRows:
    """The images and texts of a batch whose similarities to all others one process computes."""

    images: slice
    texts: slice


ALL = LocalRows(slice(None), slice(None))


class Objective(Protocol):
    """A loss between the images and texts of a batch; its learned scalars are parameters of the network."""

    def initialize(self, network: Network) -> None:
        """Give the network the scalars of this loss where it lacks them. Raises ConfigError if it does not suit."""

    def loss(self, features: Features, network: Network, batch: Batch, local: LocalRows, progress: float) -> Tensor:
        """The share of the loss that is of `local`: the shares of all processes add up to the loss of the batch.

        `features` are of the whole batch, `progress` is the share of all steps that are done, from 0 to below 1.
        """

    def image_losses(self, features: Features, network: Network, batch: Batch) -> Tensor:
        """What each image [images] adds to the loss, before the mean: to find those that stand out."""


def mask_rows(positive: Tensor, ignored: Tensor) -> MaskRows:
    """Rows of masks that are dense."""
    return lambda rows: Masks(positive[rows], ignored[rows])


def row_losses(losses: Callable[[slice], Tensor], rows: slice, shape: tuple[int, int]) -> Tensor:
    """`losses` of the `rows` of a matrix of similarities [all rows, columns] of that `shape`: [rows].

    Where that is larger than MAX_SIMILARITIES, they are taken in chunks of rows, whose similarities are computed a
    second time for the gradient: memory is that of a chunk, whatever the batch.
    """
    start, stop, _ = rows.indices(shape[0])
    size = max(1, MAX_SIMILARITIES // max(1, shape[1]))
    if stop - start <= size:
        return losses(rows)
    chunks = [slice(first, min(first + size, stop)) for first in range(start, stop, size)]
    parts = [checkpoint(losses, chunk, use_reentrant=False, preserve_rng_state=False) for chunk in chunks]
    return torch.cat(parts)


def weighted_share(losses: Tensor, weights: Tensor, rows: slice) -> Tensor:
    """What the losses of `rows` add to the mean over all, weighted by `weights` [all]."""
    return (losses * weights[rows]).sum() / weights.sum().clamp(min=1)


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Of every row of `logits` [rows, columns] with the probabilities `targets` of the same shape: [rows]."""
    return -(targets * logits.log_softmax(dim=1)).sum(dim=1)
