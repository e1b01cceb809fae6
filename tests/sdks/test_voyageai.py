"""Voyage's client."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.sdks.clients import Client
from tests.sdks.inputs import IMAGE, MANY, PICTURE, REFUSAL, TEXTS, TOO_LONG, same


class TestVoyage:
    client = Client(
        "Voyage",
        "voyageai",
        "voyageai",
        """
import voyageai

client = voyageai.Client(api_key="any", base_url="http://localhost:8000/v1")
""",
        "an input of several parts gets the mean of their vectors; cuts long texts unless `truncation=False`",
    )

    def test_texts(self, here: Any, vectors: Any) -> None:
        same(here.client.embed(TEXTS, model="sightword-small").embeddings, vectors(*TEXTS))

    def test_images(self, here: Any, vectors: Any) -> None:
        from PIL import Image

        with Image.open(PICTURE) as picture:
            answer = here.client.multimodal_embed([[picture]], model="sightword-small")
        assert np.dot(answer.embeddings[0], vectors(IMAGE)[0]) > 0.99  # the client encodes it anew

    def test_mixed_inputs(self, here: Any, vectors: Any) -> None:
        answer = here.client.multimodal_embed([["a cat"], ["a dog", "a cat"]], model="sightword-small")
        mean = vectors("a dog", "a cat").sum(axis=0)
        same(answer.embeddings, [vectors("a cat")[0], mean / np.linalg.norm(mean)])

    def test_600_inputs(self, here: Any) -> None:
        assert len(here.client.embed(MANY, model="sightword-small").embeddings) == len(MANY)

    def test_rerank(self, here: Any) -> None:
        answer = here.client.rerank("a cat", ["a dog", "a photo of a cat"], model="sightword-small")
        assert answer.results[0].index == 1

    def test_refusals(self, here: Any) -> None:
        with pytest.raises(Exception, match=REFUSAL):
            here.client.embed([TOO_LONG], model="sightword-small", truncation=False)
