"""Whether paraphrases find the same pictures: how far the lists agree that two texts retrieve (Cheng et al. 2024).

The measures are those of "Adapting dual-encoder vision-language models for paraphrased retrieval" (arXiv 2405.03190):
top-k average overlap and top-k Jaccard similarity, at the k of that paper, 10.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from model.embedder import Vectors
from training.evaluation.datasets import DataError
from training.evaluation.intervals import bootstrap
from training.evaluation.paraphrase_pairs import PairSample
from training.evaluation.results import Result
from training.evaluation.zeroshot import Cosines, Embed

PARAPHRASE = "paraphrase"
K = 10
MAX_SIMILARITIES = 2**22  # that are held at once
Indices = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def measure_paraphrases(
    dataset: str,
    images: Vectors,
    sample: PairSample,
    embed: Embed,
    cosines: Cosines,
    classes: Sequence[str] = (),
    k: int = K,
) -> Result:
    """Average overlap and Jaccard similarity at `k` of the pictures that both texts of each pair find.

    `images` [images, dim] are what is found, the same for all texts. The interval is of another sample of the origins
    of the pairs, of which one alone says nothing; where they are `classes`, each has a figure of its own. Beside them
    stands the overlap with the paraphrase of another query: low, where a model tells texts apart. Raises DataError for
    too few pictures.
    """
    if len(images) <= k:
        raise DataError(f"{dataset}: of {len(images)} pictures every text finds the same {k}: measure on many more")
    texts = {text: number for number, text in enumerate(dict.fromkeys(t for pair in sample.pairs for t in pair[:2]))}
    vectors = embed(list(texts))
    lists = top_pictures(lambda rows: cosines(images, vectors[rows]).T, (len(texts), len(images)), k)
    queries = lists[[texts[pair.query] for pair in sample.pairs]]
    paraphrases = lists[[texts[pair.paraphrase] for pair in sample.pairs]]
    overlaps = average_overlap(queries, paraphrases)
    origins, origin = np.unique([pair.origin for pair in sample.pairs], return_inverse=True)
    metrics = {
        f"average_overlap@{k}": float(overlaps.mean()),
        f"jaccard@{k}": float(jaccard(queries, paraphrases).mean()),
    }
    if (others := _overlap_of_others(queries, paraphrases, origin)) is not None:
        metrics[f"average_overlap@{k}_of_others"] = others
    sums, counts = np.bincount(origin, overlaps), np.bincount(origin)
    interval = bootstrap(lambda at: float(sums[at].sum() / counts[at].sum()), len(origins))
    if len(origins) == 1:
        interval = 0.0, 1.0
    of_origin = dict(zip(origins.tolist(), (sums / counts).tolist(), strict=True))
    return Result(
        dataset, PARAPHRASE, len(images), len(texts), f"average_overlap@{k}", interval, metrics,
        per_class={name: of_origin[name] for name in classes if name in of_origin},
        settings={"k": k, "pairs": len(sample.pairs), "pairs_in_all": sample.total},
    )  # fmt: skip


def _overlap_of_others(queries: Indices, paraphrases: Indices, origin: Indices) -> float | None:
    """The mean overlap of queries with paraphrases half of all pairs further on, where those are of another origin."""
    half = len(origin) // 2
    foreign = origin != np.roll(origin, half)
    if not foreign.any():
        return None
    return float(average_overlap(queries[foreign], np.roll(paraphrases, half, axis=0)[foreign]).mean())


def top_pictures(scores_of: Callable[[slice], Vectors], shape: tuple[int, int], k: int) -> Indices:
    """Of each text the numbers of the `k` pictures with the highest scores, best first: [texts, k].

    `scores_of` gives the scores of some of the texts with all pictures, which are `shape` [texts, pictures] in all.
    Pictures that score alike come in their order, whatever the text.
    """
    count, pictures = shape
    found = np.empty((count, k), np.int64)
    size = max(1, MAX_SIMILARITIES // pictures)
    for start in range(0, count, size):
        for row, scores in enumerate(scores_of(slice(start, min(start + size, count))), start=start):
            least = np.partition(scores, -k)[-k]
            at = np.flatnonzero(scores >= least)
            found[row] = at[np.argsort(-scores[at], kind="stable")[:k]]
    return found


def average_overlap(one: Indices, other: Indices) -> Floats:
    """Of lists [pairs, k], the mean over depths d = 1 ... k of the share of the first d that both have: [pairs]."""
    same = one[:, :, None] == other[:, None, :]
    depths = range(1, one.shape[1] + 1)
    shares: Floats = np.mean([same[:, :depth, :depth].sum(axis=(1, 2)) / depth for depth in depths], axis=0)
    return shares


def jaccard(one: Indices, other: Indices) -> Floats:
    """Of lists [pairs, k], how many of all that are in either are in both: [pairs]."""
    both = (one[:, :, None] == other[:, None, :]).sum(axis=(1, 2))
    shares: Floats = both / (2 * one.shape[1] - both)
    return shares
