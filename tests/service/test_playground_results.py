"""What the page gives away and keeps: files, a table, an address that says the question, a form kept at reload."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from benchmarks.service_process import Running
from tests.service import pictures
from tests.service.browser import Page
from tests.service.test_playground import answer, opened, take_samples


@pytest.fixture
def page(browser: Page, service: Running) -> Page:
    return opened(browser, service)


@pytest.fixture
def saved(page: Page, tmp_path: Path) -> Callable[[str, str], bytes]:
    """Press the button of a panel and read the file that it saves."""
    folder = tmp_path / "downloads"
    page.driver.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(folder)})

    def press(panel: str, name: str) -> bytes:
        before = set(folder.glob("*"))
        [button] = [each for each in page.all(f"#{panel}-outcome .saving button") if each.text == name]
        button.click()
        ending = f"*.{name.lower()}"
        [file] = page.wait(lambda: [each for each in folder.glob(ending) if each not in before and each.stat().st_size])
        return file.read_bytes()

    return press


def test_results_as_files(page: Page, saved: Callable[[str, str], bytes], tmp_path: Path) -> None:
    formula = tmp_path / '=1+1, "quoted".png'
    formula.write_bytes(pictures.read("cat"))
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no picture")
    page.choose_files(formula, broken)
    take_samples(page, 0)
    page.write("#labels", "cup of coffee, cat")
    answer(page)
    names = page.texts("#tray .name")
    [header, *rows] = list(csv.reader(saved("classify", "CSV").decode("utf-8-sig").splitlines()))
    assert header[:5] == ["picture", "label", "score", "cosine", "error"]
    by_name = {row[0]: row for row in rows}
    assert set(by_name) == {f"'{formula.name}", "broken.jpg", "coffee.jpg"}
    assert by_name["coffee.jpg"][1] == "cup of coffee"
    assert "not a readable file" in by_name["broken.jpg"][4]
    told = json.loads(saved("classify", "JSON"))
    assert [entry["picture"] for entry in told["results"]] == names
    assert told["question"]["labels"] == "cup of coffee,cat"
    page.one("#tab-embed").click()
    answer(page, "embed")
    (tmp_path / "vectors.npy").write_bytes(saved("embed", "NPY"))
    vectors = np.load(tmp_path / "vectors.npy", allow_pickle=False)
    assert vectors.dtype == np.float32
    assert vectors.shape[0] == 2
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-4)
    table = list(csv.DictReader(saved("embed", "CSV").decode("utf-8-sig").splitlines()))
    np.testing.assert_allclose([float(row["x7"]) for row in table], vectors[:, 7], atol=1e-6)
    page.one("#tab-search").click()
    answer(page, "search")
    found = json.loads(saved("search", "JSON"))["results"]
    assert [hit["candidate"] for hit in found] == page.texts("#search-outcome .hit .name")


def test_a_table_that_is_sorted_and_grouped(page: Page) -> None:
    take_samples(page, 0, 1, 2, 3)
    page.write("#labels", "cup of coffee, cat")
    answer(page)
    page.one("#classify-outcome .views button:last-child").click()
    names = lambda: [text.strip() for text in page.texts("#classify-outcome tbody th[scope=row]")]  # noqa: E731
    assert names() == page.texts("#tray .name")
    page.one("#classify-outcome [data-column='0']").click()
    assert names() == sorted(page.texts("#tray .name"))
    page.one("#classify-outcome [data-column='0']").click()
    assert names() == sorted(page.texts("#tray .name"), reverse=True)
    assert page.run("return document.activeElement.dataset.column") == "0"
    page.one("#classify-outcome .grouping").click()
    sizes = [int(text.rpartition("·")[2]) for text in page.texts("#classify-outcome .group")]
    assert sum(sizes) == 4
    assert sizes == sorted(sizes, reverse=True)
    page.one("#classify-outcome .views button:first-child").click()
    assert len(page.all("#classify-outcome .result")) == 4


def test_a_link_says_the_question_and_a_reload_loses_none_of_it(browser: Page, page: Page, service: Running) -> None:
    page.write("#labels", "a, b & c=d\n<e> é")
    page.run("threshold.value = 0.25; threshold.dispatchEvent(new Event('input', {bubbles: true}))")
    page.run("document.querySelector('#classify details').open = true")
    page.one("#template-set [value='imagenet-7']").click()
    take_samples(page, 1, 2)
    page.one("#tab-search").click()
    page.write("#query", "something else")
    page.one("#tab-classify").click()
    link = page.driver.current_url
    page.driver.refresh()
    page.wait(lambda: page.one("#template-set").get_property("value") == "imagenet-7")
    page.wait(lambda: page.texts("#tray .name") == ["chelsea.jpg", "rocket.jpg"])
    assert page.one("#labels").get_property("value") == "a, b & c=d\n<e> é"
    assert page.one("#query").get_property("value") == "something else"
    page.run("for (const name of Object.keys(sessionStorage)) sessionStorage.removeItem(name)")
    page.open(link)
    page.wait(lambda: page.one("#template-set").get_property("value") == "imagenet-7")
    assert page.one("#labels").get_property("value") == "a, b & c=d\n<e> é"
    assert page.one("#threshold-value").text == "25 %"
    assert page.one("#query").get_property("value") == "an animal"
    assert page.texts("#tray .name") == []
