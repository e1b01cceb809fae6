"""The page at /, in a real browser against the real service."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys

from benchmarks.service_process import PATIENCE_S, Running, running
from model.bundle import bundled
from tests.service import pictures
from tests.service.browser import Page

HOSTILE = "<img src=x onerror=window.hacked=1>"
KEY = "a-key-for-the-tests"


@pytest.fixture
def page(browser: Page, service: Running) -> Page:
    return opened(browser, service)


@pytest.fixture(scope="module")
def locked(bundle_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Two models behind a key."""
    folder = tmp_path_factory.mktemp("locked")
    second = altered(bundle_path, folder / "second", id="second")
    with running(folder, Path(f"{bundle_path},{second}"), api_keys=KEY) as service:
        yield service


def altered(bundle: Path, folder: Path, **fields: Any) -> Path:
    """The same bundle with other entries in its manifest."""
    folder.mkdir()
    for file in bundle.iterdir():
        (folder / file.name).symlink_to(file)
    manifest = json.loads((bundle / "bundle.json").read_text("utf-8"))
    (folder / "bundle.json").unlink()
    (folder / "bundle.json").write_text(json.dumps({**manifest, **fields}), "utf-8")
    return folder


def opened(page: Page, service: Running) -> Page:
    page.open(f"{service.url}/")
    page.wait(lambda: page.one("#state-text").text == "ready")
    return page


def take_samples(page: Page, *numbers: int) -> None:
    before = len(page.all("#tray li"))
    for number in numbers:
        page.all("#samples button")[number].click()
    page.wait(lambda: len(page.all("#tray li")) == before + len(numbers))


def answer(page: Page, panel: str = "classify") -> None:
    """Submit, and wait for what comes."""
    page.run(f"document.querySelector('#{panel}-outcome').replaceChildren()")
    page.one(f"#{panel} button[type=submit]").click()
    page.wait(lambda: page.all(f"#{panel}-outcome > *"))


def shown_labels(page: Page) -> list[list[str]]:
    return [
        [label.text for label in card.find_elements("css selector", ".bars .label")]
        for card in page.all("#classify-outcome .result")
    ]


def snippet(page: Page, language: str, panel: str = "classify") -> str:
    [button] = [each for each in page.all(f"#{panel}-snippet .choices button") if each.text == language]
    button.click()
    return page.one(f"#{panel}-snippet code").text


def executed(*command: str, folder: Path, **environment: str) -> str:
    """What the command prints, run where the pictures lie."""
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, **environment}, capture_output=True, timeout=PATIENCE_S, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


def pasted(page: Page, folder: Path, panel: str = "classify", **environment: str) -> Any:
    """The answer that the shown curl command gets."""
    return json.loads(executed("sh", "-c", snippet(page, "curl", panel), folder=folder, **environment))


def labels_of(answered: Any) -> list[list[str]]:
    return [[prediction["label"] for prediction in entry["predictions"]] for entry in answered["data"]]


def test_it_loads_in_silence_and_asks_nobody_else(page: Page, service: Running, client: httpx.Client) -> None:
    [model] = client.get("/info").json()["models"]
    page.wait(lambda: page.one("#model-name").text == model["id"])
    assert page.one("#digest").text == model["digest"][:12]
    take_samples(page, 0)
    asked = page.requests()
    assert len(asked) > 10
    assert {url for url in asked if not url.startswith((f"{service.url}/", "blob:", "data:"))} == set()
    assert page.errors() == []


def test_a_sample_is_classified_as_the_commands_beside_it_do(page: Page, tmp_path: Path) -> None:
    take_samples(page, 0)
    page.write("#labels", "cup of coffee, cat, bicycle, banana, flower, wristwatch")  # the last is in no cache yet
    answer(page)
    [labels] = shown_labels(page)
    assert len(labels) == 6
    assert page.one("#classify-outcome .best").text == labels[0]
    assert {"inference", "total"} <= set(page.texts("#classify-outcome .time dt"))
    assert labels[0] in page.one("#announcer").get_property("textContent")
    curled = pasted(page, tmp_path)
    assert labels_of(curled) == [labels]
    assert executed(sys.executable, "-c", snippet(page, "Python"), folder=tmp_path) == f"{curled}\n"
    assert page.errors() == []


def test_files_with_difficult_names(page: Page, tmp_path: Path) -> None:
    names = ['it\'s; a "cat", $HOME.png', f"{HOSTILE}.jpg", "-dash.jpg"]
    for name, picture in zip(names, ("cat", "rocket", "temple"), strict=True):
        (tmp_path / name).write_bytes(pictures.read(picture))
    page.choose_files(*(tmp_path / name for name in names))
    assert sorted(page.texts("#tray .name")) == sorted(names)
    answer(page)
    labels = shown_labels(page)
    assert len(labels) == 3
    assert labels_of(pasted(page, tmp_path)) == labels
    page.one("#tab-search").click()
    page.write("#query", 'a "$HOME" `with` an \\n animal')
    answer(page, "search")
    ranked = page.texts("#search-outcome .hit .name")
    names = page.texts("#tray .name")
    curled = pasted(page, tmp_path, "search")
    assert [names[hit["index"]] for hit in curled["ranking"][0]] == ranked
    assert executed(sys.executable, "-c", snippet(page, "Python", "search"), folder=tmp_path) == f"{curled}\n"


@pytest.mark.parametrize(
    ("event", "kind", "carries"), [("paste", "Clipboard", "clipboardData"), ("drop", "Drag", "dataTransfer")]
)
def test_pictures_come_by_other_ways(page: Page, event: str, kind: str, carries: str) -> None:
    page.run(f"""
        const data = new DataTransfer();
        for (const name of ["one.png", "two.png"]) data.items.add(new File([name], name));
        document.dispatchEvent(new {kind}Event("{event}", {{{carries}: data, bubbles: true}}));
    """)
    page.wait(lambda: page.texts("#tray .name") == ["one.png", "two.png"])
    page.one("#tray .remove").click()
    page.wait(lambda: page.texts("#tray .name") == ["two.png"])
    assert page.run("return document.activeElement.getAttribute('aria-label')") == "Remove two.png"


def test_text_never_becomes_markup(page: Page, tmp_path: Path) -> None:
    take_samples(page, 0)
    page.write("#labels", f"{HOSTILE}, cup\nit's $HOME")
    answer(page)
    [labels] = shown_labels(page)
    assert sorted(labels) == sorted([HOSTILE, "cup", "it's $HOME"])
    assert labels_of(pasted(page, tmp_path)) == [labels]
    page.one("#tab-search").click()
    page.one("#search [value=words]").click()
    page.write("#words", f"{HOSTILE}\ncup")
    answer(page, "search")
    assert HOSTILE in page.texts("#search-outcome .label")
    assert page.run("return [window.hacked, document.querySelectorAll('img[src=x]').length]") == [None, 0]


def test_options_reach_the_server(page: Page, client: httpx.Client, tmp_path: Path) -> None:
    stored = client.put("/label-sets/drinks", json={"labels": ["cup of coffee", "glass of water"]})
    assert stored.status_code in (200, 201)
    page.driver.refresh()
    page.wait(lambda: page.one("#label-set").is_displayed())
    page.run("document.querySelector('details').open = true")
    take_samples(page, 0)
    page.one("#template-set [value='imagenet-7']").click()
    page.one("#multi-label").click()
    page.run("threshold.value = 0.99; threshold.dispatchEvent(new Event('input', {bubbles: true}))")
    page.write("#labels", "motorcycle")
    answer(page)
    assert page.one("#classify-outcome .best").text == "none of these"
    [curled] = pasted(page, tmp_path)["data"]
    assert curled["label"] is None
    page.one("#label-set [value=drinks]").click()
    page.run("threshold.value = 0; threshold.dispatchEvent(new Event('input', {bubbles: true}))")
    answer(page)
    [labels] = shown_labels(page)
    assert sorted(labels) == ["cup of coffee", "glass of water"]
    assert labels_of(pasted(page, tmp_path)) == [labels]
    client.delete("/label-sets/drinks")


def test_vectors(page: Page, tmp_path: Path) -> None:
    page.one("#tab-embed").click()
    take_samples(page, 0, 1)
    page.write("#dimensions", "8")
    answer(page, "embed")
    assert page.texts("#embed-outcome .name") == ["coffee.jpg", "chelsea.jpg"]
    vectors = [entry["embedding"] for entry in pasted(page, tmp_path, "embed")["data"]]
    assert [len(vector) for vector in vectors] == [8, 8]
    first = ", ".join(f"{x:.4f}" for x in vectors[0][:6])
    assert page.texts("#embed-outcome .numbers")[0] == f"[{first}, …]"
    page.one("#embed [value=texts]").click()
    answer(page, "embed")
    assert len(page.all("#embed-outcome .vector")) == len(pasted(page, tmp_path, "embed")["data"]) == 2


def test_refusals_are_shown(page: Page, service: Running, tmp_path: Path) -> None:
    answer(page)
    assert "Choose a picture" in page.one("#classify-outcome .message").text
    (tmp_path / "broken.jpg").write_bytes(b"this is no picture")
    page.choose_files(tmp_path / "broken.jpg")
    answer(page)
    assert "invalid_image" in page.one("#classify-outcome .failure").text
    assert page.one("#classify-outcome .request-id").text in service.log()
    take_samples(page, 0)
    answer(page)
    assert len(page.all("#classify-outcome .message")) == len(page.all("#classify-outcome .best")) == 1


def test_a_key_opens_it(browser: Page, locked: Running, tmp_path: Path) -> None:
    page = opened(browser, locked)
    page.wait(lambda: page.one("#key-form").is_displayed())
    page.one("#key").send_keys("a wrong one", Keys.ENTER)
    page.wait(lambda: "does not know" in page.one("#key-hint").text)
    page.write("#key", KEY)
    page.one("#key").send_keys(Keys.ENTER)
    page.wait(lambda: page.one("#model").is_displayed())
    take_samples(page, 0)
    assert not page.one("#documents a[href=info]").is_displayed()  # it would be answered 401, and so would /docs
    assert page.all("a[href$='docs']") == []
    page.one("#model [value=second]").click()
    answer(page)
    assert len(shown_labels(page)[0]) == 6
    curled = pasted(page, tmp_path, API_KEY=KEY)
    assert curled["model"] == "second"
    assert executed(sys.executable, "-c", snippet(page, "Python"), folder=tmp_path, API_KEY=KEY) == f"{curled}\n"
    assert KEY not in page.one("body").text
    assert page.run("return [localStorage.length, document.cookie]") == [0, ""]
    page.one("#documents a[href$='reference.html']").click()
    page.wait(lambda: len(page.all("#reference .opblock")) > 30)
    assert [each for each in page.errors() if "401" not in each] == []
    page.driver.back()
    page.driver.refresh()
    page.wait(lambda: page.one("#model").is_displayed())
    page.one("#key-forget").click()
    page.wait(lambda: "wants a key" in page.one("#key-hint").text)
    assert page.run("return sessionStorage.length") == 0


def test_the_command_overwrites_nothing(page: Page, tmp_path: Path) -> None:
    own = pictures.read("cat")
    (tmp_path / "coffee.jpg").write_bytes(own)
    page.choose_files(tmp_path / "coffee.jpg")
    take_samples(page, 0)
    answer(page)
    labels = shown_labels(page)
    assert labels[0] != labels[1]
    assert labels_of(pasted(page, tmp_path)) == labels
    page.one("#tab-search").click()
    answer(page, "search")
    ranked = page.run("return [...document.querySelectorAll('#search-outcome .hit img')].map((image) => image.src)")
    order = [0 if address.startswith("blob:") else 1 for address in ranked]
    assert [hit["index"] for hit in pasted(page, tmp_path, "search")["ranking"][0]] == order
    assert [file.name for file in tmp_path.iterdir()] == ["coffee.jpg"]
    assert (tmp_path / "coffee.jpg").read_bytes() == own


def test_labels_reach_the_server_as_they_are_shown(page: Page, tmp_path: Path) -> None:
    take_samples(page, 0)
    for labels in ('"so", cat', "[sic], cat", "a; b", '{x}, 5" pipe'):
        page.write("#labels", labels)
        answer(page)
        [shown] = shown_labels(page)
        assert sorted(shown) == sorted(each.strip() for each in labels.split(","))
        assert labels_of(pasted(page, tmp_path)) == [shown]


def test_only_the_model_that_ships_is_called_so(browser: Page, tmp_path: Path) -> None:
    """By its content: one that was trained further has its name, and it may itself be served by another."""
    manifest = json.loads((bundled() / "bundle.json").read_text("utf-8"))
    other = {**manifest["preprocessing"], "mean": [0.5, 0.5, 0.5]}
    tuned = altered(bundled(), tmp_path / "tuned", preprocessing=other)
    renamed = altered(bundled(), tmp_path / "renamed", id="renamed")
    with running(tmp_path, Path(f"{tuned},{renamed}")) as service:
        page = opened(browser, service)
        page.wait(lambda: page.one("#model").is_displayed())
        assert [page.one(f"#{name}-model").is_displayed() for name in ("bundled", "other")] == [False, True]
        facts = page.one("#other-model-facts").text
        assert facts.startswith(f"{manifest['id']} sees {other['size']} × {other['size']} pixels")
        take_samples(page, 0)
        answer(page)
        assert page.one("#classify-outcome .demo").text == manifest["id"]
        assert not page.one("#samples-hint").is_displayed()
        page.one("#model [value=renamed]").click()
        assert [page.one(f"#{name}-model").is_displayed() for name in ("bundled", "other")] == [True, False]
        answer(page)
        assert page.one("#classify-outcome .demo").text == "demo model"
        assert "never saw" in page.one("#samples-hint").text


def test_it_fits_a_narrow_screen(page: Page) -> None:
    screen = {"width": 360, "height": 740, "deviceScaleFactor": 1, "mobile": True}
    page.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    try:
        for panel in ("classify", "search", "embed"):
            page.one(f"#tab-{panel}").click()
            page.one(f"#{panel}-outcome button").click()
            page.wait(lambda panel=panel: page.all(f"#{panel}-outcome .time"))
            assert page.run("return document.documentElement.scrollWidth") == 360
    finally:
        page.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_it_works_without_a_mouse(page: Page) -> None:
    def tab_to(selector: str) -> None:
        for _ in range(40):
            ActionChains(page.driver).send_keys(Keys.TAB).perform()
            if page.run(f"return document.activeElement.matches({json.dumps(selector)})"):
                return
        raise AssertionError(f"no way to {selector}")

    tab_to("#samples button")
    ActionChains(page.driver).send_keys(Keys.ENTER).perform()
    page.wait(lambda: page.texts("#tray .name") == ["coffee.jpg"])
    tab_to("#classify button[type=submit]")
    ActionChains(page.driver).send_keys(Keys.ENTER).perform()
    page.wait(lambda: shown_labels(page))
    page.run("document.querySelector('#tab-classify').focus()")
    ActionChains(page.driver).send_keys(Keys.ARROW_RIGHT).perform()
    assert page.one("#panel-search").is_displayed()
    tab_to("#query")
    ActionChains(page.driver).send_keys(Keys.ENTER).perform()
    page.wait(lambda: page.all("#search-outcome .hit"))
