"""Products by words and pictures, with filters."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from benchmarks.service_process import Running
from tests.examples import ROOT, run

pytest.importorskip("lancedb", reason="pip install lancedb")


def test_products_are_found_within_filters(tmp_path: Path, service: Running) -> None:
    url = service.url

    def search(*arguments: str | Path) -> list[str]:
        done = run("shop_search", "--database", tmp_path / "shop", "search", *arguments, url=url)
        return [line.split("  ")[1] for line in done.stdout.splitlines()]

    catalogue = ROOT / "examples" / "posters.csv"
    nothing = run("shop_search", "--database", tmp_path / "shop", "search", "a cat", url=url, code=1)
    assert nothing.stderr == "error: with this model, no catalogue is indexed\n"
    assert run("shop_search", "--database", tmp_path / "shop", "index", catalogue, url=url).stdout == "4 products\n"
    assert search("a cat")[0] == "P-1"
    assert search("coffee")[0] == "P-2"
    assert search(ROOT / "model" / "probe_data" / "rocket.jpg")[0] == "P-3"
    assert set(search("coffee", "--in-stock")) == {"P-1", "P-3", "P-4"}
    assert set(search("coffee", "--max-price", "18")) == {"P-1", "P-4"}
    assert search("a cat", "--category", "space' OR 'a' = 'a") == []
    assert search("coffee", "--max-price", "18", "--in-stock", "--category", "space") == ["P-4"]


def test_another_catalogue_takes_its_place_and_a_broken_picture_is_named(tmp_path: Path) -> None:
    for name in ("chelsea", "coffee"):
        shutil.copy(ROOT / "model" / "probe_data" / f"{name}.jpg", tmp_path)
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    lines = ["A,Cat,animals,1.50,yes,chelsea.jpg", "B,Broken,animals,1,yes,broken.jpg", "C,Gone,animals,1,yes,gone.jpg"]
    catalogue = tmp_path / "catalogue.csv"
    database = ("--database", tmp_path / "shop")
    run("shop_search", *database, "index", ROOT / "examples" / "posters.csv")
    catalogue.write_text("\n".join(["sku,title,category,price,in_stock,picture", *lines]), "utf-8")
    done = run("shop_search", *database, "index", catalogue)
    assert done.stdout == "1 products\n"
    assert "left out B: The image is not" in done.stderr
    assert "left out C: " in done.stderr
    assert run("shop_search", *database, "search", "a cat").stdout.endswith("  A  1.50  Cat\n")
