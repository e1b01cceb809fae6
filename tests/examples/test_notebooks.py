"""The notebooks, run from the first cell to the last in a kernel of their own, as they are in the repository."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest

from benchmarks.service_process import Running, clean_environment
from tests.examples import ROOT

nbformat = pytest.importorskip("nbformat", reason="pip install nbclient ipykernel, which development installs")
nbclient = pytest.importorskip("nbclient", reason="pip install nbclient ipykernel, which development installs")

NOTEBOOKS = sorted((ROOT / "examples" / "notebooks").glob("*.ipynb"))
NAMES = ["finetune", "search", "zero_shot"]
MOST_BYTES = 12_000
CELL_S = 240  # of a machine that is busy
LINK = re.compile(r"\]\((?P<target>[^)#:]+)(?:#(?P<anchor>[^)]+))?\)")


@pytest.fixture(params=NOTEBOOKS, ids=lambda notebook: notebook.stem)
def notebook(request: pytest.FixtureRequest) -> Path:
    return Path(request.param)


@pytest.fixture(autouse=True)
def jupyter_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither what this person set up for Jupyter, nor anything left behind with it."""
    for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR"):
        monkeypatch.setenv(name, str(tmp_path / "jupyter"))


def anchors(document: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", document.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def executed(name: str, **settings: str) -> str:
    """All that the cells of `name` print. A cell that fails raises CellExecutionError, with its traceback."""
    path = ROOT / "examples" / "notebooks" / f"{name}.ipynb"
    book: Any = nbformat.read(path, as_version=4)
    client = nbclient.NotebookClient(
        book,
        timeout=CELL_S,
        startup_timeout=CELL_S,
        kernel_name="python3",
        resources={"metadata": {"path": str(path.parent)}},
    )
    path_of_modules = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    client.execute(env=clean_environment(settings) | {"PYTHONPATH": path_of_modules})
    outputs = [output for cell in book.cells if cell.cell_type == "code" for output in cell.outputs]
    assert [output.text for output in outputs if output.get("name") == "stderr"] == []
    return "".join(output.text for output in outputs if output.output_type == "stream") + "".join(
        f"<{kind}>" for output in outputs if "data" in output for kind in output.data if kind.startswith("image/")
    )


def test_each_is_run_here() -> None:
    assert [notebook.stem for notebook in NOTEBOOKS] == NAMES


def test_it_is_kept_without_what_it_printed(notebook: Path) -> None:
    text = notebook.read_text("utf-8")
    assert len(text.encode()) <= MOST_BYTES
    book: Any = nbformat.reads(text, as_version=4)
    nbformat.validate(book)
    code = [cell for cell in book.cells if cell.cell_type == "code"]
    stored = [cell.id for cell in code if cell.outputs or cell.execution_count is not None or cell.metadata]
    assert stored == [], "Clear All Outputs, and save"
    assert set(book.metadata) == {"kernelspec", "language_info"}


def test_the_readme_lists_it_and_its_links_lead_somewhere(notebook: Path) -> None:
    assert f"](notebooks/{notebook.name})" in (ROOT / "examples" / "README.md").read_text("utf-8")
    book: Any = nbformat.read(notebook, as_version=4)
    links = [link for cell in book.cells if cell.cell_type == "markdown" for link in LINK.finditer(cell.source)]
    assert links
    for link in links:
        target = notebook.parent / link["target"]
        assert target.is_file(), link[0]
        assert link["anchor"] is None or link["anchor"] in anchors(target), link[0]


def test_zero_shot_in_ten_lines() -> None:
    book: Any = nbformat.read(ROOT / "examples" / "notebooks" / "zero_shot.ipynb", as_version=4)
    first = next(cell for cell in book.cells if cell.cell_type == "code")
    assert len(first.source.splitlines()) <= 10
    printed = executed("zero_shot")
    found = dict(re.findall(r"^(\w+)\.jpg +(\w[\w ]*\w) +\d\.\d\d$", printed, re.MULTILINE))
    assert found["chelsea"] == "cat"
    assert found["coffee"] == "cup of coffee"
    assert "the same as classify: True" in printed
    fitting = dict(re.findall(r"^(\w+)\.jpg +(\w[\w ]*\w) +(?:cat|cup of coffee) \d", printed, re.MULTILINE))
    nothing = "none of these"
    assert fitting == {"astronaut": nothing, "chelsea": "cat", "coffee": "cup of coffee", "rocket": nothing}
    assert printed.endswith("<image/png>")


def test_pictures_are_searched_by_words_and_by_a_picture(service: Running) -> None:
    pytest.importorskip("usearch", reason="pip install usearch")
    before = service.metric("sightword_requests_total")
    printed = executed("search", SIGHTWORD_URL=service.url)
    assert service.metric("sightword_requests_total") > before
    assert "left out: broken.jpg: The image is not" in printed
    assert re.search(r"^1\.000  chelsea\.jpg$", printed, re.MULTILINE)
    [shared, exact] = map(int, re.findall(r"^(\d+) of (\d+) found$", printed, re.MULTILINE)[0])
    assert shared >= 0.9 * exact == 45
    assert printed.count("<image/png>") == 3


def test_a_model_is_trained_further_and_published() -> None:
    printed = executed("finetune")
    [before] = map(int, re.findall(r"^(\d+) of 24 right, by the model with the digest \w+$", printed, re.MULTILINE))
    [after] = map(int, re.findall(r"^(\d+) of 24 right, .*; before \d+$", printed, re.MULTILINE))
    assert after >= before + 8
    assert "another digest: True" in printed
    assert "is kept in served.previous" in printed
    assert "the service ended with exit code 0" in printed
