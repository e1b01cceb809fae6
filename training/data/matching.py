"""Which texts of a batch are true of which of its pictures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import chain

import numpy as np
import numpy.typing as npt
import torch

from training.data.batch import Batch
from training.data.phrases import Phrases, Said


def match(
    items: npt.NDArray[np.int64], phrases: Sequence[Phrases], said: Sequence[Said], asked: Sequence[Said] = ()
) -> Batch:
    """The batch of `items`, by what may be said of each and what was drawn for it, and texts `asked` in any case."""
    distinct = {drawn.text: drawn for drawn in (*said, *asked)}
    column = {text: number for number, text in enumerate(distinct)}
    alone: dict[str, list[int]] = {}  # phrase: columns of the texts that say nothing else
    among: dict[str, list[int]] = {}  # phrase: columns of the texts that say more
    for text, drawn in distinct.items():
        for phrase in drawn.phrases:
            (alone if len(drawn.phrases) == 1 else among).setdefault(phrase, []).append(column[text])
    rows = list(enumerate(phrases))
    shape = len(items), len(column)
    positive = _marked(shape, ((row, c) for row, known in rows for p in known.true for c in alone.get(p, ())))
    ignored = _marked(shape, ((row, c) for row, known in rows for p in known.loose for c in alone.get(p, ())))
    ignored |= _marked(
        shape, ((row, c) for row, known in rows for p in known.true | known.loose for c in among.get(p, ()))
    )
    own = torch.tensor([column[drawn.text] for drawn in said])
    positive[torch.arange(len(items)), own] = True
    counts = torch.bincount(own, minlength=len(column))
    return Batch(items, list(column), own, counts, positive, ignored & ~positive)


def keep_media_apart(batch: Batch, media: npt.NDArray[np.int64], asked: Sequence[tuple[str, int]] = ()) -> Batch:
    """The batch where a text is no negative of pictures in another medium than it was drawn for, or `asked` for.

    `media` [pictures] by number. Were it a negative there, a word known from drawings alone would be pushed away from
    every photograph, those of what it names among them.
    """
    of_pictures = torch.from_numpy(media)
    column = {text: number for number, text in enumerate(batch.texts)}
    count = 1 + max(int(media.max()), *(medium for _, medium in asked), 0)
    said = torch.zeros(count, len(column), dtype=torch.bool)
    said[of_pictures, batch.drawn] = True
    for text, medium in asked:
        said[medium, column[text]] = True
    return replace(batch, ignored=batch.ignored | (~said[of_pictures] & ~batch.positive))


def _marked(shape: tuple[int, int], places: Iterable[tuple[int, int]]) -> torch.Tensor:
    """Bool [pictures, texts], true at `places`."""
    marked = np.zeros(shape, bool)
    rows_columns = np.fromiter(chain.from_iterable(places), np.int64).reshape(-1, 2)
    marked[rows_columns[:, 0], rows_columns[:, 1]] = True
    return torch.from_numpy(marked)
