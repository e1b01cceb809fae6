"""A checkpoint for pictures of another size than it was trained on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from model.checkpoints.checkpoint import Checkpoint, CheckpointError
from model.network.resnet import DOWNSAMPLING
from model.network.vit import resize_grid, resize_positions

_Config = TypeVar("_Config", bound=BaseModel)


def resized(checkpoint: Checkpoint, image_size: int) -> Checkpoint:
    """The checkpoint for pictures of another size: position embeddings are resized as open_clip does.

    Raises CheckpointError for a size that is not a whole number of patches.
    """
    image = checkpoint.config.image
    if image_size == image.image_size:
        return checkpoint
    patch = DOWNSAMPLING if image.kind == "resnet" else image.patch_size
    if image_size < patch or image_size % patch:
        fitting = max(patch, round(image_size / patch) * patch)
        raise CheckpointError(f"image size {image_size} is not a multiple of {patch}: choose {fitting}, for example")
    name = "visual.attnpool.positional_embedding" if image.kind == "resnet" else "visual.positional_embedding"
    kept = 0 if image.kind == "siglip" else 1  # the class token, or the mean of all positions
    expected = kept + (image.image_size // patch) ** 2
    positions = checkpoint.state.get(name)
    if positions is None or positions.dim() != 2 or len(positions) != expected:
        raise CheckpointError(f"{name} should have {expected} positions for {image.image_size} pixels")
    resize = resize_positions if kept else resize_grid
    checkpoint.state[name] = resize(positions.float(), image_size // patch)
    try:
        config = _replaced(checkpoint.config, image=_replaced(image, image_size=image_size))
        preprocessing = _replaced(checkpoint.preprocessing, size=image_size)
    except ValidationError as error:
        raise CheckpointError(f"image size {image_size}: {error.errors()[0]['msg']}") from error
    source = {**checkpoint.source, "resized_from": image.image_size}
    return replace(checkpoint, config=config, preprocessing=preprocessing, source=source)


def _replaced(model: _Config, **fields: Any) -> _Config:
    """A copy that is checked, which that of pydantic is not."""
    return type(model).model_validate({**dict(model), **fields})
