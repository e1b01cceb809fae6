"""Accuracy on held-out training items: what chooses the checkpoint, so that the tests never do."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial

import numpy as np
import numpy.typing as npt
import torch

from model.config import Preprocessing
from model.data.skipped_samples import SkippedSamples, skip_reason
from model.embedder import Vectors, embed_texts
from model.export.graphs import ImageGraph, TextGraph
from model.images.preprocessing import ImageError, load_image
from model.mixture_tiles import mix_in_tiles
from model.network import Network
from model.tokenizers.clip import TextTokenizer
from model.zeroshot import label_vectors
from training.config import TrainConfig
from training.data.sample import Sample
from training.evaluation.metrics import ranks

BATCH = 128
_Scored = tuple[torch.Tensor, str]  # pixels, and the label or caption


class Holdout:
    """Held-out pictures as the image tower sees them, by source."""

    figure = "zero-shot top-1"  # what the score is

    def __init__(
        self,
        samples: Iterable[tuple[int, Sample]],
        preprocessing: Preprocessing,
        tokenizer: TextTokenizer,
        config: TrainConfig,
        skipped: SkippedSamples | None = None,
    ) -> None:
        self._preprocessing, self._tokenizer, self._templates = preprocessing, tokenizer, config.templates
        self._weights = [source.weight for source in config.data.train]
        labelled: dict[int, list[_Scored]] = {}
        captioned: dict[int, list[_Scored]] = {}
        for source, sample in samples:
            pixels = load_pixels(sample, preprocessing, config, skipped)
            if pixels is None:
                continue
            if sample.annotation.label is not None:
                labelled.setdefault(source, []).append((pixels, sample.annotation.label))
            elif sample.annotation.captions:
                captioned.setdefault(source, []).append((pixels, sample.annotation.captions[0]))
        self._captioned = {k: scored for k, scored in captioned.items() if len(scored) > len(labelled.get(k, ()))}
        self._labelled = {k: scored for k, scored in labelled.items() if k not in self._captioned}

    def __len__(self) -> int:
        """Pictures that are scored."""
        return sum(map(len, (self._labelled | self._captioned).values()))

    @torch.no_grad()
    def score(self, network: Network) -> tuple[float | None, dict[str, float]]:
        """Top-1 accuracy of the pictures of a source: the sources' mean by their weights in training, and each.

        It is that among all labels of the source or, where most have none, among all first captions of those.
        None where nothing is held out.
        """
        device = network.logit_scale.device
        image, text = ImageGraph(network, self._preprocessing).eval().to(device), TextGraph(network).eval()

        def run(token_ids: npt.NDArray[np.int64]) -> Vectors:
            vectors: Vectors = text(torch.from_numpy(token_ids).to(device)).float().cpu().numpy()
            return vectors

        embed = partial(embed_texts, self._tokenizer, run)
        scores, weights = {}, []
        for source, scored in sorted((self._labelled | self._captioned).items()):
            truth = [text for _, text in scored]
            vectors = embed_pixels(image, [pixels for pixels, _ in scored], device)
            texts = {text: number for number, text in enumerate(sorted(set(truth)))}
            labelled = source in self._labelled
            text_vectors = label_vectors(embed, list(texts), self._templates) if labelled else embed(list(texts))
            targets = np.array([texts[text] for text in truth])
            cosines = _cosines(network, vectors, text_vectors)
            scores[f"source {source}"] = float((ranks(cosines, targets) == 0).mean())
            weights.append(self._weights[source])
        return (float(np.average(list(scores.values()), weights=weights)) if scores else None), scores


def _cosines(network: Network, images: Vectors, texts: Vectors) -> Vectors:
    """[images, texts], of vectors that are mixed for each text where the network does so."""
    if network.mixture is None or network.config.mixture is None:
        plain: Vectors = images @ texts.T
        return plain
    mixture, device = network.mixture, network.logit_scale.device

    def mix(*tile: Vectors) -> Vectors:
        cosines: Vectors = mixture(*(torch.from_numpy(each).to(device) for each in tile)).cpu().numpy()
        return cosines

    return mix_in_tiles(mix, network.config.mixture, images, texts)


def load_pixels(
    sample: Sample, preprocessing: Preprocessing, config: TrainConfig, skipped: SkippedSamples | None
) -> torch.Tensor | None:
    """The image of a sample as the image tower takes it [side, side, 3]; None, and counted, where it is broken."""
    try:
        return torch.from_numpy(load_image(sample.image, preprocessing, config.data.max_pixels).copy())
    except ImageError as error:
        (skipped or SkippedSamples()).add(sample.key, *skip_reason(error))
        return None


def embed_pixels(graph: ImageGraph, pixels: Sequence[torch.Tensor], device: torch.device) -> Vectors:
    """The vectors of images [images, dim], so many at a time."""
    batches = [torch.stack([*pixels[i : i + BATCH]]) for i in range(0, len(pixels), BATCH)]
    return np.concatenate([graph(batch.to(device)).float().cpu().numpy() for batch in batches])
