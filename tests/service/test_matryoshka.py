"""Vectors that were trained to be cut: what /info says of them, and an answer to a request for another length."""

from __future__ import annotations

import shutil
from pathlib import Path

import httpx
import numpy as np
import pytest

from benchmarks.service_process import PATIENCE_S, running
from model.bundle import Bundle, write_manifest

TRAINED = (4, 8)


@pytest.fixture
def trained(bundle: Bundle, tmp_path: Path) -> Bundle:
    folder = tmp_path / "trained"
    shutil.copytree(bundle.path, folder)
    (folder / "bundle.json").unlink()
    lengths = (*TRAINED, bundle.dimensions)
    fields = {"id": "trained", "matryoshka_dimensions": lengths}
    return write_manifest(folder, bundle.manifest.model_dump(mode="json", exclude={"files"}) | fields)


def test_a_model_says_which_lengths_it_was_trained_for(bundle: Bundle, trained: Bundle, tmp_path: Path) -> None:
    listed = ", ".join(map(str, (*TRAINED, bundle.dimensions)))
    assert trained.digest == bundle.digest
    with (
        running(tmp_path, Path(f"{trained.path},{bundle.path}")) as service,
        httpx.Client(base_url=service.url, timeout=PATIENCE_S) as client,
    ):
        first, second = client.get("/info").json()["models"]
        assert first["matryoshka_dimensions"] == [*TRAINED, bundle.dimensions]
        assert second["matryoshka_dimensions"] == []
        assert client.get("/models").json()["models"][0] == first

        def embed(dimensions: int | None, model: str = "trained") -> httpx.Response:
            answer = client.post("/embed", json={"inputs": "a cat", "dimensions": dimensions, "model": model})
            assert answer.status_code == 200, answer.text
            return answer

        whole = np.array(embed(None).json()["data"][0]["embedding"])
        for dimensions in (*TRAINED, 6, bundle.dimensions):
            answer = embed(dimensions)
            cut = whole[:dimensions] / np.linalg.norm(whole[:dimensions])
            np.testing.assert_allclose(answer.json()["data"][0]["embedding"], cut, atol=1e-6)
            assert answer.headers.get("x-matryoshka-dimensions") == (listed if dimensions == 6 else None)
        assert "x-matryoshka-dimensions" not in embed(None).headers
        assert "x-matryoshka-dimensions" not in embed(6, bundle.id).headers  # nothing is known of it

        openai = client.post("/v1/embeddings", json={"input": "a cat", "dimensions": 6, "model": "trained"})
        assert openai.headers["x-matryoshka-dimensions"] == listed
        too_many = client.post("/embed", json={"inputs": "a cat", "dimensions": bundle.dimensions + 1})
        assert (too_many.status_code, too_many.json()["error"]["param"]) == (422, "dimensions")
