"""Zero-shot accuracy on held-out training items: what chooses the checkpoint, so that the tests never do."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

import numpy as np
import numpy.typing as npt
import torch

from model.config import Preprocessing
from model.graphs import ImageGraph, TextGraph
from model.network import Network
from model.preprocessing import ImageError, load_image
from model.tokenizer import TextTokenizer
from training.config import TrainConfig
from training.data.shards import Sample
from training.evaluation.embedding import Vectors, embed_texts, label_vectors
from training.evaluation.metrics import ranks

BATCH = 128


class Holdout:
    """Held-out pictures as the image tower sees them, by source."""

    def __init__(
        self,
        samples: Iterable[tuple[int, Sample]],
        preprocessing: Preprocessing,
        tokenizer: TextTokenizer,
        config: TrainConfig,
    ) -> None:
        self._preprocessing, self._tokenizer, self._templates = preprocessing, tokenizer, config.templates
        self._weights = [source.weight for source in config.data.train]
        self._sources: dict[int, tuple[list[torch.Tensor], list[str]]] = {}
        for source, sample in samples:
            if sample.label is None:
                continue
            try:
                pixels = torch.from_numpy(load_image(sample.picture, preprocessing).copy())
            except ImageError:
                continue
            pictures, labels = self._sources.setdefault(source, ([], []))
            pictures.append(pixels)
            labels.append(sample.label)

    @torch.no_grad()
    def score(self, network: Network) -> tuple[float | None, dict[str, float]]:
        """Top-1 accuracy among all labels of a source: the sources' mean by their weights in training, and each.

        None where no held-out picture has a label.
        """
        device = network.logit_scale.device
        image, text = ImageGraph(network, self._preprocessing).eval().to(device), TextGraph(network).eval()

        def run(token_ids: npt.NDArray[np.int64]) -> Vectors:
            vectors: Vectors = text(torch.from_numpy(token_ids).to(device)).float().cpu().numpy()
            return vectors

        embed = partial(embed_texts, self._tokenizer, run)
        scores, weights = {}, []
        for source, (pictures, truth) in self._sources.items():
            batches = [torch.stack(pictures[i : i + BATCH]) for i in range(0, len(pictures), BATCH)]
            vectors = np.concatenate([image(batch.to(device)).float().cpu().numpy() for batch in batches])
            labels = sorted(set(truth))
            words = label_vectors(embed, labels, self._templates)
            targets = np.array([labels.index(label) for label in truth])
            scores[f"source {source}"] = float((ranks(vectors @ words.T, targets) == 0).mean())
            weights.append(self._weights[source])
        return (float(np.average(list(scores.values()), weights=weights)) if scores else None), scores
