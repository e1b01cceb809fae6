"""The stored vectors of a batch: a teacher's of each of its images, and of the caption that was drawn for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from training.config import ConfigError
from training.data.captions import SampledCaption
from training.data.collate import Batch
from training.data.index import SampleIndex
from training.data.phrase_table import Indices, PhraseTable
from training.data.phrases import CAPTION, DESCRIPTION
from training.data.stored_vectors import StoredVectors, Vectors

Mask = npt.NDArray[np.bool_]


def check_stored(
    indexes: Sequence[SampleIndex], sources: npt.NDArray[np.int16], numbers: Indices, kept: Sequence[Mask] | None
) -> None:
    """Raise ConfigError with their counts where images that are learned from, or texts of them, have no stored vector.

    `sources` and `numbers` [items] say which sample each item is, `kept` which phrases of each index are not filtered.
    """
    without = others = unknown = 0
    for source, index in enumerate(indexes):
        mine = np.zeros(len(index), bool)
        mine[numbers[sources == source]] = True
        without += int((mine & (index.samples["vectors_size"] == 0)).sum())
        of_mine = np.repeat(mine, index.samples["phrase_count"])
        of_mine &= True if kept is None else kept[source]
        kinds, rows = index.phrases["kind"], index.phrases["row"]
        others += int((of_mine & (kinds != CAPTION) & (kinds != DESCRIPTION)).sum())
        unknown += int((of_mine & (kinds == CAPTION) & (rows < 0)).sum())
    if without or others or unknown:
        raise ConfigError(
            f"objective.teacher: stored needs a vector for every picture and every text. Of {len(numbers):,} pictures "
            f"{without:,} have none (KEY.npz with image_emb and text_emb), {unknown:,} of their captions have no row, "
            f"and {others:,} labels, wider classes and tags have none: leave these out, or name a bundle as teacher"
        )


def drawn_rows(table: PhraseTable, sampled: Sequence[SampledCaption]) -> Indices:
    """The row of the caption that was sampled of each image among its stored vectors [images], -1 for none."""
    digests = np.array([said[0] for _, said in sampled])
    found = np.flatnonzero((table.phrases["kind"] == CAPTION) & (table.phrases["digest"] == digests[table.image]))
    rows = np.full(len(sampled), -1, np.int64)
    rows[table.image[found][::-1]] = table.phrases["row"][found][::-1]  # of several spellings the first
    return rows


def collect_vectors(
    batch: Batch, read: Callable[[int], StoredVectors], images: slice, texts: slice
) -> tuple[Vectors, Vectors]:
    """The teacher's vectors of some images and some texts of a batch: [images, dim] and [texts, dim].

    `read` gives the vectors of an item. That of a text is the one stored with the first image it was drawn for. Raises
    OSError naming those that cannot be used.
    """
    assert batch.vector_rows is not None
    drawn, first = np.unique(batch.drawn.numpy(), return_index=True)
    owners = first[np.searchsorted(drawn, np.arange(len(batch.texts))[texts])]
    found = {item: read(item) for item in {*batch.items[images].tolist(), *batch.items[owners].tolist()}}
    for owner, row in zip(owners.tolist(), batch.vector_rows[owners].tolist(), strict=True):
        vectors = found[int(batch.items[owner])]
        if not 0 <= row < len(vectors.texts):
            raise OSError(
                f"{batch.texts[int(batch.drawn[owner])]!r} has row {row} of {len(vectors.texts)} stored vectors"
            )
    of_images = np.stack([found[item].image for item in batch.items[images].tolist()])
    of_texts = [found[int(batch.items[owner])].texts[batch.vector_rows[owner]] for owner in owners]
    return of_images, np.array(of_texts, np.float32).reshape(len(owners), of_images.shape[1])
