"""Gradient checkpointing: the activations inside a block are computed again on the way back instead of being kept."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


class CheckpointedModule(nn.Module):
    """A module whose blocks can keep only their inputs, and compute their activations again for the gradient."""

    recompute = False

    def run(self, block: nn.Module, *arguments: Any) -> Any:
        """The output of `block`, which is computed a second time where there will be a gradient."""
        if not (self.recompute and torch.is_grad_enabled()):
            return block(*arguments)
        contexts = partial(_checkpoint_contexts, block)
        # Nothing in a network draws at random, so there is no random state to keep.
        return checkpoint(block, *arguments, use_reentrant=False, preserve_rng_state=False, context_fn=contexts)


def set_grad_checkpointing(network: nn.Module, enabled: bool) -> None:
    """Turn gradient checkpointing of every CheckpointedModule in a network on or off."""
    for module in network.modules():
        if isinstance(module, CheckpointedModule):
            module.recompute = enabled


@contextmanager
def frozen_statistics(network: nn.Module) -> Iterator[None]:
    """Within, batch norms that train use the statistics of their batch; their moving ones are as before afterwards."""
    # Put back, and not left alone by a momentum of 0: to torch.compile that would be another network.
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm) and module.training]
    buffers = [buffer for norm in norms for buffer in norm.buffers()]
    before = [buffer.clone() for buffer in buffers]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, value in zip(buffers, before, strict=True):
                buffer.copy_(value)


def _checkpoint_contexts(block: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    return nullcontext(), frozen_statistics(block)
