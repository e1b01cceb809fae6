"""The section `augmentation`: how images are varied at random, anew each time that one is shown."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from training.config.section import Section, Share

Ratio = Annotated[float, Field(ge=1, le=10)]


class Augmentation(Section):
    """Shares of images that are changed, and how strongly; a share or strength of 0, or a ratio of 1, changes none.

    The smallest crop is `min_crop`, beside this section.
    """

    crop_aspect: Ratio = 4 / 3  # crops are at most this much wider or higher than the square that they become
    zoom_out: Ratio = 1.8  # images that are transparent are shown up to this much smaller, on a background
    horizontal_flip: Share = 0.5  # share of images that are mirrored
    brightness: Share = 0.3  # factor from 1 - brightness to 1 + brightness, and so on, as torchvision's ColorJitter
    contrast: Share = 0.3
    saturation: Share = 0.4
    grayscale: Share = 0.05  # share of images that lose their colours
    blur: Share = 0.2  # share of images that are shown as if they had been smaller, by two or by three
    erasing: Share = 0.25  # share of images of which a rectangle becomes grey
