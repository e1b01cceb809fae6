"""The page by keys alone: all is reached in order, the focus is seen, and not lost when something is drawn anew."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys

from benchmarks.service_process import Running, running
from tests.service.browser import Page
from tests.service.test_playground import KEY, opened
from tests.service.test_playground_pictures import small_pictures

PANELS = ("classify", "search", "compare", "map", "embed")
FOCUSED = """
    const element = document.activeElement;
    if (element === document.body) return null;
    const ringed = [element, element.nextElementSibling, element.closest('.drop')].filter(Boolean)
        .find((each) => getComputedStyle(each).outlineStyle !== 'none' && each.offsetWidth !== 1);
    const wrong = [];
    if (!element.matches(':focus-visible')) wrong.push('not focus-visible');
    if (!ringed) wrong.push('no ring');
    else {
        const {outlineWidth, outlineOffset} = getComputedStyle(ringed);
        const box = ringed.getBoundingClientRect();
        const out = parseFloat(outlineWidth) + parseFloat(outlineOffset);
        const ring = {top: box.top - out, left: box.left - out, bottom: box.bottom + out, right: box.right + out};
        if (parseFloat(outlineWidth) < 2 || box.width < 8 || box.height < 8) wrong.push('a small ring');
        const outside = (by) => by.top > ring.top + 1 || by.left > ring.left + 1
            || by.right < ring.right - 1 || by.bottom < ring.bottom - 1;
        const tall = box.height > innerHeight - 20;
        if (!tall && outside({top: 0, left: 0, right: innerWidth, bottom: innerHeight})) wrong.push('out of sight');
        for (let each = ringed.parentElement; each !== document.body; each = each.parentElement)
            if (getComputedStyle(each).overflowX !== 'visible' && outside(each.getBoundingClientRect()))
                wrong.push(`cut off by ${each.tagName}.${each.className}`);
    }
    const all = [...document.querySelectorAll('*')];
    const name = element.id || element.getAttribute('aria-label') || element.value || element.textContent.trim();
    return {place: all.indexOf(element), name: `${element.tagName} ${name.slice(0, 40)}`, wrong: wrong.join(', ')};
"""
SIZES = [(1280, 900), (1024, 600), (390, 740)]


@pytest.fixture
def page(browser: Page, service: Running) -> Page:
    page = opened(browser, service)
    page.wait(lambda: len(str(page.one("#version").get_property("textContent"))) > 1)  # a phone shows it later
    return page


@pytest.fixture(params=SIZES, ids=str)
def screen(request: pytest.FixtureRequest, browser: Page) -> Iterator[None]:
    size = {"width": request.param[0], "height": request.param[1], "deviceScaleFactor": 1, "mobile": False}
    browser.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    yield
    browser.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def press(page: Page, *keys: str) -> None:
    ActionChains(page.driver).send_keys(*keys).perform()


def focused(page: Page) -> Any:
    """Once scrolling has come to rest."""
    for _ in range(20):
        found = page.run(FOCUSED)
        if found is None or not found["wrong"]:
            break
        time.sleep(0.05)
    return found


def is_on(page: Page, selector: str) -> bool:
    return bool(page.run(f"return document.activeElement.matches({json.dumps(selector)})"))


def tab_to(page: Page, selector: str) -> None:
    for _ in range(150):
        press(page, Keys.TAB)
        if is_on(page, selector):
            return
    raise AssertionError(f"no way to {selector}")


def to_panel(page: Page, panel: str) -> None:
    tab_to(page, "[role=tab]")
    for _ in PANELS:
        if is_on(page, f"#tab-{panel}"):
            return
        press(page, Keys.ARROW_RIGHT)
    raise AssertionError(f"no arrow leads to {panel}")


def ask(page: Page, panel: str) -> None:
    to_panel(page, panel)
    tab_to(page, f"#{panel} button[type=submit]")
    press(page, Keys.ENTER)
    page.wait(lambda: page.all(f"#{panel}-outcome .time"))
    assert is_on(page, f"#{panel} button[type=submit]")


def walk(page: Page) -> list[str]:
    """What Tab comes by, from the top to the end: each in the order of the page, seen, and left again."""
    page.run("document.querySelector('a').focus()")
    names, place = [], -1
    for _ in range(200):
        found = focused(page)
        if found is None or found["place"] == 0 or (found["place"] < place and found["name"] == names[0]):
            return names
        assert (found["place"] > place, found["wrong"]) == (True, ""), (found, names[-3:])
        place = found["place"]
        names.append(found["name"])
        press(page, Keys.TAB)
    raise AssertionError("no end")


@pytest.mark.usefixtures("screen")
def test_tab_comes_by_everything_in_order_and_in_sight(page: Page) -> None:
    for number in range(4):
        tab_to(page, f"#samples li:nth-child({number + 1}) button")
        press(page, Keys.ENTER)
        page.wait(lambda number=number: len(page.all("#tray li")) == number + 1)
        assert is_on(page, "#samples button")
    for panel in PANELS:
        ask(page, panel)
        names = walk(page)
        wanted = page.run("""
            return [...document.querySelectorAll('a[href], button, input, select, textarea, summary, [tabindex="0"]')]
                .filter((each) => each.tabIndex === 0 && each.checkVisibility())
                .filter((each) => each.type !== 'radio' || each.checked).length
        """)
        assert len(names) == wanted


def test_a_skip_link_leads_past_all_pictures_and_loses_no_panel(page: Page, tmp_path: Path) -> None:
    page.one("#files").send_keys("\n".join(map(str, small_pictures(tmp_path, 60))))
    page.wait(lambda: len(page.all("#tray li")) == 50)
    to_panel(page, "search")
    address = page.driver.current_url
    page.run("document.querySelector('a').focus()")
    press(page, Keys.TAB, Keys.ENTER)
    press(page, Keys.TAB)
    assert is_on(page, "#tab-search")
    assert page.driver.current_url == address
    page.driver.refresh()
    page.wait(lambda: page.one("#panel-search").is_displayed())


def test_home_and_end_on_the_tabs_do_not_scroll(page: Page) -> None:
    to_panel(page, "classify")
    for key, panel in ((Keys.END, "embed"), (Keys.HOME, "classify"), (Keys.ARROW_LEFT, "embed")):
        press(page, key)
        assert is_on(page, f"#tab-{panel}[aria-selected=true]")
        assert focused(page)["wrong"] == ""
        assert page.one(f"#panel-{panel}").is_displayed()


def test_the_focus_stays_when_results_are_drawn_again(page: Page, tmp_path: Path) -> None:
    page.one("#files").send_keys("\n".join(map(str, small_pictures(tmp_path, 201))))
    page.wait(lambda: page.one("#tray-more").text.startswith("201 pictures"))
    page.run("document.querySelector('a').focus()")
    press(page, Keys.TAB, Keys.ENTER)
    ask(page, "classify")
    tab_to(page, "[data-column='0']")
    for key, order in ((Keys.ENTER, "ascending"), (Keys.SPACE, "descending")):
        press(page, key)
        assert page.one("th[aria-sort]").get_attribute("aria-sort") == order
        assert is_on(page, "[data-column='0']")
    tab_to(page, ".table .more")
    press(page, Keys.ENTER)
    assert len(page.all("#classify-outcome tbody tr")) == 201
    assert is_on(page, "#classify-outcome .scroll")  # where the button was, that is gone
    ActionChains(page.driver).key_down(Keys.SHIFT).send_keys(Keys.TAB).key_up(Keys.SHIFT).perform()
    assert is_on(page, ".grouping")
    press(page, Keys.SPACE)
    assert page.all("#classify-outcome .group")
    assert is_on(page, ".grouping")
    page.run("document.querySelector('a').focus()")
    press(page, Keys.TAB, Keys.ENTER)
    ask(page, "search")
    for shown in (120, 180, 201):
        tab_to(page, "#search-outcome .more") if shown == 120 else None
        press(page, Keys.ENTER)
        assert len(page.all("#search-outcome .hit")) == shown
    assert is_on(page, "#search-outcome .hit:nth-child(181)")


def test_the_focus_stays_in_the_pictures_when_they_change(page: Page, tmp_path: Path) -> None:
    page.choose_files(*small_pictures(tmp_path, 3))
    tab_to(page, "[aria-label='Remove 001.png']")
    page.run("""
        const data = new DataTransfer();
        data.items.add(new File(["x"], "pasted.png"));
        document.dispatchEvent(new ClipboardEvent("paste", {clipboardData: data, bubbles: true}));
    """)
    page.wait(lambda: len(page.all("#tray li")) == 4)
    assert is_on(page, "[aria-label='Remove 001.png']")
    press(page, Keys.SPACE)
    assert page.texts("#tray .name") == ["000.png", "002.png", "pasted.png"]
    assert is_on(page, "[aria-label='Remove 002.png']")
    tab_to(page, "#clear")
    press(page, Keys.ENTER)
    assert page.all("#tray li") == []
    assert is_on(page, "#files")


def test_the_map_and_options_answer_to_keys(page: Page) -> None:
    tab_to(page, "#samples button")
    for _ in range(4):
        press(page, Keys.ENTER, Keys.TAB)
    page.wait(lambda: len(page.all("#tray li")) == 4)
    tab_to(page, "#threshold")
    press(page, Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    assert page.one("#threshold-value").text == "2 %"
    tab_to(page, "#classify details summary")
    press(page, Keys.ENTER)
    tab_to(page, "#multi-label")
    press(page, Keys.SPACE)
    assert page.one("#multi-label").is_selected()
    page.run("document.querySelector('a').focus()")
    ask(page, "map")

    def nearest() -> str:
        return page.texts("#map-outcome .hit .name")[0]

    tab_to(page, "#map-outcome select")
    first = nearest()
    press(page, Keys.ARROW_DOWN)
    page.wait(lambda: nearest() != first)
    assert is_on(page, "#map-outcome select")
    page.run("document.querySelector('a').focus()")
    to_panel(page, "compare")
    tab_to(page, "[name=heat]")
    press(page, Keys.ARROW_RIGHT)
    assert page.one("#compare [value=probability]").is_selected()
    assert focused(page)["wrong"] == ""


def test_a_key_is_given_and_forgotten_by_keys(browser: Page, bundle_path: Path, tmp_path: Path) -> None:
    with running(tmp_path, bundle_path, api_keys=KEY) as service:
        page = opened(browser, service)
        page.wait(lambda: page.one("#key-form").is_displayed())
        tab_to(page, "#key")
        press(page, KEY, Keys.ENTER)
        page.wait(lambda: is_on(page, "#key-forget"))
        press(page, Keys.SPACE)
        page.wait(lambda: is_on(page, "#key"))
        assert focused(page)["wrong"] == ""
