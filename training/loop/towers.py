"""Both towers as one module, which processes share by DDP or FSDP."""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from model.config import Preprocessing
from model.network import Network
from model.network.gradient_checkpointing import set_grad_checkpointing
from model.network.resnet import ModifiedResNet
from training.config import ConfigError, TrainConfig
from training.loop.processes import Processes

# They belong to the loss, of which every process has a share: their gradients are summed there.
OF_THE_LOSS = ("network.logit_scale", "network.logit_bias")


class Towers(nn.Module):
    """Pictures from 0 to 1 and token ids -> vectors of unit length in float32."""

    mean: Tensor
    std: Tensor

    def __init__(self, network: Network, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.tensor(preprocessing.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(preprocessing.std).view(1, 3, 1, 1), persistent=False)

    def forward(
        self, rgb: Tensor, kept: Tensor | None, token_ids: list[Tensor], order: Tensor
    ) -> tuple[Tensor, Tensor]:
        """[pictures, 3, side, side] and groups of texts -> [pictures, embed_dim], [texts, embed_dim] in `order`."""
        pixels = ((rgb - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
        image = self.network.encode_image(pixels, kept)
        text = torch.cat([self.network.encode_text(ids) for ids in token_ids])[order]
        return F.normalize(image.float(), dim=-1), F.normalize(text.float(), dim=-1)


class SharedTowers:
    """Towers as one process of several runs them, with gradients that are the mean of all processes'."""

    def __init__(self, towers: Towers, config: TrainConfig, processes: Processes) -> None:
        self._towers, self._processes = towers, processes
        self._sharded = config.parallel == "fsdp" and processes.count > 1
        network = towers.network
        set_grad_checkpointing(network, config.gradient_checkpointing)
        if config.compile:
            _check_compiler(processes.device)
            network.visual.compile()
            network.transformer.compile(dynamic=True)
        if self._sharded:
            _shard(towers, processes)
        self.module: nn.Module = towers

    def unlocked(self) -> None:
        """Take note of which parameters learn: DDP awaits the gradients of those alone."""
        learn = any(parameter.requires_grad for _, parameter in _of_towers(self._towers))
        self.module = self._towers
        if self._processes.count > 1 and not self._sharded and learn:
            # Private in name, and the only way to keep a parameter out of DDP's sums; torchrec does the same.
            ignore = DistributedDataParallel._set_params_and_buffers_to_ignore_for_model
            ignore(self._towers, list(OF_THE_LOSS))  # type: ignore[no-untyped-call]
            # Kernels of 1x1 convolutions have two names for the same layout; torch would tell users of a slow copy.
            warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
            self.module = DistributedDataParallel(self._towers)

    @property
    def alone(self) -> nn.Module:
        """The towers for a pass without gradient."""
        return self._towers

    @contextmanager
    def summing(self, now: bool) -> Iterator[None]:
        """Within, backward passes sum the gradients of all processes, or only gather them up for the next that does."""
        if isinstance(self.module, DistributedDataParallel) and not now:
            with self.module.no_sync():
                yield
            return
        if isinstance(self._towers, FSDPModule):
            self._towers.set_requires_gradient_sync(now)
        yield


def _check_compiler(device: torch.device) -> None:
    """Raise ConfigError where torch.compile would find none, which it notices only in the first step."""
    compiler = os.environ.get("CXX", "g++")
    if device.type == "cpu" and shutil.which(compiler) is None:
        raise ConfigError(f"compile: on a CPU torch needs a C++ compiler, and {compiler} is not found; set it to false")


def _shard(towers: Towers, processes: Processes) -> None:
    """FSDP2: the weights of a block are whole only while it computes."""
    mesh = init_device_mesh(processes.device.type, (processes.count,))
    network = towers.network
    blocks: list[nn.Module] = [*network.transformer.resblocks]
    if isinstance(network.visual, ModifiedResNet):
        blocks += [network.visual.get_submodule(f"layer{number}") for number in range(1, 5)]
    else:
        blocks += network.visual.transformer.resblocks
    scalars = {parameter for name, parameter in towers.named_parameters() if name in OF_THE_LOSS}
    for block in blocks:
        fully_shard(block, mesh=mesh)
    fully_shard(towers, mesh=mesh, ignored_params=scalars)


def _of_towers(towers: Towers) -> list[tuple[str, nn.Parameter]]:
    return [(name, parameter) for name, parameter in towers.named_parameters() if name not in OF_THE_LOSS]
