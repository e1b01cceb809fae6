"""LanceDB's registry of embedding functions, which takes only names of the provider."""

from __future__ import annotations

from typing import Any

import pytest

from tests.sdks.clients import Client
from tests.sdks.inputs import TEXTS, same


def check_texts(here: Any, vectors: Any, tmp_path: Any) -> None:
    import lancedb
    from lancedb.pydantic import LanceModel, Vector

    function = here.function

    class Row(LanceModel):
        text: str = function.SourceField()
        vector: Vector(function.ndims()) = function.VectorField()  # type: ignore[valid-type]

    same(function.generate_embeddings(TEXTS), vectors(*TEXTS))
    table = lancedb.connect(tmp_path).create_table("texts", schema=Row)
    table.add([{"text": text} for text in TEXTS])
    assert table.search("a rocket").limit(1).to_list()[0]["text"] == TEXTS[1]


class TestOpenAI:
    client = Client(
        "OpenAI",
        "lancedb, `openai`",
        "lancedb",
        """
import os
from lancedb.embeddings import get_registry

os.environ["OPENAI_API_KEY"] = "any"
server = {"base_url": "http://localhost:8000/v1"}
function = get_registry().get("openai").create(name="text-embedding-3-small", dim=256, **server)
""",
        "knows only OpenAI's names: an alias must stand for the model, and `dim` is to be given",
    )

    def test_texts(self, here: Any, vectors: Any, tmp_path: Any) -> None:
        check_texts(here, vectors, tmp_path)


class TestOllama:
    client = Client(
        "Ollama",
        "lancedb, `ollama`",
        "lancedb",
        """
from lancedb.embeddings import get_registry

function = get_registry().get("ollama").create(name="sightword-small", host="http://localhost:8000")
""",
        "texts only",
    )

    def test_texts(self, here: Any, vectors: Any, tmp_path: Any) -> None:
        pytest.importorskip("ollama")
        check_texts(here, vectors, tmp_path)
