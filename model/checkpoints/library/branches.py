"""Weights of timm's towers whose branches of convolutions were made one before they were saved."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from model.export.simplified import FUSED


def are_fused(names: Iterable[str]) -> bool:
    """Whether the tensors of those names are of a tower whose branches are one convolution."""
    return any(FUSED in name for name in names)


def fuse(model: Any) -> None:
    """Replace timm's tower in a model of open_clip, with whatever weights it has, by one without branches."""
    from timm.utils.model import reparameterize_model

    model.visual.trunk = reparameterize_model(model.visual.trunk)
