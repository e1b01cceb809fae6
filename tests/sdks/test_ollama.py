"""Ollama's client."""

from __future__ import annotations

from typing import Any

import pytest

from tests.sdks.clients import Client
from tests.sdks.inputs import MANY, REFUSAL, TEXTS, TOO_LONG, same


class TestOllama:
    client = Client(
        "Ollama",
        "ollama",
        "ollama",
        """
from ollama import Client

client = Client(host="http://localhost:8000")
""",
        "texts only; unlike Ollama, a long text is refused unless `truncate=True` is sent",
    )

    def test_texts(self, here: Any, vectors: Any) -> None:
        same(here.client.embed(model="sightword-small", input=TEXTS).embeddings, vectors(*TEXTS))

    def test_600_inputs(self, here: Any) -> None:
        assert len(here.client.embed(model="sightword-small", input=MANY).embeddings) == len(MANY)

    def test_list_of_models(self, here: Any) -> None:
        assert any(each.model.startswith("sightword-small") for each in here.client.list().models)

    def test_refusals(self, here: Any) -> None:
        with pytest.raises(Exception, match=REFUSAL):
            here.client.embed(model="sightword-small", input=TOO_LONG)
