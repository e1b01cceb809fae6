"""Infinity's generated client."""

from __future__ import annotations

from typing import Any

from tests.sdks.clients import Client
from tests.sdks.inputs import DATA_URI, IMAGE, REFUSAL, TEXTS, TOO_LONG, same


class TestInfinity:
    client = Client(
        "Infinity",
        "infinity_client",
        "infinity-client",
        """
from infinity_client import Client

client = Client(base_url="http://localhost:8000")
""",
        "at the root, not at `/v1`; a refusal is returned, not raised; its `AuthenticatedClient` sends a key",
    )

    def test_texts(self, here: Any, vectors: Any) -> None:
        from infinity_client.api.default import embeddings
        from infinity_client.models import OpenAIEmbeddingInputText

        answer = embeddings.sync(client=here.client, body=OpenAIEmbeddingInputText(TEXTS))
        same([entry.embedding for entry in answer.data], vectors(*TEXTS))

    def test_images(self, here: Any, vectors: Any) -> None:
        from infinity_client.api.default import embeddings
        from infinity_client.models import OpenAIEmbeddingInputImage, OpenAIEmbeddingInputImageModality

        image = OpenAIEmbeddingInputImage(DATA_URI, modality=OpenAIEmbeddingInputImageModality.IMAGE)
        [entry] = embeddings.sync(client=here.client, body=image).data
        same([entry.embedding], vectors(IMAGE))

    def test_rerank(self, here: Any) -> None:
        from infinity_client.api.default import rerank
        from infinity_client.models import RerankInput

        body = RerankInput("a cat", ["a dog", "a photo of a cat"], return_documents=True)
        answer = rerank.sync(client=here.client, body=body)
        assert [(each.index, each.document) for each in answer.results] == [(1, "a photo of a cat"), (0, "a dog")]

    def test_refusals(self, here: Any) -> None:
        from infinity_client.api.default import embeddings
        from infinity_client.models import OpenAIEmbeddingInputText

        refused = embeddings.sync(client=here.client, body=OpenAIEmbeddingInputText([TOO_LONG]))
        assert REFUSAL in refused.detail[0].msg

    def test_list_of_models(self, here: Any) -> None:
        from infinity_client.api.default import models

        answer = models.sync(client=here.client)
        assert answer.data[0].id == "sightword-small"
        assert set(answer.data[0].capabilities) >= {"embed", "image_embed", "rerank"}

    def test_health(self, here: Any) -> None:
        from infinity_client.api.default import health

        assert health.sync(client=here.client)["unix"] > 1e9
