"""Augmentation of many images at once: a loop over images would take as long as the step itself.

What a GPU is given to do never depends on what it has computed: it would have to be waited for.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F

from training.data.transfer import send
from training.data.variation import BLURS, Variation


def augmenting_bytes(store: int, side: int) -> int:
    """About how much memory `augment` takes for an image, at most."""
    return 4 * (8 * store**2 + 25 * side**2)  # in float32: two copies of RGBA, and eight of RGB


def augment(pixels: Tensor, variation: Variation, side: int) -> Tensor:
    """RGBA [images, store, store, 4] uint8 -> RGB [images, 3, side, side] float in [0, 1], all on one device."""
    rgba = pixels.permute(0, 3, 1, 2).float() / 255
    rgba[:, :3] *= rgba[:, 3:]  # premultiplied, so that edges blend without fringes
    grid = F.affine_grid(variation.boxes, [len(rgba), 4, side, side], align_corners=False)
    cut = F.grid_sample(rgba, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    rgb = cut[:, :3] + (1 - cut[:, 3:]) * _backgrounds(cut, variation)
    rgb = _blur(_jitter_colours(rgb, variation.jitter), variation.blurred)
    return _erase(rgb, variation).clamp(0, 1)


def _backgrounds(cut: Tensor, variation: Variation) -> Tensor:
    """What shows through [images, 3, side, side]: one colour, a gradient, or another image."""
    first, second = variation.colours.unbind(1)
    ramp = torch.linspace(0, 1, cut.shape[2], device=cut.device).view(1, 1, -1, 1)
    return torch.where(variation.shows_behind, cut[variation.behind, :3], first + (second - first) * ramp)


def _jitter_colours(rgb: Tensor, factors: Tensor) -> Tensor:
    brightness, contrast, saturation = factors.unbind(1)
    luma = (rgb * _luma_weights(rgb.device)).sum(1, keepdim=True)
    mean = luma.mean((2, 3), keepdim=True)
    return ((luma + (rgb - luma) * saturation - mean) * contrast + mean) * brightness


@cache
def _luma_weights(device: torch.device) -> Tensor:
    return torch.tensor([0.299, 0.587, 0.114], device=device).view(1, 3, 1, 1)


def _blur(rgb: Tensor, chosen: Tensor) -> Tensor:
    """The images of each of BLURS that are `chosen` [images, blurs], on the CPU, as if they had been smaller."""
    for number, factor in enumerate(BLURS):
        rows = send(torch.nonzero(chosen[:, number]).flatten(), rgb.device)
        small = F.interpolate(rgb[rows], scale_factor=1 / factor, mode="area")
        rgb[rows] = F.interpolate(small, size=rgb.shape[-2:], mode="bilinear")
    return rgb


def _erase(rgb: Tensor, variation: Variation) -> Tensor:
    """A rectangle of the images that are to be erased becomes grey, so that no single part is relied on."""
    at = torch.linspace(0, 1, rgb.shape[-1], device=rgb.device)
    y, half_height, x, half_width = variation.bands.unbind(1)
    hole = ((at - y).abs() < half_height).unsqueeze(2) & ((at - x).abs() < half_width).unsqueeze(1)
    return torch.where(hole.unsqueeze(1) & variation.erased, 0.5, rgb)
