"""Weights in OpenAI's layout: the architecture is told from the shapes."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from model.checkpoints.checkpoint import Checkpoint, CheckpointError, Options


def read_state(state: Mapping[str, Tensor], options: Options, name: str) -> Checkpoint:
    """A state dictionary with the names of OpenAI's release. `name` becomes the model's."""
    raise CheckpointError("not yet")
