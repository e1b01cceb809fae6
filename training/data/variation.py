"""How the images of a batch are varied, drawn at random on the CPU, block by block with a seed of its own.

So an image looks the same on every device and in whatever company, and a GPU gets all of it at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from training.config import Augmentation

DEFAULTS = Augmentation()
BLURS = (2, 3)  # so much smaller images are taken to have been


@dataclass(frozen=True)
class Block:
    """Neighbouring images of a batch, and the seed of all that is drawn at random for them."""

    count: int
    seed: int


@dataclass(frozen=True)
class Variation:
    """How each of some images is varied; on the device of these, but `blurred` on the CPU, which needs to know it."""

    boxes: Tensor  # [images, 2, 3] affine matrices of the crops, in the coordinates of the squeezed squares
    colours: Tensor  # [images, 2, 3, 1, 1] of the background, at the top and at the bottom
    behind: Tensor  # [images] the number of an image that may be the background
    shows_behind: Tensor  # [images, 1, 1, 1] bool: whether it is
    jitter: Tensor  # [images, 3, 1, 1, 1] factors of brightness, contrast and saturation
    bands: Tensor  # [images, 4, 1] a rectangle as shares of the side: centre and half of its height, then of its width
    erased: Tensor  # [images, 1, 1, 1] bool: whether that becomes grey
    blurred: Tensor  # [images, blurs] bool

    def map(self, change: Callable[[Tensor], Tensor]) -> Variation:
        """With every tensor changed but `blurred`."""
        parts = {field.name: getattr(self, field.name) for field in fields(self)}
        return Variation(**{name: part if name == "blurred" else change(part) for name, part in parts.items()})

    def of(self, images: slice) -> Variation:
        """That of neighbouring images in whole blocks: the background of one may be another of its block."""
        parts = {field.name: getattr(self, field.name)[images] for field in fields(self)}
        return Variation(**{**parts, "behind": parts["behind"] - images.start})


def draw_variation(
    aspects: Tensor,
    transparent: Tensor,
    blocks: Sequence[Block],
    min_crop: float,
    config: Augmentation = DEFAULTS,
) -> Variation:
    """The variation of the images of `blocks`.

    `aspects` [images] undoes the squeeze of the store; `transparent` [images] images are set on varied backgrounds;
    `min_crop` is the smallest area of a crop, as a share of the image.
    """
    generator = torch.Generator()
    parts, start = [], 0
    for block in blocks:
        mine = transparent[start : start + block.count]
        parts.append(_draw_block(mine, start, generator.manual_seed(block.seed)))
        start += block.count
    crops, colours, kind, behind, shows_behind, rest = (
        torch.cat(columns, dim=-1) for columns in zip(*parts, strict=True)
    )
    *factors, grey, by_two, by_three = rest[:6]
    bands, erased = rest[6:10], rest[10]
    brightness, contrast, saturation = (
        _between(drawn, 1 - strength, 1 + strength)
        for drawn, strength in zip(factors, (config.brightness, config.contrast, config.saturation), strict=True)
    )
    saturation = saturation.masked_fill(grey < config.grayscale, 0.0)
    jitter = torch.stack([brightness, contrast, saturation], 1)
    halves = _between(bands[1::2], 0.08, 0.25)
    return Variation(
        boxes=_crops(crops, aspects, transparent, min_crop, config),
        colours=_colours(colours, kind),
        behind=behind,
        shows_behind=shows_behind[:, None, None, None],
        jitter=jitter[:, :, None, None, None],
        bands=torch.stack([bands[0], halves[0], bands[2], halves[1]], 1).unsqueeze(-1),
        erased=(erased < config.erasing)[:, None, None, None],
        blurred=torch.stack([by_two, by_three], 1) < config.blur / 2,
    )


def _draw_block(transparent: Tensor, start: int, generator: torch.Generator) -> tuple[Tensor, ...]:
    """Numbers from 0 to 1 in the order in which images were always varied: a run that goes on must draw the same.

    Of crops [6, images], of colours [6, images] and of the kind of a background [images], the number of the image
    behind each from `start` on, and whether that is shown; of all else [11, images].
    """
    count = len(transparent)
    before = torch.rand(13 * count, generator=generator)
    crops, colours, kind = before[: 6 * count], before[6 * count : 12 * count], before[12 * count :]
    opaque = torch.nonzero(~transparent).flatten()
    behind, shows_behind = torch.arange(count), torch.zeros(count, dtype=torch.bool)
    if len(opaque):
        behind, shows_behind = opaque[torch.randint(len(opaque), (count,), generator=generator)], kind > 0.6
    rest = torch.rand(11 * count, generator=generator).view(11, count)
    first_second = colours.view(2, count, 3).transpose(1, 2).reshape(6, count)
    return crops.view(6, count), first_second, kind, behind + start, shows_behind, rest


def _between(drawn: Tensor, low: float, high: float) -> Tensor:
    return drawn * (high - low) + low


def _crops(drawn: Tensor, aspects: Tensor, transparent: Tensor, min_crop: float, config: Augmentation) -> Tensor:
    """Affine matrices [images, 2, 3] of random resized crops, by six numbers for each [6, images]."""
    ones = torch.ones_like(aspects)
    area = _between(drawn[0], min_crop, 1.0) * aspects
    ratio = torch.exp(_between(drawn[1], -1.0, 1.0) * torch.log(torch.tensor(config.crop_aspect)))
    width = torch.minimum(torch.sqrt(area * ratio), aspects)
    height = torch.minimum(torch.sqrt(area / ratio), ones)
    # A side that the image cut short cuts the other: what is served is never squeezed more than that either.
    aspect = config.crop_aspect
    width, height = torch.minimum(width, aspect * height) / aspects, torch.minimum(height, aspect * width)
    zoom = torch.where(transparent, _between(drawn[2], 1.0, config.zoom_out), ones)
    width, height = width * zoom, height * zoom
    x = _between(drawn[3], -1.0, 1.0) * (1 - width).abs()
    y = _between(drawn[4], -1.0, 1.0) * (1 - height).abs()
    flip = torch.where(drawn[5] < config.horizontal_flip, -1.0, 1.0)
    zero = torch.zeros_like(aspects)
    return torch.stack([torch.stack([flip * width, zero, x], 1), torch.stack([zero, height, y], 1)], 1)


def _colours(drawn: Tensor, kind: Tensor) -> Tensor:
    """White, one colour, or a gradient of two: [images, 2, 3, 1, 1] by six numbers for each [6, images]."""
    first, second = drawn[:3], drawn[3:]
    plain = torch.where(kind < 0.3, torch.ones_like(first), first)
    top, bottom = torch.where(kind < 0.5, plain, first), torch.where(kind < 0.5, plain, second)
    return torch.stack([top.T, bottom.T], 1)[..., None, None]
