"""Both towers as one module, which processes share by DDP or FSDP, and which of their layers are frozen at a step."""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from model.config import Preprocessing
from model.network import Network, PretrainedText, loss_parameters
from model.network.gradient_checkpointing import set_grad_checkpointing
from model.network.pretrained_text import frozen_names
from model.network.resnet import ModifiedResNet
from model.network.transformer import ResidualAttentionBlock, Transformer
from training.config import ConfigError, Lock, Span, TrainConfig
from training.loop.frozen_outputs import FrozenOutputs
from training.loop.optimizer import layer_depths
from training.loop.precision import ComputePrecision
from training.loop.processes import Processes

NETWORK = "network."  # before the names of a network's parameters in `Towers`


class Towers(nn.Module):
    """Images from 0 to 1 and token ids -> features of unit length in float32."""

    mean: Tensor
    std: Tensor

    def __init__(self, network: Network, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.network = network
        text = getattr(network, "text", None)
        self._frozen = FrozenOutputs(text) if isinstance(text, PretrainedText) else None
        self.register_buffer("mean", torch.tensor(preprocessing.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(preprocessing.std).view(1, 3, 1, 1), persistent=False)

    def forward(
        self, rgb: Tensor, kept: Tensor | None, token_ids: list[Tensor], order: Tensor
    ) -> tuple[Tensor, Tensor]:
        """[images, 3, side, side] and groups of texts -> [images, embed_dim], [texts, embed_dim] in `order`.

        Of a network with a mixture, the former are [images, tokens, embed_dim].
        """
        pixels = ((rgb - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
        image = self.network.encode_image(pixels, kept)
        text = torch.cat([self._encode_text(ids) for ids in token_ids])[order]
        return F.normalize(image.float(), dim=-1), F.normalize(text.float(), dim=-1)

    def _encode_text(self, token_ids: Tensor) -> Tensor:
        if self._frozen is None:
            return self.network.encode_text(token_ids)
        tower: PretrainedText = self.network.get_submodule("text")  # type: ignore[assignment]
        return tower.align(self._frozen(token_ids), token_ids)


class TowerFreezing:
    """Freezes layers of a network: a tower as a whole, or all but its upper layers (LiT, Zhai et al. 2022).

    Frozen parameters have no gradients, and frozen batch norms keep their statistics.
    """

    def __init__(self, network: Network, lock: Lock, steps: int) -> None:
        """`steps` are those of the whole run, of which `lock` names shares."""
        self._network, self._steps = network, steps
        self._spans: dict[str, Span] = {"image": lock.image, "text": lock.text}
        self._depths = layer_depths(network)
        self._layers = {
            tower: sorted({depth for of, depth in self._depths.values() if of == tower}, reverse=True)
            for tower in self._spans
        }

    def unfrozen(self, tower: str, step: int) -> list[int]:
        """The layers of a tower, image or text, that learn at `step`: from the top down."""
        layers = self._layers[tower]
        first, last = (share * self._steps for share in self._spans[tower])
        if step >= last:
            return layers
        if step < first:
            return []
        return layers[: 1 + int((step - first) / (last - first) * (len(layers) - 1))]

    def apply(self, step: int) -> bool:
        """Freeze and unfreeze for `step`; true if that changed anything."""
        unfrozen = {tower: self.unfrozen(tower, step) for tower in self._spans}
        changed = False
        for name, parameter in self._network.named_parameters():
            tower, depth = self._depths[name]
            learns = not tower or depth in unfrozen[tower]
            if parameter.requires_grad != learns:
                parameter.requires_grad_(learns)
                changed = True
        self._network.train()
        for module in self._network.modules():
            own = list(module.parameters(recurse=False))
            if own and not any(parameter.requires_grad for parameter in own):
                module.train(False)
        return changed


class SharedTowers:
    """Towers as one process of several runs them, with gradients that are the mean of all processes'.

    Made before the optimizer: FSDP replaces the parameters of the network by DTensors.
    """

    def __init__(
        self,
        network: Network,
        preprocessing: Preprocessing,
        config: TrainConfig,
        processes: Processes,
        precision: ComputePrecision,
    ) -> None:
        self.network, self._processes = network, processes
        self._freezing = TowerFreezing(network, config.lock, config.steps)
        self._freezing.apply(0)
        self.towers = Towers(network, preprocessing).to(processes.device)  # for passes without gradient
        self._sharded = config.parallel == "fsdp" and processes.count > 1
        set_grad_checkpointing(network, config.gradient_checkpointing)
        if config.compile:
            _check_compiler(processes.device)
            compile_blocks(network)
        if self._sharded:
            _shard(self.towers, processes, precision)
        self.module = self._wrap()  # for passes with gradient

    def freeze(self, step: int) -> None:
        """Freeze and unfreeze layers for `step`."""
        if self._freezing.apply(step):
            self.module = self._wrap()

    def learns(self, tower: str, step: int) -> bool:
        """Whether any layer of a tower, image or text, learns at `step`."""
        return bool(self._freezing.unfrozen(tower, step))

    def _wrap(self) -> nn.Module:
        """The towers in DDP where it is needed: made again for other parameters, as it awaits all their gradients."""
        learns = any(parameter.requires_grad for _, parameter in _tower_parameters(self.towers))
        if self._processes.count == 1 or self._sharded or not learns:
            return self.towers
        # Private in name, and the only way to keep a parameter out of DDP's sums; torchrec does the same.
        ignore = DistributedDataParallel._set_params_and_buffers_to_ignore_for_model
        # Of the parameters of the loss every process has a share: their gradients are summed there. What is frozen for
        # good is the same in all of them.
        ignored = [*loss_parameters(self.towers, NETWORK), *frozen_names(self.towers)]
        ignore(self.towers, ignored)  # type: ignore[no-untyped-call]
        # Kernels of 1x1 convolutions have two names for the same layout; torch would tell users of a slow copy.
        warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
        return DistributedDataParallel(self.towers)

    @contextmanager
    def gradient_sync(self, enabled: bool) -> Iterator[None]:
        """Within it backward passes sum the gradients of all processes, or only accumulate them until one does."""
        if isinstance(self.module, DistributedDataParallel) and not enabled:
            with self.module.no_sync():
                yield
            return
        if isinstance(self.towers, FSDPModule):
            self.towers.set_requires_gradient_sync(enabled)
        yield


def _check_compiler(device: torch.device) -> None:
    """Raise ConfigError where torch.compile would find none, which it notices only in the first step."""
    compiler = os.environ.get("CXX", "g++")
    if device.type == "cpu" and shutil.which(compiler) is None:
        raise ConfigError(f"compile: on a CPU torch needs a C++ compiler, and {compiler} is not found; set it to false")


def compile_blocks(network: Network) -> None:
    """Compile the towers block by block.

    Blocks of one kind share what is compiled. Gradient checkpointing stays around what is compiled, and outside of it
    positions are resized for growing crops: torch.compile takes neither.
    """
    for block in _image_blocks(network):
        block.compile()
    for block in _text_blocks(network):
        block.compile(dynamic=True)  # groups of texts have many lengths


def _shard(towers: Towers, processes: Processes, precision: ComputePrecision) -> None:
    """FSDP2: the weights of a block are whole only while it computes, in bfloat16 where it computes in that.

    Embeddings and projections stay in float32, as do sums of gradients. So do the stages of a ResNet, whose batch norms
    want it; they are gathered once a pass, and not for each group of texts.
    """
    mesh = init_device_mesh(processes.device.type, (processes.count,))
    # Autocast would round the weights of matrices in any case. The residual stream is not to be rounded.
    halved = MixedPrecisionPolicy(torch.bfloat16, torch.float32, cast_forward_inputs=False)
    for block in [*_text_blocks(towers.network), *_image_blocks(towers.network)]:
        rounded = precision == "bf16" and isinstance(block, ResidualAttentionBlock)
        fully_shard(block, mesh=mesh, mp_policy=halved if rounded else MixedPrecisionPolicy())
    fully_shard(towers, mesh=mesh, ignored_params=set(loss_parameters(towers, NETWORK).values()))


def _image_blocks(network: Network) -> list[nn.Module]:
    """The blocks of a vision transformer, or the stages of a ResNet."""
    if isinstance(network.visual, ModifiedResNet):
        return [network.visual.get_submodule(f"layer{number}") for number in range(1, 5)]
    return list(network.visual.transformer.resblocks)


def _text_blocks(network: Network) -> list[nn.Module]:
    """The blocks of the text tower, whatever its kind: of all our transformers that are not in the image tower."""
    stacks = [(name, module) for name, module in network.named_modules() if isinstance(module, Transformer)]
    return [block for name, stack in stacks if not name.startswith("visual.") for block in stack.resblocks]


def _tower_parameters(towers: Towers) -> list[tuple[str, nn.Parameter]]:
    of_loss = loss_parameters(towers, NETWORK)
    return [(name, parameter) for name, parameter in towers.named_parameters() if name not in of_loss]
