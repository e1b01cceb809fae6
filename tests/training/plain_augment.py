"""Augmentation of a whole batch at once: a loop over images would take as long as the step itself."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from training.config import Augmentation

DEFAULTS = Augmentation()


def augment(
    pixels: Tensor,
    aspects: Tensor,
    transparent: Tensor,
    side: int,
    min_crop: float,
    generator: torch.Generator,
    config: Augmentation = DEFAULTS,
) -> Tensor:
    """RGBA [batch, store, store, 4] uint8 -> RGB [batch, 3, side, side] float in [0, 1].

    `aspects` [batch] undoes the squeeze of the store; `transparent` [batch] images are set on varied backgrounds;
    `min_crop` is the smallest area of a crop, as a share of the image.
    """
    rgba = pixels.permute(0, 3, 1, 2).float() / 255
    rgba[:, :3] *= rgba[:, 3:]  # premultiplied, so that edges blend without fringes
    boxes = _crops(aspects, transparent, min_crop, config, generator)
    grid = F.affine_grid(boxes, [len(rgba), 4, side, side], align_corners=False)
    cut = F.grid_sample(rgba, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    rgb = cut[:, :3] + (1 - cut[:, 3:]) * _backgrounds(cut, transparent, generator)
    rgb = _blur(_jitter_colours(rgb, config, generator), config.blur, generator)
    return _erase(rgb, config.erasing, generator).clamp(0, 1)


def _uniform(count: int, low: float, high: float, generator: torch.Generator) -> Tensor:
    return torch.rand(count, generator=generator) * (high - low) + low


def _factor(count: int, strength: float, generator: torch.Generator) -> Tensor:
    return _uniform(count, 1 - strength, 1 + strength, generator)


def _chance(count: int, share: float, generator: torch.Generator) -> Tensor:
    return torch.rand(count, generator=generator) < share


def _crops(
    aspects: Tensor, transparent: Tensor, min_crop: float, config: Augmentation, generator: torch.Generator
) -> Tensor:
    """Affine matrices [batch, 2, 3] of random resized crops, in the coordinates of the squeezed squares."""
    count = len(aspects)
    area = _uniform(count, min_crop, 1.0, generator) * aspects
    ratio = torch.exp(_uniform(count, -1.0, 1.0, generator) * torch.log(torch.tensor(config.crop_aspect)))
    width = torch.minimum(torch.sqrt(area * ratio), aspects)
    height = torch.minimum(torch.sqrt(area / ratio), torch.ones(count))
    # A side that the image cut short cuts the other: what is served is never squeezed more than that either.
    aspect = config.crop_aspect
    width, height = torch.minimum(width, aspect * height) / aspects, torch.minimum(height, aspect * width)
    zoom = torch.where(transparent, _uniform(count, 1.0, config.zoom_out, generator), torch.ones(count))
    width, height = width * zoom, height * zoom
    x = _uniform(count, -1.0, 1.0, generator) * (1 - width).abs()
    y = _uniform(count, -1.0, 1.0, generator) * (1 - height).abs()
    flip = torch.where(_chance(count, config.horizontal_flip, generator), -1.0, 1.0)
    zero = torch.zeros(count)
    return torch.stack([torch.stack([flip * width, zero, x], 1), torch.stack([zero, height, y], 1)], 1)


def _backgrounds(cut: Tensor, transparent: Tensor, generator: torch.Generator) -> Tensor:
    """What shows through [batch, 3, side, side]: white, one colour, a gradient, or another image of the batch."""
    count, _, side, _ = cut.shape
    first = torch.rand(count, 3, 1, 1, generator=generator)
    second = torch.rand(count, 3, 1, 1, generator=generator)
    ramp = torch.linspace(0, 1, side).view(1, 1, side, 1)
    kind = torch.rand(count, generator=generator).view(-1, 1, 1, 1)
    plain = torch.where(kind < 0.3, torch.ones_like(first), first)
    gradient = first + (second - first) * ramp
    background = torch.where(kind < 0.5, plain.expand(-1, -1, side, side), gradient)
    opaque = torch.nonzero(~transparent).flatten()
    if len(opaque):
        other = cut[opaque[torch.randint(len(opaque), (count,), generator=generator)], :3]
        background = torch.where(kind > 0.6, other, background)
    return background


def _jitter_colours(rgb: Tensor, config: Augmentation, generator: torch.Generator) -> Tensor:
    count = len(rgb)
    brightness = _factor(count, config.brightness, generator).view(-1, 1, 1, 1)
    contrast = _factor(count, config.contrast, generator).view(-1, 1, 1, 1)
    saturation = _factor(count, config.saturation, generator)
    saturation = torch.where(_chance(count, config.grayscale, generator), torch.zeros(count), saturation).view(
        -1, 1, 1, 1
    )
    luma = (rgb * torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1, keepdim=True)
    mean = luma.mean((2, 3), keepdim=True)
    return ((luma + (rgb - luma) * saturation - mean) * contrast + mean) * brightness


def _blur(rgb: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """A share of the images as if they had been smaller, half of them by two, half by three."""
    for factor in (2, 3):
        chosen = torch.nonzero(_chance(len(rgb), share / 2, generator)).flatten()
        small = F.interpolate(rgb[chosen], scale_factor=1 / factor, mode="area")
        rgb[chosen] = F.interpolate(small, size=rgb.shape[-2:], mode="bilinear")
    return rgb


def _erase(rgb: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """A rectangle of a share of the images becomes grey, so that no single part is relied on."""
    count, _, side, _ = rgb.shape
    at = torch.linspace(0, 1, side)

    def band() -> Tensor:
        centre, half = _uniform(count, 0, 1, generator), _uniform(count, 0.08, 0.25, generator)
        return (at - centre.view(-1, 1)).abs() < half.view(-1, 1)

    hole = band().view(count, 1, side, 1) & band().view(count, 1, 1, side)
    hole &= _chance(count, share, generator).view(-1, 1, 1, 1)
    return torch.where(hole, torch.full_like(rgb, 0.5), rgb)
