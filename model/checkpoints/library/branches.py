"""Branches of convolutions that timm's towers have for training, made one convolution as timm does it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

_EXACT = 1e-5  # of any component of a vector: what the order of sums makes of the same vector is below
_FUSED = "reparam_conv"  # in the names of tensors that were made so
_METHODS = ("reparameterize", "switch_to_deploy")


def are_fused(names: Iterable[str]) -> bool:
    """Whether the tensors of those names are of a tower whose branches are one convolution."""
    return any(_FUSED in name for name in names)


def fuse(model: Any) -> None:
    """Replace timm's tower in a model of open_clip, with whatever weights it has, by one without branches."""
    from timm.utils.model import reparameterize_model

    model.visual.trunk = reparameterize_model(model.visual.trunk)


@torch.no_grad()
def fuse_where_exact(model: Any, side: int) -> None:
    """The same, where its vectors of pictures of noise of `side` pixels stay as they are."""
    trunk = getattr(model.visual, "trunk", None)
    if not isinstance(trunk, nn.Module) or not any(hasattr(m, name) for m in trunk.modules() for name in _METHODS):
        return
    pixels = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(0))
    before = F.normalize(model.visual(pixels), dim=-1)
    fuse(model)
    if not (F.normalize(model.visual(pixels), dim=-1) - before).abs().max() <= _EXACT:
        model.visual.trunk = trunk
