"""ModifiedResNet: a three-convolution stem, anti-aliased strides, and attention pooling in place of the mean.

Every stride after the stem's first is an average pool before a stride-1 convolution (Zhang 2019, "Making Convolutional
Networks Shift-Invariant Again"); the head is one attention layer whose query is the mean of all positions. A strided
stem has two convolutions of stride 2 instead, and no pool.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.config import ResNetConfig
from model.network.gradient_checkpointing import CheckpointedModule
from model.network.vit import resize_positions

DOWNSAMPLING = 32


class Bottleneck(nn.Module):
    """1x1, 3x3, average pool, 1x1 convolutions; four times more channels leave than its 3x3 has."""

    expansion = 4

    def __init__(self, inputs: int, planes: int, stride: int) -> None:
        super().__init__()
        outputs = planes * self.expansion
        self.conv1 = nn.Conv2d(inputs, planes, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.pool = _pool(stride)
        self.conv3 = nn.Conv2d(planes, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.downsample = _shortcut(inputs, outputs, stride)
        nn.init.zeros_(self.bn3.weight)  # every block starts as its shortcut

    def forward(self, x: Tensor) -> Tensor:
        """[batch, inputs, height, width] -> [batch, 4 planes, height / stride, width / stride]."""
        out = F.relu(self.bn1(self.conv1(x)))
        out = F.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(self.pool(out)))
        return F.relu(out + self.downsample(x))


class BasicBlock(nn.Module):
    """Average pool and two 3x3 convolutions."""

    expansion = 1

    def __init__(self, inputs: int, planes: int, stride: int) -> None:
        super().__init__()
        self.pool = _pool(stride)
        self.conv1 = nn.Conv2d(inputs, planes, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.downsample = _shortcut(inputs, planes, stride)
        nn.init.zeros_(self.bn2.weight)

    def forward(self, x: Tensor) -> Tensor:
        """[batch, inputs, height, width] -> [batch, planes, height / stride, width / stride]."""
        out = F.relu(self.bn1(self.conv1(self.pool(x))))
        out = self.bn2(self.conv2(out))
        return F.relu(out + self.downsample(x))


class AttentionPool(nn.Module):
    """Multi-head attention of the mean position over all positions; only the mean's output is wanted."""

    def __init__(self, grid: int, features: int, heads: int, embed_dim: int) -> None:
        super().__init__()
        std = features**-0.5
        self.heads = heads
        self.positional_embedding = nn.Parameter(std * torch.randn(grid**2 + 1, features))
        self.q_proj = nn.Linear(features, features)
        self.k_proj = nn.Linear(features, features)
        self.v_proj = nn.Linear(features, features)
        self.c_proj = nn.Linear(features, embed_dim)
        for projection in (self.q_proj, self.k_proj, self.v_proj, self.c_proj):
            nn.init.normal_(projection.weight, std=std)

    def forward(self, x: Tensor) -> Tensor:
        """[batch, features, grid, grid] -> [batch, embed_dim]."""
        batch, features, grid, _ = x.shape
        tokens = x.flatten(2).transpose(1, 2)  # [batch, grid², features]
        tokens = torch.cat([tokens.mean(dim=1, keepdim=True), tokens], dim=1)
        tokens = tokens + resize_positions(self.positional_embedding, grid).to(tokens.dtype)
        query = self._split(self.q_proj(tokens[:, :1]))
        pooled = F.scaled_dot_product_attention(
            query, self._split(self.k_proj(tokens)), self._split(self.v_proj(tokens))
        )
        projected: Tensor = self.c_proj(pooled.transpose(1, 2).reshape(batch, features))
        return projected

    def _split(self, x: Tensor) -> Tensor:
        """[batch, tokens, features] -> [batch, heads, tokens, head width]."""
        return x.view(*x.shape[:-1], self.heads, x.shape[-1] // self.heads).transpose(1, 2)


class ModifiedResNet(CheckpointedModule):
    """The convolutional image tower; a picture is reduced 32 times in each direction before the pool."""

    def __init__(self, config: ResNetConfig, embed_dim: int) -> None:
        super().__init__()
        width, self._deep = config.width, config.stem == "deep"
        self.conv1 = nn.Conv2d(3, width // 2, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width // 2)
        if self._deep:
            self.conv2 = nn.Conv2d(width // 2, width // 2, 3, padding=1, bias=False)
            self.bn2 = nn.BatchNorm2d(width // 2)
            self.conv3 = nn.Conv2d(width // 2, width, 3, padding=1, bias=False)
            self.bn3 = nn.BatchNorm2d(width)
        else:
            self.conv2 = nn.Conv2d(width // 2, width, 3, stride=2, padding=1, bias=False)
            self.bn2 = nn.BatchNorm2d(width)
        block = Bottleneck if config.block == "bottleneck" else BasicBlock
        inputs = width
        for number, blocks in enumerate(config.layers, start=1):
            planes = width * 2 ** (number - 1)
            self.add_module(f"layer{number}", _stage(block, inputs, planes, blocks, stride=1 if number == 1 else 2))
            inputs = planes * block.expansion
        self.attnpool = AttentionPool(config.image_size // DOWNSAMPLING, config.features, config.heads, embed_dim)

    def forward(self, pixels: Tensor) -> Tensor:
        """Normalised pixels [batch, 3, size, size] -> [batch, embed_dim], not yet of unit length."""
        x = F.relu(self.bn1(self.conv1(pixels)))
        x = F.relu(self.bn2(self.conv2(x)))
        if self._deep:
            x = F.avg_pool2d(F.relu(self.bn3(self.conv3(x))), 2)
        for number in range(1, 5):
            x = self.run(self.get_submodule(f"layer{number}"), x)
        pooled: Tensor = self.attnpool(x)
        return pooled


def _stage(
    block: type[Bottleneck] | type[BasicBlock], inputs: int, planes: int, blocks: int, stride: int
) -> nn.Sequential:
    first = block(inputs, planes, stride)
    return nn.Sequential(first, *(block(planes * block.expansion, planes, 1) for _ in range(blocks - 1)))


def _pool(stride: int) -> nn.Module:
    return nn.AvgPool2d(stride) if stride > 1 else nn.Identity()


def _shortcut(inputs: int, outputs: int, stride: int) -> nn.Module:
    """Pool and project where the shape changes. The keys "0" and "1" are those of published checkpoints."""
    if stride == 1 and inputs == outputs:
        return nn.Identity()
    layers: list[tuple[str, nn.Module]] = [
        ("-1", nn.AvgPool2d(stride)),
        ("0", nn.Conv2d(inputs, outputs, 1, bias=False)),
        ("1", nn.BatchNorm2d(outputs)),
    ]
    return nn.Sequential(OrderedDict(layers))
