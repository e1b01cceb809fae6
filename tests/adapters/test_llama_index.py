"""LlamaIndex's own index over pictures and texts."""

from __future__ import annotations

import asyncio
from io import BytesIO

import numpy as np
import pytest

import sightword
from tests.adapters import LONG, PICTURES, SEARCHES

pytest.importorskip("llama_index.core", reason="pip install llama-index-core")


def test_pictures_are_found_by_texts_and_by_pictures(url: str | None, paths: list[str]) -> None:
    from llama_index.core.indices import MultiModalVectorStoreIndex
    from llama_index.core.schema import Document, ImageDocument

    from sightword.adapters.llama_index import SightwordEmbedding

    embedding = SightwordEmbedding(url=url)
    documents = [ImageDocument(image_path=path, text="a caption") for path in paths]
    index = MultiModalVectorStoreIndex.from_documents(
        [*documents, Document(text="a text")], embed_model=embedding, image_embed_model=embedding
    )
    retriever = index.as_retriever(image_similarity_top_k=1)
    for text, name in SEARCHES.items():
        (found,) = retriever.text_to_image_retrieve(text)
        assert found.node.image_path == str(PICTURES[name])
    (found,) = retriever.image_to_image_retrieve(str(PICTURES["rocket"]))
    assert found.node.image_path == str(PICTURES["rocket"])


def test_the_vectors_are_those_of_the_client(url: str | None) -> None:
    from sightword.adapters.llama_index import SightwordEmbedding

    embedding = SightwordEmbedding(url=url, dimensions=64)
    cat = PICTURES["chelsea"]
    text, image = sightword.load().embed(["a cat", cat], dimensions=64)
    np.testing.assert_allclose(embedding.get_query_embedding("a cat"), text, atol=1e-6)
    np.testing.assert_allclose(embedding.get_text_embedding_batch(["a cat"] * 3), [text] * 3, atol=1e-6)
    np.testing.assert_allclose(
        embedding.get_image_embedding_batch([str(cat), BytesIO(cat.read_bytes())]), [image] * 2, atol=1e-6
    )
    np.testing.assert_allclose(asyncio.run(embedding.aget_text_embedding("a cat")), text, atol=1e-6)
    np.testing.assert_allclose(asyncio.run(embedding.aget_image_embedding(str(cat))), image, atol=1e-6)


def test_the_key_is_in_nothing_that_is_stored() -> None:
    from sightword.adapters.llama_index import SightwordEmbedding

    embedding = SightwordEmbedding(api_key="a secret")
    assert "a secret" not in embedding.to_json() + repr(embedding) + str(embedding.to_payload())


def test_a_long_text_is_refused_or_cut(url: str | None) -> None:
    from sightword.adapters.llama_index import SightwordEmbedding

    with pytest.raises(sightword.SightwordError, match="token"):
        SightwordEmbedding(url=url).get_text_embedding(LONG)
    assert len(SightwordEmbedding(url=url, truncate=True).get_text_embedding(LONG)) > 0
