"""The held-out score of a run on categories: is what the network is surest of among those that the picture has?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

from model.config import Preprocessing
from model.data.skipped_samples import SkippedSamples
from model.embedder import Vectors, embed_texts
from model.export.graphs import ImageGraph, TextGraph
from model.network import Network
from model.tokenizers.categories import CategoryTokenizer
from model.tokenizers.clip import TextTokenizer
from training.config import TrainConfig
from training.data.sample import Sample
from training.evaluation.holdout import Holdout, embed_pixels, load_pixels

Indices = npt.NDArray[np.int64]
MEAN_AVERAGE_PRECISION = "mean average precision"


class HeldOutSamples(Protocol):
    """What is held out of a training set."""

    def __iter__(self) -> Iterator[tuple[int, Sample]]:
        """Each with the number of its source."""

    def with_categories(self) -> Iterable[tuple[int, Sample, Indices]]:
        """Each with the number of its source and those of its categories."""


class CategoryHoldout(Holdout):
    """Held-out pictures, by source, with the categories of each."""

    figure = "top-1 category"

    def __init__(
        self,
        samples: Iterable[tuple[int, Sample, Indices]],
        preprocessing: Preprocessing,
        tokenizer: CategoryTokenizer,
        config: TrainConfig,
        skipped: SkippedSamples | None = None,
    ) -> None:
        super().__init__((), preprocessing, tokenizer, config)
        self._labels = list(tokenizer.labels)
        self._scored: dict[int, list[tuple[torch.Tensor, Indices]]] = {}
        for source, sample, categories in samples:
            pixels = load_pixels(sample, preprocessing, config, skipped)
            if pixels is not None:
                self._scored.setdefault(source, []).append((pixels, categories))

    def __len__(self) -> int:
        """Pictures that are scored."""
        return sum(map(len, self._scored.values()))

    @torch.no_grad()
    def score(self, network: Network) -> tuple[float | None, dict[str, float]]:
        """The share of pictures whose best category is one of theirs: the sources' mean by their weights, and each.

        Beside the sources is the mean average precision of all pictures. None where nothing is held out.
        """
        device = network.logit_scale.device
        image, text = ImageGraph(network, self._preprocessing).eval().to(device), TextGraph(network).eval()

        def run(token_ids: Indices) -> Vectors:
            vectors: Vectors = text(torch.from_numpy(token_ids).to(device)).float().cpu().numpy()
            return vectors

        rows = embed_texts(self._tokenizer, run, self._labels)
        scores, weights, cosines, truths = {}, [], [], []
        for source, scored in sorted(self._scored.items()):
            cosines.append(embed_pixels(image, [pixels for pixels, _ in scored], device) @ rows.T)
            truths.append(truth_of([categories for _, categories in scored], len(self._labels)))
            scores[f"source {source}"] = float(top_category_is_true(cosines[-1], truths[-1]).mean())
            weights.append(self._weights[source])
        if not scores:
            return None, {}
        total = float(np.average(list(scores.values()), weights=weights))
        precision = mean_average_precision(np.concatenate(cosines), np.concatenate(truths))
        return total, {**scores, MEAN_AVERAGE_PRECISION: precision}


def build_holdout(
    samples: HeldOutSamples | None,
    preprocessing: Preprocessing,
    tokenizer: TextTokenizer,
    config: TrainConfig,
    skipped: SkippedSamples | None = None,
) -> Holdout:
    """The hold-out of a run, by its objective; without pictures where `samples` is None."""
    if isinstance(tokenizer, CategoryTokenizer):
        of_categories = () if samples is None else samples.with_categories()
        return CategoryHoldout(of_categories, preprocessing, tokenizer, config, skipped)
    return Holdout(() if samples is None else samples, preprocessing, tokenizer, config, skipped)


def truth_of(categories: Iterable[Indices], count: int) -> npt.NDArray[np.bool_]:
    """Which of `count` categories each picture has [pictures, count], by the numbers of its own."""
    listed = list(categories)
    truth = np.zeros((len(listed), count), bool)
    truth[np.repeat(np.arange(len(listed)), [*map(len, listed)]), np.concatenate(listed)] = True
    return truth


def top_category_is_true(scores: Vectors, truth: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Whether a true category scores higher than all others [pictures]; a tie is not higher."""
    best, other = (np.where(mask, scores, -np.inf).max(axis=1) for mask in (truth, ~truth))
    right: npt.NDArray[np.bool_] = best > other
    return right


def mean_average_precision(scores: Vectors, truth: npt.NDArray[np.bool_]) -> float:
    """The mean over categories that any picture has of their average precision; of equal scores the wrong ones first.

    Average precision is the mean, over the pictures that have the category, of the share of right ones among those
    that score as high or higher: the area under the precision-recall curve, not interpolated.
    """
    precisions = []
    for category in np.flatnonzero(truth.any(axis=0)):
        own = truth[:, category]
        right = own[np.lexsort((own, -scores[:, category]))]
        places = np.flatnonzero(right)
        precisions.append((np.arange(1, len(places) + 1) / (places + 1)).mean())
    return float(np.mean(precisions))
