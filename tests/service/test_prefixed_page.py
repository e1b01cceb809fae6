"""The page and /docs behind a proxy that takes a path prefix off, in a real browser."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from shlex import quote

import pytest
from selenium.webdriver.common.keys import Keys

from benchmarks.service_process import running
from tests.service.browser import Page, browsing
from tests.service.haproxy import stripping
from tests.service.test_playground import answer, executed, labels_of, pasted, shown_labels, snippet, take_samples

PREFIX, DEEP = "/clip", "/deep/er_1.0/~clip"


@pytest.fixture(scope="module")
def browser() -> Iterator[Page]:
    with browsing() as page:
        yield page


@pytest.fixture(scope="module")
def addresses(bundle_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Of a service that knows of its prefix and of one that does not, behind a proxy and without one."""
    folder = tmp_path_factory.mktemp("services")
    with (
        running(folder, bundle_path, root_path=PREFIX, timeout_s="300") as knows,
        running(folder, bundle_path, timeout_s="300") as does_not,
        stripping(folder, {PREFIX: knows, DEEP: does_not}) as origin,
    ):
        yield {"knows": origin + PREFIX, "does not know": origin + DEEP, "knows, without a proxy": knows.url}


def opened(page: Page, address: str) -> Page:
    page.open(address)
    page.wait(lambda: page.one("#state-text").text == "ready")
    page.wait(lambda: page.one("#model-name").text != "–")
    return page


@pytest.mark.parametrize("which", ["knows", "does not know", "knows, without a proxy"])
def test_the_page_works_wherever_it_stands(
    which: str, addresses: dict[str, str], browser: Page, tmp_path: Path
) -> None:
    address = addresses[which]
    page = opened(browser, f"{address}/#classify")
    take_samples(page, 0)
    answer(page)
    [labels] = shown_labels(page)
    assert page.one("#classify-outcome .best").text == labels[0]
    curled = pasted(page, tmp_path)
    assert f"curl {quote(f'{address}/classify')} " in snippet(page, "curl")
    assert labels_of(curled) == [labels]
    assert f'server = "{address}"' in snippet(page, "Python")
    assert executed(sys.executable, "-c", snippet(page, "Python"), folder=tmp_path) == f"{curled}\n"
    for tab in ("search", "embed"):
        page.one(f"#tab-{tab}").click()
        answer(page, tab)
        assert page.all(f"#{tab}-outcome .time")
    asked = page.requests()
    assert len(asked) > 10
    assert {url for url in asked if not url.startswith((f"{address}/", "blob:", "data:"))} == set()
    leads_to = page.run("return [...document.querySelectorAll('a:not(.skip)')].map((link) => link.href)")
    assert set(leads_to) == {f"{address}/", f"{address}/docs", f"{address}/info"}
    assert page.errors() == []


def test_the_documentation_asks_under_the_prefix(addresses: dict[str, str], browser: Page) -> None:
    address = addresses["knows"]
    page = opened(browser, f"{address}/")
    page.one("#documents a").click()
    page.wait(lambda: page.driver.current_url == f"{address}/docs")
    operation = "#operations-information-info_info_get"
    page.wait(lambda: page.all(operation))
    page.one(f"{operation} button").click()
    page.wait(lambda: page.all(f"{operation} .try-out__btn"))
    page.one(f"{operation} .try-out__btn").click()
    page.wait(lambda: page.all(f"{operation} .execute"))
    page.one(f"{operation} .execute").click()
    page.wait(lambda: page.all(f"{operation} .live-responses-table .response-col_status"))
    assert page.one(f"{operation} .request-url pre").text == f"{address}/info"
    assert "200" in page.texts(f"{operation} .live-responses-table .response-col_status")[-1]
    assert f"{address}/openapi.json" in page.requests()
    assert page.errors() == []


def test_keys_of_two_services_at_one_origin(browser: Page, bundle_path: Path, tmp_path: Path) -> None:
    """Each is sent its own key only, and the refusal of a wrong one takes no other away."""
    keys = {"/one": "the-key-of-one-1234", "/two": "the-key-of-two-1234"}

    def give(prefix: str, key: str) -> None:
        browser.open(f"{origin}{prefix}/")
        browser.wait(lambda: browser.one("#key-form").is_displayed())
        browser.one("#key").send_keys(key, Keys.ENTER)

    with (
        running(tmp_path, bundle_path, api_keys=keys["/one"]) as one,
        running(tmp_path, bundle_path, api_keys=keys["/two"]) as two,
        stripping(tmp_path, {"/one": one, "/two": two}) as origin,
    ):
        give("/one", keys["/one"])
        browser.wait(lambda: browser.one("#version").text)
        browser.one("#documents a[href$='reference.html']").click()
        browser.wait(lambda: browser.all("#reference .opblock"))
        give("/two", "a-wrong-key-1234")
        browser.wait(lambda: "does not know" in browser.one("#key-hint").text)
        browser.open(f"{origin}/one/")
        browser.wait(lambda: "takes your key" in browser.one("#key-hint").text)
        assert browser.run("return Object.values(sessionStorage)") == [keys["/one"]]


def test_what_the_address_holds_besides_is_not_shown(addresses: dict[str, str], browser: Page) -> None:
    """A name and password for the proxy, a query, a fragment."""
    address = addresses["does not know"]
    with_more = address.replace("http://", "http://me:hidden@") + "/?from=here#search"
    page = opened(browser, with_more)
    take_samples(page, 0)
    answer(page, "search")
    assert page.all("#search-outcome .hit")
    assert f"curl {quote(f'{address}/similarity')} " in snippet(page, "curl", "search")
    assert "hidden" not in page.one("body").text
