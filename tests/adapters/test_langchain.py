"""LangChain's own vector stores, over pictures and over texts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import sightword
from tests.adapters import LONG, PICTURES, SEARCHES

pytest.importorskip("langchain_core", reason="pip install langchain-core")


def test_pictures_are_found_by_texts_and_by_pictures(url: str | None, paths: list[str], tmp_path: Path) -> None:
    langchain_chroma = pytest.importorskip("langchain_chroma", reason="pip install langchain-chroma")
    from sightword.adapters.langchain import SightwordEmbeddings

    store = langchain_chroma.Chroma("pictures", SightwordEmbeddings(url), persist_directory=str(tmp_path))
    store.add_images(paths, metadatas=[{"path": path} for path in paths])
    for text, name in SEARCHES.items():
        assert [found.metadata["path"] for found in store.similarity_search(text, k=1)] == [str(PICTURES[name])]
    (found,) = store.similarity_search_by_image(str(PICTURES["rocket"]), k=1)
    assert found.metadata["path"] == str(PICTURES["rocket"])


def test_documents_are_found(url: str | None) -> None:
    from langchain_core.vectorstores import InMemoryVectorStore

    from sightword.adapters.langchain import SightwordEmbeddings

    store = InMemoryVectorStore.from_texts(["a cat", "a rocket", "coffee"], SightwordEmbeddings(url))
    assert store.as_retriever(search_kwargs={"k": 1}).invoke("a photo of a cat")[0].page_content == "a cat"


def test_the_vectors_are_those_of_the_client(url: str | None) -> None:
    from sightword.adapters.langchain import SightwordEmbeddings

    embeddings = SightwordEmbeddings(url, dimensions=64)
    theirs = sightword.load().embed(["a cat", PICTURES["chelsea"]], dimensions=64)
    np.testing.assert_allclose(embeddings.embed_documents(["a cat"]), theirs[:1], atol=1e-6)
    np.testing.assert_allclose(embeddings.embed_image([PICTURES["chelsea"].as_uri()]), theirs[1:], atol=1e-6)
    assert embeddings.embed_documents([]) == []


def test_a_long_text_is_refused_or_cut(url: str | None) -> None:
    from sightword.adapters.langchain import SightwordEmbeddings

    with pytest.raises(sightword.SightwordError, match="token"):
        SightwordEmbeddings(url).embed_query(LONG)
    assert len(SightwordEmbeddings(url, truncate=True).embed_query(LONG)) > 0
