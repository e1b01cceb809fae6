"""What helps to understand: the comparison, the arithmetic of a score, the threshold, stale answers, the map."""

from __future__ import annotations

import re
from typing import Any

import httpx
import numpy as np
import pytest

from benchmarks.service_process import Running
from tests.service import pictures
from tests.service.browser import Page
from tests.service.test_playground import answer, opened, take_samples

DRAG = "threshold.value = {}; threshold.dispatchEvent(new Event('input', {{bubbles: true}}))"


@pytest.fixture
def page(browser: Page, service: Running) -> Page:
    return opened(browser, service)


def numbers(text: str) -> list[float]:
    return [float(each) for each in re.findall(r"-?\d+\.\d+", text)]


def asked_to_embed(page: Page) -> list[str]:
    return [url for url in page.requests() if url.endswith(("/embed", "/classify", "/similarity"))]


def test_pictures_against_texts(page: Page, service: Running) -> None:
    page.one("#tab-compare").click()
    take_samples(page, 0, 1)
    page.write("#compared", "a cat\na cup of tea")
    answer(page, "compare")
    images = [{"image": pictures.as_base64(name)} for name in ("coffee", "cat")]
    asked = {"queries": [{"text": "a cat"}, {"text": "a cup of tea"}], "candidates": images}
    told = httpx.post(f"{service.url}/similarity", json=asked, timeout=300).json()["cosine"]
    shown = [float(text) for text in page.texts("#compare-outcome td b")]
    assert np.argmax(shown[:2]) == np.argmax([told[0][0], told[1][0]])
    np.testing.assert_allclose(shown, np.array(told).T.ravel(), atol=0.05)  # the samples are smaller files of the same
    shades = page.run(
        "return [...document.querySelectorAll('.heat tbody td')].map((td) => getComputedStyle(td).backgroundColor)"
    )
    page.one("#compare [value=probability]").click()
    assert shades != page.run(
        "return [...document.querySelectorAll('.heat tbody td')].map((td) => getComputedStyle(td).backgroundColor)"
    )
    assert not page.one("#compare-outcome .stale-note").is_displayed()


@pytest.mark.parametrize("multi_label", [False, True])
def test_a_score_is_what_its_arithmetic_says(page: Page, service: Running, multi_label: bool) -> None:
    [model] = httpx.get(f"{service.url}/info").json()["models"]
    take_samples(page, 0)
    if multi_label:
        page.run("document.querySelector('#classify details').open = true")
        page.one("#multi-label").click()
    page.write("#labels", "cup of coffee, tea, cat")
    answer(page)
    page.one("#classify-outcome .why summary").click()
    page.wait(lambda: page.all("#classify-outcome .why table"))
    cosines = np.array([float(each) for each in page.texts("#classify-outcome .why td:nth-child(2)")])
    shown = [
        float(each.rstrip(" %").removeprefix("< ")) / 100 for each in page.texts("#classify-outcome .why td:last-child")
    ]
    if multi_label:
        [without] = re.findall(r"without any label has (-?\d\.\d+)", page.one("#classify-outcome .why p").text)
        expected = 1 / (1 + np.exp(-model["logit_scale"] * (cosines - float(without))))
    else:
        powers = np.exp(model["logit_scale"] * cosines)
        expected = powers / powers.sum()
    np.testing.assert_allclose(shown, expected, atol=0.003)
    options = {"labels": "cup of coffee,tea,cat", "multi_label": str(multi_label).lower()}
    sample = httpx.get(f"{service.url}/playground/samples/coffee.jpg").content
    told = httpx.post(f"{service.url}/classify", files={"file": sample}, data=options, timeout=300).json()
    np.testing.assert_allclose(expected, [each["score"] for each in told["data"][0]["predictions"]], atol=0.003)


def test_the_threshold_filters_what_is_there_and_other_labels_make_it_stale(page: Page) -> None:
    take_samples(page, 0, 3)
    answer(page)
    assert "none of these" not in page.texts("#classify-outcome .best")
    page.requests()
    page.run(DRAG.format(0.99))
    page.wait(lambda: "none of these" in page.texts("#classify-outcome .best"))
    page.wait(lambda: "1 none of these" in page.one("#classify-outcome .overview").text)
    page.run(DRAG.format(0))
    page.wait(lambda: "none of these" not in page.texts("#classify-outcome .best"))
    assert asked_to_embed(page) == []
    assert not page.one("#classify-outcome .stale-note").is_displayed()
    page.write("#labels", "cat, dog")
    assert "Press Classify again" in page.one("#classify-outcome .stale-note").text
    answer(page)
    assert "stale" not in (page.one("#classify-outcome").get_attribute("class") or "").split()


def test_the_map_is_the_principal_components(page: Page, service: Running) -> None:
    matrix = np.random.default_rng(0).normal(size=(40, 5)) * [9, 4, 1, 1, 1]
    script = """
        const [matrix, count, done] = arguments;
        import('./playground/project.js').then(
            ({project}) => done(project({matrix: Float32Array.from(matrix), count})));
    """
    asked: Any = page.driver.execute_async_script
    made = asked(script, matrix.ravel().tolist(), len(matrix))
    centred = matrix - matrix.mean(axis=0)
    _, variances, axes = np.linalg.svd(centred, full_matrices=False)
    np.testing.assert_allclose(np.abs(made["points"]), np.abs(centred @ axes[:2].T), atol=0.02)
    assert abs(made["explained"] - (variances[:2] ** 2).sum() / (variances**2).sum()) < 1e-3
    page.one("#tab-map").click()
    take_samples(page, 0, 1, 2, 3)
    answer(page, "map")
    assert len(page.all("#map-outcome .map image")) == 4
    page.run(
        "document.querySelectorAll('#map-outcome image')[2].dispatchEvent(new MouseEvent('click', {bubbles: true}))"
    )
    assert page.texts("#map-outcome .hit .name")[0] == "rocket.jpg"
    assert page.errors() == []
