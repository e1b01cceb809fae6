"""Chroma on disk, over pictures and over texts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import sightword
from benchmarks.service_process import Running
from tests.adapters import KEY, PICTURES, SEARCHES

chromadb = pytest.importorskip("chromadb", reason="pip install chromadb")


@pytest.fixture
def database(tmp_path: Path) -> Any:
    return chromadb.PersistentClient(str(tmp_path), chromadb.Settings(anonymized_telemetry=False))


def test_pictures_are_found_by_texts_and_by_pictures(url: str | None, paths: list[str], database: Any) -> None:
    from sightword.adapters.chroma import PictureLoader, SightwordEmbeddingFunction

    loader = PictureLoader()
    collection = database.create_collection(
        "pictures", embedding_function=SightwordEmbeddingFunction(url), data_loader=loader
    )
    collection.add(ids=paths, uris=paths)
    for text, name in SEARCHES.items():
        assert collection.query(query_texts=[text], n_results=1)["ids"] == [[str(PICTURES[name])]]
    pixels = np.asarray(Image.open(PICTURES["rocket"]))
    assert collection.query(query_images=[pixels], n_results=1)["ids"] == [[str(PICTURES["rocket"])]]
    stored = collection.get(ids=paths, include=["embeddings", "uris"])
    order = [Path(each) for each in stored["uris"]]
    np.testing.assert_allclose(stored["embeddings"], sightword.load().embed(order), atol=1e-6)


def test_a_collection_finds_its_function_again_but_no_key(
    locked: Running, database: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sightword.adapters.chroma import SightwordEmbeddingFunction

    monkeypatch.setenv("MY_KEY", KEY)
    function = SightwordEmbeddingFunction(locked.url, api_key_env_var="MY_KEY")
    database.create_collection("texts", embedding_function=function)
    collection = database.get_collection("texts")  # of its stored settings
    collection.add(ids=["1", "2"], documents=["a cat", "a rocket"])
    assert collection.query(query_texts=["a photo of a cat"], n_results=1)["ids"] == [["1"]]
    assert collection.configuration_json["embedding_function"] == {
        "type": "known",
        "name": "sightword",
        "config": {"url": locked.url, "model": None, "api_key_env_var": "MY_KEY"},
    }
    assert not any(KEY.encode() in file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())


def test_a_collection_keeps_its_model() -> None:
    from sightword.adapters.chroma import SightwordEmbeddingFunction

    function = SightwordEmbeddingFunction("http://127.0.0.1:1", "one")
    function.validate_config_update(function.get_config(), {"url": "http://127.0.0.1:2", "model": "one"})
    with pytest.raises(ValueError, match="new collection"):
        function.validate_config_update(function.get_config(), {"model": "another"})


def test_pixels_of_any_mode_are_pictures(url: str | None) -> None:
    from sightword.adapters.chroma import SightwordEmbeddingFunction

    image = Image.open(PICTURES["chelsea"])
    arrays = [np.asarray(image.convert(mode)) for mode in ("RGB", "L", "RGBA")]
    cat, text = SightwordEmbeddingFunction(url)(arrays), SightwordEmbeddingFunction(url)(["a cat"])[0]
    assert [vector.shape for vector in cat] == [text.shape] * 3
    np.testing.assert_allclose(cat[2], cat[0], atol=1e-3)
