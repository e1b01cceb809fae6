"""Learned position embeddings of a square grid, resized when a picture is larger or smaller than in training."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def resize_positions(positions: Tensor, grid: int) -> Tensor:
    """Resize [1 + old_grid², width] to [1 + grid², width]; the first row, class token or mean, is kept.

    Bicubic with anti-aliasing, as open_clip does. Returns the argument where the grid is the same.
    """
    old_grid = round((positions.shape[0] - 1) ** 0.5)
    if old_grid == grid:
        return positions
    first, rest = positions[:1], positions[1:]
    plane = rest.float().reshape(1, old_grid, old_grid, -1).permute(0, 3, 1, 2)
    plane = F.interpolate(plane, size=(grid, grid), mode="bicubic", antialias=True, align_corners=False)
    resized = plane.permute(0, 2, 3, 1).reshape(grid * grid, -1).to(first.dtype)
    return torch.cat([first, resized])
