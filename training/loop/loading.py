"""What one process computes in a step, read ahead while the step before it runs."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from model.config import ResNetConfig
from model.network import Network
from model.tokenizers.clip import TextTokenizer
from training.config import TrainConfig
from training.data.augment import augment
from training.data.training_set import Batch, Pictures
from training.loop.processes import Processes
from training.loop.shares import picture_shares, span, split

TEXT_GROUP = 128  # texts of similar length that are padded together


@dataclass(frozen=True)
class Block:
    """Neighbouring pictures of a batch as they are stored, with the seed of all that is drawn for them."""

    pictures: Pictures
    seed: int


@dataclass(frozen=True)
class Chunk:
    """Pictures and texts that one pass takes; `rows` and `columns` are their places in the batch."""

    blocks: list[Block]
    rows: slice
    texts: list[str]  # never none: where there are fewer texts than chunks, one that another chunk has
    token_ids: list[Tensor]  # [group, length] each, by length
    order: Tensor  # [texts] their places among the groups
    columns: slice


@dataclass(frozen=True)
class Work:
    """The whole batch of a step and the chunks that are this process's; where each process's rows and columns lie."""

    batch: Batch
    chunks: list[Chunk]
    rows: list[slice]
    columns: list[slice]


class Batches(Protocol):
    """Where batches come from: a training set."""

    def batch(self, step: int, size: int) -> Batch:
        """That of a step."""

    def pictures(self, items: npt.NDArray[np.int64]) -> Pictures:
        """Those of some items of a batch, in their order."""


class Loader:
    """Work by step: a pure function of it, so that reading ahead changes nothing."""

    def __init__(self, config: TrainConfig, data: Batches, tokenizer: TextTokenizer, processes: Processes) -> None:
        self._config, self._data, self._tokenizer, self._processes = config, data, tokenizer, processes
        self._shares = picture_shares(config.batch_size, processes.count, config.accumulate)
        self._ahead = ThreadPoolExecutor(1, "loader")
        self._next: tuple[int, Future[Work]] | None = None

    def work(self, step: int) -> Work:
        """That of `step`, while the step after it begins to be read."""
        ahead, self._next = self._next, None
        work = ahead[1].result() if ahead and ahead[0] == step else self._read(step)
        if step + 1 < self._config.steps:
            self._next = step + 1, self._ahead.submit(self._read, step + 1)
        return work

    def close(self) -> None:
        """Stop reading ahead."""
        self._ahead.shutdown(cancel_futures=True)

    def _read(self, step: int) -> Work:
        batch = self._data.batch(step, self._config.batch_size)
        columns = split(len(batch.texts), self._processes.count)
        mine = columns[self._processes.rank]
        of_chunks = split(mine.stop - mine.start, self._config.accumulate)
        chunks = [
            self._chunk(step, batch, blocks, slice(mine.start + texts.start, mine.start + texts.stop))
            for blocks, texts in zip(self._shares[self._processes.rank], of_chunks, strict=True)
        ]
        rows = [slice(share[0][0].start, share[-1][-1].stop) for share in self._shares]
        return Work(batch, chunks, rows, columns)

    def _chunk(self, step: int, batch: Batch, blocks: list[slice], columns: slice) -> Chunk:
        rows = span(blocks)
        pictures = self._data.pictures(batch.items[rows])
        cut = [slice(block.start - rows.start, block.stop - rows.start) for block in blocks]
        first = (self._config.seed * 1_000_003 + step) * 1_000_003 % 2**62
        loaded = [
            Block(_rows(pictures, part, self._processes.device), first + block.start)
            for part, block in zip(cut, blocks, strict=True)
        ]
        texts = batch.texts[columns] or batch.texts[:1]
        token_ids, order = tokenised(self._tokenizer, texts)
        return Chunk(loaded, rows, texts, token_ids, order, columns)


def on_device(batch: Batch, device: torch.device) -> Batch:
    """The batch with its tensors there."""
    drawn, counts = _moved(batch.drawn, device), _moved(batch.counts, device)
    positive, ignored = _moved(batch.positive, device), _moved(batch.ignored, device)
    return replace(batch, drawn=drawn, counts=counts, positive=positive, ignored=ignored)


def kept_patches(patches: int, dropped: float) -> int:
    """How many of a picture's patches are looked at where a share of them is dropped: at least one."""
    return max(1, round(patches * (1 - dropped)))


def tokenised(tokenizer: TextTokenizer, texts: list[str]) -> tuple[list[Tensor], Tensor]:
    """Token ids in groups of similar length, since most texts are short, and the place of each text among them."""
    rows = [tokenizer.truncate(row) for row in tokenizer.encode(texts)]
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    groups = [order[i : i + TEXT_GROUP] for i in range(0, len(order), TEXT_GROUP)]
    padded = [torch.from_numpy(tokenizer.pad([rows[i] for i in group])) for group in groups]
    return padded, torch.tensor(order).argsort()


class Presenting:
    """Stored pictures -> what the image tower sees, on the device."""

    def __init__(self, config: TrainConfig, network: Network, device: torch.device) -> None:
        self._config, self._device = config, device
        image = network.config.image
        self._patch = None if isinstance(image, ResNetConfig) else image.patch_size

    def augmented(self, chunk: Chunk, step: int) -> Tensor:
        """Pictures [rows, 3, side, side] from 0 to 1."""
        side = self._config.pixels_at(step)
        made = []
        with self._device:  # what augmentation draws is drawn there, too
            for block in chunk.blocks:
                generator = torch.Generator(self._device).manual_seed(block.seed)
                seen = [_moved(each, self._device) for each in (block.pictures.rgba, block.pictures.aspects)]
                transparent = _moved(block.pictures.transparent, self._device)
                made.append(augment(seen[0], seen[1], transparent, side, self._config.min_crop, generator))
        return torch.cat(made)

    def kept_patches(self, chunk: Chunk, step: int) -> Tensor | None:
        """Which patches of each picture are looked at [rows, kept], in order; None for all of them."""
        if not self._config.patch_dropout or self._patch is None:
            return None
        patches = (self._config.pixels_at(step) // self._patch) ** 2
        kept = kept_patches(patches, self._config.patch_dropout)
        drawn = []
        for block in chunk.blocks:
            generator = torch.Generator().manual_seed(block.seed + 1)
            drawn.append(torch.rand(len(block.pictures.rgba), patches, generator=generator))
        chosen = torch.cat(drawn).argsort(dim=1)[:, :kept].sort(dim=1).values
        return chosen.to(self._device)


def _rows(pictures: Pictures, part: slice, device: torch.device) -> Pictures:
    cut = [getattr(pictures, field.name)[part] for field in fields(pictures)]
    return Pictures(*((tensor.pin_memory() for tensor in cut) if device.type == "cuda" else cut))


def _moved(tensor: Tensor, device: torch.device) -> Tensor:
    return tensor.to(device, non_blocking=True)
