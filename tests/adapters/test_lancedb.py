"""LanceDB on disk, over columns of paths, of pictures and of texts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import sightword
from benchmarks.service_process import Running
from tests.adapters import KEY, PICTURES, SEARCHES

lancedb = pytest.importorskip("lancedb", reason="pip install lancedb")


def function(**options: Any) -> Any:
    import sightword.adapters.lancedb

    assert sightword.adapters.lancedb
    return lancedb.embeddings.get_registry().get("sightword").create(**options)


def table_of(folder: Path, embedding: Any, kind: Any) -> Any:
    from lancedb.pydantic import LanceModel, Vector

    class Row(LanceModel):
        name: str
        source: kind = embedding.SourceField()  # type: ignore[valid-type]
        vector: Vector(embedding.ndims()) = embedding.VectorField()  # type: ignore[valid-type]

    return lancedb.connect(folder).create_table("rows", schema=Row)


@pytest.mark.parametrize("kind", [str, bytes])
def test_pictures_are_found_by_texts_and_by_pictures(url: str | None, kind: Any, tmp_path: Path) -> None:
    table = table_of(tmp_path, function(url=url, paths=True), kind)
    sources = {name: str(path) if kind is str else path.read_bytes() for name, path in PICTURES.items()}
    table.add([{"name": name, "source": source} for name, source in sources.items()])
    table = lancedb.connect(tmp_path).open_table("rows")  # which finds its function again
    for text, name in SEARCHES.items():
        assert [row["name"] for row in table.search(text).limit(1).to_list()] == [name]
    assert table.search(Image.open(PICTURES["rocket"])).limit(1).to_list()[0]["name"] == "rocket"
    stored = table.to_arrow()
    theirs = sightword.load().embed([PICTURES[name] for name in stored["name"].to_pylist()])
    np.testing.assert_allclose(np.array(stored["vector"].to_pylist()), theirs, atol=1e-6)


def test_texts_are_found(url: str | None, tmp_path: Path) -> None:
    table = table_of(tmp_path, function(url=url, dimensions=64), str)
    table.add([{"name": text, "source": text} for text in ("a cat", "a rocket", "coffee")])
    (found,) = table.search("a photo of a cat").limit(1).to_list()
    assert (found["name"], len(found["vector"])) == ("a cat", 64)


def test_a_row_without_a_source_has_no_vector(url: str | None) -> None:
    first, none = function(url=url).compute_source_embeddings(["a cat", None])
    assert first.shape == sightword.load().embed("a cat").shape[1:]
    assert none is None


def test_a_table_stores_no_key(locked: Running, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="api_key"):
        function(api_key=KEY)
    lancedb.embeddings.get_registry().set_var("my_key", KEY)
    table = table_of(tmp_path, function(url=locked.url, api_key="$var:my_key"), str)
    table.add([{"name": text, "source": text} for text in ("a cat", "a rocket")])
    assert table.search("a photo of a cat").limit(1).to_list()[0]["name"] == "a cat"
    assert not any(KEY.encode() in file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())
