"""What a person sees first: on a phone, of the server's status, and with a screen reader."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest

from benchmarks.service_process import Running
from service.routes.playground import FILES
from tests.service.browser import Page
from tests.service.test_playground import answer, opened, take_samples

MOST_BYTES = 150_000
AXE = "axe-core@4.10.3"
INSTALL_S = 60


@pytest.fixture(scope="module")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The checker's script, or a skip where npm cannot fetch it."""
    npm, folder = shutil.which("npm"), tmp_path_factory.mktemp("axe")
    if npm is None:
        pytest.skip("no npm on this machine")
    command = [npm, "install", "--prefix", folder, "--no-audit", "--no-fund", "--ignore-scripts", AXE]
    try:
        subprocess.run(command, cwd=folder, capture_output=True, timeout=INSTALL_S, check=True)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        pytest.skip(f"npm cannot fetch {AXE}: {error}")
    return (folder / "node_modules/axe-core/axe.min.js").read_text("utf-8")


@pytest.fixture
def without_sets(service: Running) -> None:
    """No label sets, which other tests may have stored: with them there is one more field."""
    with httpx.Client(base_url=service.url) as client:
        for each in client.get("/label-sets").json()["label_sets"]:
            client.delete(f"/label-sets/{each['name']}").raise_for_status()


def test_it_is_small() -> None:
    own = {path: file for path, file in FILES.items() if not path.startswith(("samples/", "swagger/"))}
    assert sum(len(file.body) for file in own.values()) < MOST_BYTES
    folder = Path(__file__).parents[2] / "service" / "playground"
    for script in folder.glob("*.js"):
        assert len(script.read_text("utf-8").splitlines()) < 300


@pytest.mark.usefixtures("without_sets")
@pytest.mark.parametrize(("width", "height"), [(390, 844), (360, 740)])
def test_pictures_labels_and_button_fit_the_first_screen_of_a_phone(
    browser: Page, service: Running, width: int, height: int
) -> None:
    screen = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": True}
    browser.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    try:
        page = opened(browser, service)
        page.wait(lambda: page.one("#samples-hint").is_displayed())
        for selector in (".drop label", "#samples button", "#labels", "#classify button[type=submit]"):
            box = page.one(selector).rect
            assert 0 < box["y"] < box["y"] + box["height"] < height
        assert not page.one("#digest").is_displayed()
        page.one("#facts-more").click()
        assert page.one("#digest").is_displayed()
        assert page.run("return document.documentElement.scrollWidth") == width
        for panel in ("compare", "map"):
            page.one(f"#tab-{panel}").click()
            page.one(f"#{panel}-outcome button").click()
            page.wait(lambda panel=panel: page.all(f"#{panel}-outcome .time"))
            assert page.run("return document.documentElement.scrollWidth") == width
    finally:
        browser.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_the_status_follows_the_server(browser: Page, service: Running) -> None:
    page = opened(browser, service)
    assert not [url for url in page.requests() if url.endswith("/metrics")]
    page.one("#status summary").click()

    def figure(name: str) -> str:
        return page.run(f"""
            const term = [...document.querySelectorAll('.figures dt')].find((dt) => dt.textContent === {name!r});
            return term ? term.nextElementSibling.textContent : '';
        """)

    page.wait(lambda: figure("Requests"))
    [model] = httpx.get(f"{service.url}/info").json()["models"]
    assert page.one("#digest").get_attribute("title") == model["digest"]
    assert figure("Processes") == "1"
    before = int(figure("Requests").replace(",", ""))
    for _ in range(3):
        assert httpx.post(f"{service.url}/embed", json={"inputs": "a text"}, timeout=300).status_code == 200
    page.wait(lambda: int(figure("Requests").replace(",", "")) >= before + 3)
    stages = page.texts("#figures td:first-child")
    assert stages.index("cache") < stages.index("inference")
    assert page.errors() == []


PANELS = {"light": ("search", "compare", "map", "embed", "classify"), "dark": ("compare", "classify")}


@pytest.mark.parametrize("scheme", list(PANELS))
def test_axe_finds_nothing_serious(browser: Page, service: Running, axe: str, scheme: str) -> None:
    page = opened(browser, service)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    try:
        page.run(axe)
        take_samples(page, 0, 1, 2, 3)
        page.one("#status summary").click()
        page.wait(lambda: page.all(".figures"))
        for panel in PANELS[scheme]:
            page.one(f"#tab-{panel}").click()
            answer(page, panel)
            assert serious(page) == []
        page.one("#classify-outcome .why summary").click()
        page.one("#classify-outcome .views button:last-child").click()
        page.write("#labels", "other, labels")  # which makes the answer stale
        assert serious(page) == []
    finally:
        page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def serious(page: Page) -> Any:
    script = """
        const done = arguments[0];
        axe.run().then(({violations}) => done(violations.filter(({impact}) => ['serious', 'critical'].includes(impact))
            .map(({id, nodes}) => [id, nodes[0].html])));
    """
    run: Any = page.driver.execute_async_script
    return run(script)
