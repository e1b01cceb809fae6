"""What a frozen language model makes of texts: it never changes, so it is computed once, as long as memory holds it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

import torch
from torch import Tensor

from model.network import PretrainedText

CACHE_BYTES = 2**29  # in each process, on its device
# A pass has this many texts, padded to a multiple of so many tokens: of one shape, each row is computed by the same
# operations whatever the others are, so that a resumed run finds the bits that it had in its cache.
PASS_TEXTS, PASS_TOKENS = 16, 8


class FrozenOutputs:
    """Outputs by token ids, of which those that came first make room for others."""

    def __init__(self, tower: PretrainedText, max_bytes: int = CACHE_BYTES) -> None:
        self._tower, text = tower, tower.config
        self._pooled, self._fixed = text.alignment_layers == 0, text.fixed_length
        self._rows = max(text.context_length, max_bytes // (4 * text.width))
        self._held: Tensor | None = None  # [rows, width]: a ring, on the device of what is asked for
        self._places: OrderedDict[bytes, tuple[int, int]] = OrderedDict()  # first row and number of rows, oldest first
        self._next = 0
        self.computed = 0  # texts, so far

    @torch.no_grad()
    def __call__(self, token_ids: Tensor) -> Tensor:
        """Token ids [texts, length] -> what `PretrainedText.frozen` gives, in float32; what is padding is 0 there."""
        lengths = self._lengths(token_ids)
        ids = token_ids.cpu().numpy()
        keys = [ids[i, :length].tobytes() for i, length in enumerate(lengths)]
        kept = [1 if self._pooled else length for length in lengths]
        outputs = torch.zeros(len(ids), 1 if self._pooled else ids.shape[1], self._tower.config.width)
        outputs = outputs.to(token_ids.device)
        self._copy_held(keys, outputs)
        missing: dict[bytes, list[int]] = {}
        for i, key in enumerate(keys):
            if key not in self._places:
                missing.setdefault(key, []).append(i)
        for padded, group in self._passes([rows[0] for rows in missing.values()], lengths):
            for i, computed in zip(group, self._compute(token_ids, group, lengths, padded), strict=False):
                for row in missing[keys[i]]:
                    outputs[row, : kept[i]] = computed[: kept[i]]
                self._hold(keys[i], computed[: kept[i]])
        return outputs

    def _lengths(self, token_ids: Tensor) -> list[int]:
        """Tokens of each text."""
        if self._fixed:
            return [token_ids.shape[1]] * len(token_ids)
        lengths: list[int] = (token_ids != self._tower.config.pad_id).sum(1).tolist()
        return lengths

    def _passes(self, texts: list[int], lengths: list[int]) -> Iterator[tuple[int, list[int]]]:
        """The texts of each pass, and to how many tokens they are padded, by the length of each alone."""
        padded: dict[int, list[int]] = {}
        for i in texts:
            tokens = -(-lengths[i] // PASS_TOKENS) * PASS_TOKENS
            padded.setdefault(min(self._tower.config.context_length, tokens), []).append(i)
        for tokens, those in padded.items():
            yield from ((tokens, those[i : i + PASS_TEXTS]) for i in range(0, len(those), PASS_TEXTS))

    def _compute(self, token_ids: Tensor, group: list[int], lengths: list[int], padded: int) -> Tensor:
        """The outputs of the texts in `group`, in one pass of the shape that all of that length have."""
        ids = token_ids.new_full((PASS_TEXTS, padded), self._tower.config.pad_id)
        for row in range(PASS_TEXTS):  # where there are fewer, the first of them again
            i = group[row] if row < len(group) else group[0]
            ids[row, : lengths[i]] = token_ids[i, : lengths[i]]
        self.computed += len(group)
        with torch.autocast(ids.device.type, enabled=False):
            return self._tower.frozen(ids).float()

    def _copy_held(self, keys: list[bytes], outputs: Tensor) -> None:
        """Fill in what the ring has, in one operation."""
        places = [(row, *self._places[key]) for row, key in enumerate(keys) if key in self._places]
        if not places or self._held is None:
            return
        counts = torch.tensor([count for _, _, count in places])
        within = torch.arange(int(counts.sum())) - (counts.cumsum(0) - counts).repeat_interleave(counts)
        rows = torch.tensor([row for row, _, _ in places]).repeat_interleave(counts)
        held = torch.tensor([first for _, first, _ in places]).repeat_interleave(counts) + within
        device = outputs.device
        outputs[rows.to(device), within.to(device)] = self._held[held.to(device)]

    def _hold(self, key: bytes, computed: Tensor) -> None:
        count = len(computed)
        if self._held is None:
            self._held = torch.empty(self._rows, computed.shape[1], device=computed.device)
        if self._next + count > self._rows:
            self._drop(self._next, self._rows)
            self._next = 0
        self._drop(self._next, self._next + count)
        self._held[self._next : self._next + count] = computed
        self._places[key] = self._next, count
        self._next += count

    def _drop(self, start: int, end: int) -> None:
        """Forget the texts that have a row in `start` to `end`: the oldest ones."""
        while self._places:
            first, count = next(iter(self._places.values()))
            if not (first < end and start < first + count):
                return
            self._places.popitem(last=False)
