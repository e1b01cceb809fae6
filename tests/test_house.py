"""What `make check` cannot hold of the layout: files are short, and modules import each other in no circle."""

from __future__ import annotations

from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("model", "service", "sightword", "training", "benchmarks")
MAX_LINES = 300


@pytest.mark.parametrize("package", PACKAGES)
def test_no_file_is_longer_than_one_can_read(package: str) -> None:
    files = list((ROOT / package).rglob("*.py"))
    assert files
    lengths = {str(file.relative_to(ROOT)): len(file.read_text("utf-8").splitlines()) for file in files}
    assert not {file: length for file, length in lengths.items() if length > MAX_LINES}


@pytest.mark.parametrize("package", PACKAGES)
def test_modules_import_each_other_in_no_circle(package: str) -> None:
    graph = grimp.build_graph(package, cache_dir=None)
    imports = {module: set(graph.find_modules_directly_imported_by(module)) for module in graph.modules}
    assert any(imports.values())
    while free := [module for module, imported in imports.items() if not imported & imports.keys()]:
        for module in free:
            del imports[module]
    assert not imports, "in a circle, or above one"
