"""The page against what others write and what goes wrong: names, links, storage, other models, a restarted server."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from selenium.webdriver.common.keys import Keys

from benchmarks.service_process import Running, running
from model.bundle import bundled
from tests.service import pictures
from tests.service.browser import Page, browsing
from tests.service.test_playground import KEY, altered, answer, opened, pasted, shown_labels, take_samples
from tests.service.test_playground_pictures import OFFLINE, ONLINE, small_pictures
from tests.service.test_reload import ADMIN, point
from tests.service.test_reload import KEY as ADMIN_KEY

COMMAND = "a\nEND\ntouch pwned\n.png"
DROP = """
    const [names, encoded, done] = arguments;
    const bytes = Uint8Array.from(atob(encoded), (character) => character.charCodeAt(0));
    const data = new DataTransfer();
    for (const name of names) data.items.add(new File([bytes], name, {type: "image/png"}));
    document.dispatchEvent(new DragEvent("drop", {dataTransfer: data, bubbles: true}));
    done();
"""
RELOAD_SOON = """
    const line = document.querySelector('#panel-classify .progress-text');
    new MutationObserver((_, observer) => {
        if (!/^[1-9]/.test(line.textContent)) return;
        observer.disconnect();
        const request = new XMLHttpRequest();
        request.open("POST", "admin/reload", false);  // the page waits with it
        request.setRequestHeader("x-api-key", KEY);
        request.send();
        window.reloaded = request.status;
    }).observe(line, {childList: true, characterData: true, subtree: true});
"""
IMPATIENT = "{ const wait = setTimeout; setTimeout = (act, ms) => wait(act, Math.min(ms, 500)) }"
NARROWEST = {"width": 320, "height": 640, "deviceScaleFactor": 1, "mobile": True}


@pytest.fixture
def page(browser: Page, service: Running) -> Page:
    page = opened(browser, service)
    page.wait(lambda: page.one("#version").text)
    return page


def asynchronous(page: Page, script: str, *given: object) -> Any:
    run: Any = page.driver.execute_async_script
    return run(script, *given)


def fill(page: Page, field: str, text: str) -> None:
    page.run(f"{field}.value = {json.dumps(text)}; {field}.dispatchEvent(new Event('input', {{bubbles: true}}))")


@contextmanager
def before_the_page(page: Page, script: str) -> Iterator[None]:
    """Run it in each page before its own scripts."""
    added = page.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": script})
    try:
        yield
    finally:
        page.driver.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", added)


def focused(page: Page) -> str:
    return str(page.run("return document.activeElement.textContent"))


def test_names_of_files_are_no_commands_and_may_be_long(page: Page, tmp_path: Path) -> None:
    (tmp_path / COMMAND).write_bytes(pictures.read("cat"))
    asynchronous(page, DROP, [COMMAND], pictures.as_base64("cat"))
    page.wait(lambda: len(page.all("#tray li")) == 1)
    page.one("#tab-search").click()
    assert len(pasted(page, tmp_path, "search")["ranking"][0]) == 1
    assert [file.name for file in tmp_path.iterdir()] == [COMMAND]
    asynchronous(page, DROP, ["й" * 4000 + ".png"], pictures.as_base64("cat"))
    page.wait(lambda: len(page.all("#tray li")) == 2)
    answer(page, "search")
    assert len(page.all("#search-outcome .hit")) == 2


def test_a_cell_is_no_formula_wherever_cells_end(page: Page) -> None:
    """Between commas, and between the semicolons and tabs that spreadsheets of other countries go by."""
    script = "import('./playground/take.js').then(({csv}) => arguments[1](csv(arguments[0])))"
    names = ["=1", "a;=1", "a\t=1", "-1;@x"]
    rows = asynchronous(page, script, [{"picture": name, "score": -0.5} for name in names]).splitlines()
    assert rows[1:] == ["'=1,-0.5", '"a;=1",-0.5', '"a\t=1",-0.5', '"\'-1;@x",-0.5']


def test_a_link_asks_nothing_and_what_is_wrong_in_it_is_shown(page: Page, service: Running) -> None:
    page.open(f"{service.url}/#classify?top-k=0&labels=%3Cimg%20src=x%20onerror=window.hacked=1%3E&__proto__=1&key=x")
    page.wait(lambda: page.one("#version").text)
    take_samples(page, 0)
    assert not page.one("#top-k").is_displayed()
    assert [url for url in page.requests() if url.endswith(("/classify", "/embed", "/similarity"))] == []
    page.one("#classify button[type=submit]").click()
    page.wait(lambda: page.one("#top-k").is_displayed())
    assert page.run("return [document.activeElement.id, window.hacked]") == ["top-k", None]
    assert page.errors() == []


def test_a_question_too_long_for_a_link_is_not_copied_as_one(page: Page) -> None:
    take_samples(page, 0)
    fill(page, "labels", ",".join(f"thing number {number}" for number in range(500)))
    answer(page)
    assert "of each picture the 50 best labels are kept" in page.one("#classify-outcome .overview").text
    [copy] = [button for button in page.all("#classify-outcome .saving button") if button.text == "Copy link"]
    copy.click()
    page.wait(lambda: copy.text == "Too long for a link")


def test_a_label_that_is_too_long_is_named(page: Page) -> None:
    take_samples(page, 0)
    fill(page, "labels", f"cat, {'very long label ' * 60}, dog")
    answer(page)
    message = page.one("#classify-outcome .message").text
    assert message.startswith("“a photo of a very long label very long")
    assert message.endswith("shorten it.")  # this page has no "truncate" to send


@pytest.fixture(scope="module")
def without_storage() -> Iterator[Page]:
    with browsing({"profile.default_content_setting_values.cookies": 2}) as page:
        yield page


def test_a_browser_that_stores_nothing(without_storage: Page, service: Running) -> None:
    page = without_storage
    page.driver.get(f"{service.url}/")
    page.wait(lambda: page.one("#version").text)
    assert page.run("try { sessionStorage; return true } catch { return false }") is False
    take_samples(page, 0)
    answer(page)
    assert len(shown_labels(page)[0]) == 6
    script = "import('./playground/api.js').then(({key}) => { key.set('abc'); arguments[0](key.get()); key.forget() })"
    assert asynchronous(page, script) == "abc"
    assert page.errors() == []


@pytest.mark.parametrize("left", ["", '{"fields": null, "samples": 5}', "[]"])
def test_storage_that_is_full_or_holds_something_else(page: Page, left: str) -> None:
    fill(page, "labels", "cat, dog")
    name = page.run("return Object.keys(sessionStorage).find((name) => name.startsWith('sightword-form '))")
    if left:
        page.run(f"sessionStorage.setItem({json.dumps(name)}, {json.dumps(left)})")
    else:
        page.run(
            "for (let size = 4e6; size > 1; size /= 2)"
            " try { sessionStorage.setItem(`full ${size}`, 'x'.repeat(size)) } catch {}"
        )
        fill(page, "labels", "horse, " * 100)
        assert page.run(f"return sessionStorage.getItem({json.dumps(name)})") is None
    try:
        page.driver.get(page.driver.current_url.partition("#")[0] + "?again")
        page.wait(lambda: page.one("#version").text)
        assert str(page.one("#labels").get_property("value")).startswith("cup of coffee")
        assert page.errors() == []
    finally:
        page.run("sessionStorage.clear()")


def test_samples_that_cannot_be_fetched_and_those_clicked_twice(page: Page) -> None:
    page.driver.execute_cdp_cmd("Network.emulateNetworkConditions", OFFLINE)
    try:
        page.one("#samples button").click()
        page.wait(lambda: "sample cannot be fetched" in page.one("#tray-hint").text)
    finally:
        page.driver.execute_cdp_cmd("Network.emulateNetworkConditions", ONLINE)
    page.run("for (const _ of [1, 2]) document.querySelector('#samples button').click()")
    page.wait(lambda: page.texts("#tray .name") == ["coffee.jpg"])
    page.one("#classify-outcome .empty button").send_keys(Keys.ENTER)
    page.wait(lambda: shown_labels(page))
    assert page.texts("#tray .name") == ["coffee.jpg"]
    assert focused(page) == "Classify"  # not lost with the button that went


def test_urls_of_pictures_end_with_their_last_use(page: Page) -> None:
    """By scripts alone: the driver holds what it was asked for, and the page with it."""

    def ask() -> None:
        page.run("document.querySelector('#classify-outcome').replaceChildren(); classify.requestSubmit()")
        page.wait(lambda: page.run("return document.querySelectorAll('#classify-outcome .best').length") == 1)

    asynchronous(page, DROP, ["cat.png"], pictures.as_base64("cat"))
    page.wait(lambda: page.run("return document.querySelectorAll('#tray li').length") == 1)
    ask()
    url = page.run("return document.querySelector('#classify-outcome img').src")
    script = """
        const image = new Image();
        image.onload = () => arguments[1](true);
        image.onerror = () => arguments[1](false);
        image.src = `${arguments[0]}#${performance.now()}`;
    """

    def is_shown() -> bool:
        page.driver.execute_cdp_cmd("HeapProfiler.collectGarbage", {})
        page.driver.execute_cdp_cmd("Network.clearBrowserCache", {})
        return asynchronous(page, script, url) is True

    page.run("document.querySelector('#tray .remove').click()")
    assert is_shown()
    page.run("document.querySelector('#samples button').click()")
    page.wait(lambda: page.run("return document.querySelectorAll('#tray li').length") == 1)
    ask()
    page.wait(lambda: not is_shown())


def test_answers_of_two_models_never_meet(browser: Page, tmp_path: Path) -> None:
    """A label set, which the server judges by: another model is taken up after the first of several requests."""
    link = tmp_path / "current"
    link.symlink_to(bundled())
    manifest = json.loads((bundled() / "bundle.json").read_text("utf-8"))
    other = altered(bundled(), tmp_path / "other", preprocessing={**manifest["preprocessing"], "mean": [0.5, 0.5, 0.5]})
    (tmp_path / "pictures").mkdir()
    with running(tmp_path, link, admin_key=ADMIN_KEY, timeout_s="300") as service:
        stored = httpx.put(f"{service.url}/label-sets/drinks", json={"labels": ["coffee", "tea"]}, headers=ADMIN)
        assert stored.status_code in (200, 201)
        page = opened(browser, service)
        page.wait(lambda: page.one("#label-set").is_displayed())
        page.one("#label-set [value=drinks]").click()
        page.one("#files").send_keys("\n".join(map(str, small_pictures(tmp_path / "pictures", 120))))
        page.wait(lambda: page.one("#tray-more").text.startswith("120 pictures"))
        point(link, other)
        before = page.one("#digest").text
        page.run(RELOAD_SOON.replace("KEY", json.dumps(ADMIN_KEY)))
        answer(page)
        assert page.run("return window.reloaded") == 200
        assert "Another model answers meanwhile" in page.one("#classify-outcome .message").text
        page.wait(lambda: page.one("#digest").text != before)
        answer(page)
        assert page.one("#classify-outcome .overview").text.startswith("120 pictures")


def test_a_key_with_foreign_letters_and_a_server_that_wants_none_any_more(browser: Page, tmp_path: Path) -> None:
    with before_the_page(browser, IMPATIENT), running(tmp_path, bundled(), api_keys=KEY) as service:
        page = opened(browser, service)
        page.wait(lambda: page.one("#key-form").is_displayed())
        page.one("#key").send_keys("“a–key”", Keys.ENTER)
        page.wait(lambda: "Was something else copied along?" in page.one("#key-hint").text)
        assert page.one("#state-text").text == "ready"
        port = service.url.rpartition(":")[2]
        service.stop(signal.SIGKILL)
        page.wait(lambda: "cannot be reached" in page.one("#state-text").text)
    with running(tmp_path, bundled(), "--port", port):
        page.wait(lambda: page.one("#version").text)
        take_samples(page, 0)
        answer(page)
        assert shown_labels(page)


def test_a_page_opened_in_the_background_is_ready_when_it_is_looked_at(browser: Page, service: Running) -> None:
    with before_the_page(browser, "Object.defineProperty(Document.prototype, 'hidden', {get: () => true})"):
        assert opened(browser, service).run("return document.hidden") is True


def test_the_narrowest_screen_with_long_words_and_other_scripts(page: Page) -> None:
    page.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", NARROWEST)
    try:
        take_samples(page, 0, 1, 2)
        fill(page, "labels", f"שלום (כלב), {'W' * 70}")
        fill(page, "compared", f"שלום (כלב)\n{'W' * 70}")
        assert page.one("#threshold").size["width"] >= 64
        for panel in ("search", "compare", "map", "embed", "classify"):
            page.one(f"#tab-{panel}").click()
            answer(page, panel)
            assert page.run("return document.documentElement.scrollWidth") == 320
        page.one("#classify-outcome .views button:last-child").click()
        assert page.run("return document.documentElement.scrollWidth") == 320
        page.one("#classify-outcome .views button:first-child").click()
        assert page.run("return getComputedStyle(labels).unicodeBidi") == "plaintext"
    finally:
        page.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
