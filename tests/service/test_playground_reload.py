"""What a reload of the page brings back: pictures that somebody chose, and their vectors; and where it goes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.service_process import Running, running
from tests.service.browser import Page, browsing
from tests.service.test_playground import KEY, answer, opened, take_samples
from tests.service.test_playground_pictures import photograph, small_pictures

KEPT = """
    Promise.all([import('./playground/storage.js'), import('./playground/state.js')]).then(([{isKept}, {state}]) =>
        arguments[0](state.pictures.filter(isKept).length));
"""
ROWS = """
    const opening = indexedDB.open(Object.keys(sessionStorage).find((name) => name.startsWith('sightword-pictures '))
        ?? `sightword-pictures ${location.href.split(/[#?]/)[0].slice(0, -1)}`);
    opening.onsuccess = () => {
        const transaction = opening.result.transaction(['pictures', 'sessions'], 'readwrite');
        const [pictures, sessions] = ['pictures', 'sessions'].map((name) => transaction.objectStore(name));
        const [given, done] = arguments;
        for (const [name, hours] of given) {
            sessions.put(Date.now() - hours * 3600e3, [name]);
            pictures.put({embedded: {}}, [name, 1, 1]);
        }
        const [keys, rows, seen] = [pictures.getAllKeys(), pictures.getAll(), sessions.getAllKeys()];
        transaction.oncomplete = () => {
            opening.result.close();
            const embedded = keys.result.filter((_, index) => rows.result[index].embedded);
            done([keys.result, embedded, seen.result].map((some) => some.map(([name]) => name)));
        };
    };
"""
LEAVING = """
    const event = new Event('beforeunload', {cancelable: true});
    dispatchEvent(event);
    return event.defaultPrevented;
"""
SHRUNK = """
    const post = Worker.prototype.postMessage;
    window.shrunk = [];
    Worker.prototype.postMessage = function (task) {
        if (task.name === 'shrink') window.shrunk.push(task.given.file.name);
        return post.call(this, task);
    };
"""
BIG = """
    const data = new DataTransfer();
    for (let i = 0; i < 10; i += 1) data.items.add(new File([new Uint8Array(30 * 1024 * 1024)], `${i}.tif`));
    document.dispatchEvent(new DragEvent("drop", {dataTransfer: data, bubbles: true}));
"""


@pytest.fixture
def page(browser: Page, service: Running) -> Page:
    return ready(opened(browser, service))


def ready(page: Page) -> Page:
    page.wait(lambda: page.one("#version").text)
    return page


def asynchronous(page: Page, script: str, *given: object) -> Any:
    run: Any = page.driver.execute_async_script
    return run(script, *given)


def kept(page: Page) -> int:
    return int(asynchronous(page, KEPT))


def rows(page: Page, *others: tuple[str, float]) -> list[list[str]]:
    """Whose pictures, vectors and signs of life the browser has, after those of other tabs were put there."""
    found: list[list[str]] = asynchronous(page, ROWS, others)
    return found


def mine(page: Page) -> list[int]:
    session = page.run(
        "return Object.entries(sessionStorage).find(([name]) => name.startsWith('sightword-pictures '))?.[1] ?? ''"
    )
    return [store.count(session) for store in rows(page)]


def reload(page: Page) -> None:
    page.requests()
    page.driver.refresh()
    ready(page)


def test_own_pictures_and_their_vectors_outlive_a_reload(page: Page, tmp_path: Path) -> None:
    (tmp_path / "large.jpg").write_bytes(photograph("cat", (2000, 1500)))
    (tmp_path / "broken.jpg").write_bytes(b"this is no picture")
    files = [tmp_path / "large.jpg", *small_pictures(tmp_path, 40), tmp_path / "broken.jpg"]
    page.one("#files").send_keys("\n".join(map(str, files)))
    page.wait(lambda: page.one("#tray-more").text == "42 pictures")
    page.wait(lambda: kept(page) == 42)  # before anything is asked about them
    page.one("#tab-search").click()
    answer(page, "search")
    page.wait(lambda: mine(page) == [42, 41, 1])
    names, tiles, found = (page.texts(f"{each}") for each in ("#tray .name", "#tray .hint", "#search-outcome .hit"))
    assert "2000 × 1500" in tiles[names.index("large.jpg")]
    assert page.run(LEAVING) is False
    for _ in range(2):
        reload(page)
        page.wait(lambda: page.texts("#tray .name") == names)
        page.wait(lambda: page.texts("#tray .hint")[:41] == tiles[:41])
        page.requests()
        answer(page, "search")
        assert page.texts("#search-outcome .hit") == found
        assert [url.rpartition("/")[2] for url in page.requests() if url.endswith("/embed")] == ["embed", "embed"]
    assert "1 picture" not in page.one("#kept-hint").text
    assert page.errors() == []


def test_what_is_removed_is_removed_here_too(page: Page, tmp_path: Path) -> None:
    page.choose_files(*small_pictures(tmp_path, 3))
    take_samples(page, 0)
    page.wait(lambda: kept(page) == 3)
    answer(page)
    page.wait(lambda: mine(page) == [3, 3, 1])
    page.all("#tray .remove")[1].click()
    page.wait(lambda: mine(page) == [2, 2, 1])
    reload(page)
    page.wait(lambda: page.texts("#tray .name") == ["000.png", "002.png", "coffee.jpg"])
    page.one("#clear").click()
    page.wait(lambda: not page.run("return Object.keys(sessionStorage).some((name) => name.includes('pictures'))"))
    page.wait(lambda: mine(page) == [0, 0, 0])
    reload(page)
    assert page.all("#tray li") == []


def test_no_more_is_kept_than_is_said_and_what_is_not_is_told(page: Page) -> None:
    page.run(BIG)  # not pictures, but this browser could not tell
    page.wait(lambda: page.one("#tray-more").text == "10 pictures")
    page.wait(lambda: "A reload would lose 2 of your 10 pictures" in page.one("#kept-hint").text)
    assert "this page keeps 256 MiB at most" in page.one("#kept-hint").text
    assert mine(page) == [8, 0, 1]
    page.one("#tray .remove").click()
    page.wait(lambda: "A reload would lose 1 of your 9 pictures" in page.one("#kept-hint").text)
    reload(page)
    page.wait(lambda: page.one("#tray-more").text == "8 pictures")
    assert not page.one("#kept-hint").is_displayed()
    page.one("#clear").click()
    page.wait(lambda: mine(page) == [0, 0, 0])


@pytest.fixture(scope="module")
def without_storage() -> Iterator[Page]:
    with browsing({"profile.default_content_setting_values.cookies": 2}) as page:
        yield page


def test_a_browser_that_refuses_to_keep_anything(without_storage: Page, service: Running, tmp_path: Path) -> None:
    page = without_storage
    page.driver.get(f"{service.url}/")
    ready(page)
    take_samples(page, 0)
    assert not page.one("#kept-hint").is_displayed()  # every server has the samples
    page.choose_files(*small_pictures(tmp_path, 2))
    page.wait(lambda: "A reload would lose 2 of your 2 pictures" in page.one("#kept-hint").text)
    assert "this browser refuses" in page.one("#kept-hint").text
    answer(page)
    assert len(page.all("#classify-outcome .best")) == 3
    assert page.errors() == []


def test_what_other_tabs_left_goes_after_hours(page: Page, service: Running, tmp_path: Path) -> None:
    rows(page, ("closed", 9), ("of today", 7))
    page.choose_files(*small_pictures(tmp_path, 1))
    page.wait(lambda: mine(page) == [1, 0, 1])
    page.driver.switch_to.new_window("tab")
    try:
        ready(opened(page, service))
        page.wait(lambda: {name for store in rows(page) for name in store} >= {"of today"})
        page.wait(lambda: not any("closed" in store for store in rows(page)))
        assert page.all("#tray li") == []
        assert all("of today" in store for store in rows(page))
    finally:
        page.driver.close()
        page.driver.switch_to.window(page.driver.window_handles[0])
    assert mine(page) == [1, 0, 1]


def test_who_forgets_the_key_leaves_no_pictures_behind(browser: Page, bundle_path: Path, tmp_path: Path) -> None:
    with running(tmp_path, bundle_path, api_keys=KEY) as service:
        page = opened(browser, service)
        page.wait(lambda: page.one("#key-form").is_displayed())
        page.one("#key").send_keys(KEY)
        page.one("#key-form button").click()
        ready(page)
        page.choose_files(*small_pictures(tmp_path, 2))
        page.wait(lambda: kept(page) == 2)
        page.one("#key-forget").click()
        page.wait(lambda: "wants a key" in page.one("#key-hint").text)
        page.wait(lambda: rows(page) == [[], [], []])
        assert kept(page) == page.run("return sessionStorage.length") == 0


def test_a_large_picture_is_made_smaller_once_to_be_asked_about_and_kept(page: Page, tmp_path: Path) -> None:
    files = [tmp_path / f"{number}.jpg" for number in range(6)]
    for file in files:
        file.write_bytes(photograph("coffee", (1600, 1200)))
    page.run(SHRUNK)
    page.choose_files(*files)
    answer(page)
    page.wait(lambda: kept(page) == len(files))
    assert sorted(page.run("return shrunk")) == [file.name for file in files]
