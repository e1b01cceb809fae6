"""The names by which clients may ask for a model: its id, its aliases, and every spelling of what it was pulled as."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import httpx
import pytest

from benchmarks.service_process import PATIENCE_S, running
from model.bundle import Bundle, write_manifest
from service.published_names import published_id


def pulled(bundle: Bundle, folder: Path, identity: str, name: object) -> Bundle:
    shutil.copytree(bundle.path, folder)
    (folder / "bundle.json").unlink()
    fields: dict[str, Any] = {"id": identity, "source": {"published": {"name": name}}}
    return write_manifest(folder, bundle.manifest.model_dump(mode="json", exclude={"files"}) | fields)


def test_a_pulled_model_answers_to_the_names_of_others(bundle: Bundle, tmp_path: Path) -> None:
    laion = pulled(bundle, tmp_path / "laion", "ViT-B-32--laion2b_s34b_b79k", "ViT-B-32:laion2b_s34b_b79k")
    hub = pulled(bundle, tmp_path / "hub", "an-org--a-model", "an-org/a-model")
    aliases = {"model_aliases": "search=ViT-B-32:laion2b_s34b_b79k,other=an-org--a-model"}
    with (
        running(tmp_path, Path(f"{laion.path},{hub.path}"), **aliases) as service,
        httpx.Client(base_url=service.url, timeout=PATIENCE_S) as client,
    ):

        def asked(model: str) -> str:
            answer = client.post("/embed", json={"inputs": "a cat", "model": model}).json()
            return str(answer.get("model") or answer["error"]["message"])

        spellings = [
            "ViT-B-32:laion2b_s34b_b79k",
            "ViT-B-32__laion2b-s34b-b79k",
            "vit-b-32/laion2b_s34b_b79k",
            "search",
        ]
        assert {asked(name) for name in [laion.id, *spellings]} == {laion.id}
        assert {asked(name) for name in (hub.id, "an-org/a-model", "other")} == {hub.id}
        # Another model of the same architecture is never meant.
        assert asked("ViT-B-32__openai").startswith("No model of this name is served here; ")
        assert "did you mean search?" in asked("serach")
        assert f"did you mean {hub.id}?" in asked("an-org--a-modle")
        assert asked("x" * 100_000).endswith(f"there is {laion.id}, {hub.id}.")
        by_id = {model["id"]: model["aliases"] for model in client.get("/info").json()["models"]}
        assert by_id == {laion.id: ["search"], hub.id: ["other"]}


@pytest.mark.parametrize("name", [None, 3, ["ViT-B-32"], {}])
def test_a_manifest_that_names_nothing(bundle: Bundle, tmp_path: Path, name: object) -> None:
    odd = pulled(bundle, tmp_path / "odd", "ViT-B-32", name)
    assert published_id("ViT-B-32__openai", [odd]) is None
    other = odd.manifest.model_copy(update={"source": {"published": name}})
    assert published_id("ViT-B-32__openai", [Bundle(odd.path, other)]) is None
