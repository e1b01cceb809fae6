"""Ranking documents by a query: what every API that reranks answers, each in its own words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.bundle import Bundle
from model.zeroshot import probabilities, top_k_indices
from service.inference.pipeline import Pipeline
from service.request_context import RequestContext
from service.schema.items import Item

Scores = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Ranking:
    """`order` are the indices of the best documents, best first; `scores` [documents] those of all, by index."""

    order: Sequence[int]
    scores: Scores
    usage: Mapping[str, int]


async def rank(
    pipeline: Pipeline,
    query: Item,
    documents: Sequence[Item],
    context: RequestContext,
    *,
    top_n: int | None = None,
    truncate: bool | None = None,
    raw_scores: bool = False,
) -> Ranking:
    """Rank texts and images by their cosine to a text or an image. Raises the error of the first that is bad.

    `scores` are `relevance`, or cosines with `raw_scores`.
    """
    pipeline.comparison.check([query], documents)
    items = [query, *documents]
    embedded = await pipeline.embed(items, context, truncate=truncate, keep_errors=False, tokens=True)
    one, others = embedded.compared(slice(1)), embedded.compared(slice(1, None))
    [cosine] = await pipeline.comparison.cosines(one, others, context.timing)
    with context.timing.stage("serialize"):
        order = top_k_indices(cosine[np.newaxis], top_n)[0].tolist()
        return Ranking(order, cosine if raw_scores else relevance(cosine, pipeline.bundle), embedded.usage)


def relevance(cosine: Scores, bundle: Bundle) -> Scores:
    """0 to 1, for each document alone: clients compare scores with a threshold, and across requests.

    A softmax would depend on the other documents, and a cosine can be negative.
    """
    if bundle.logit_bias is not None:
        return probabilities(cosine, bundle)
    scaled: Scores = np.clip((1 + cosine) / 2, 0, 1)  # rounding can put a cosine outside -1 to 1
    return scaled
