"""The page with many and large pictures: copies, batches, cancel, kept vectors, a full server, a lost network."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
from PIL import Image

from benchmarks.service_process import Running, running
from tests.service import pictures
from tests.service.browser import Page
from tests.service.test_playground import answer, opened, take_samples

TURNED = 6  # the orientation in which phones held upright store what they see
CANCEL_SOON = """
    const line = document.querySelector('#panel-search .progress');
    new MutationObserver((_, observer) => {
        if (!/^[1-9]/.test(line.querySelector('.progress-text').textContent)) return;
        observer.disconnect();
        line.querySelector('button').click();
    }).observe(line, {subtree: true, childList: true, characterData: true});
"""
OFFLINE = {"offline": True, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0}
ONLINE = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}


def photograph(name: str, size: tuple[int, int], file_format: str = "JPEG") -> bytes:
    """As a phone writes it: noisy, and lying on its side."""
    with Image.open(io.BytesIO(pictures.read(name))) as picture:
        pixels = np.asarray(picture.convert("RGB").resize(size), dtype=np.int16)
    noise = np.random.default_rng(0).integers(-12, 13, (size[1], size[0], 1))
    turned = Image.fromarray((pixels + noise).clip(0, 255).astype(np.uint8)).transpose(Image.Transpose.ROTATE_90)
    exif, file = Image.Exif(), io.BytesIO()
    exif[0x0112] = TURNED
    turned.save(file, file_format, exif=exif)
    return file.getvalue()


def small_pictures(folder: Path, count: int) -> list[Path]:
    """Different ones, so that no cache knows them."""
    files = [folder / f"{number:03}.png" for number in range(count)]
    with Image.open(io.BytesIO(pictures.read("cat"))) as picture:
        for number, file in enumerate(files):
            picture.crop((number, 0, number + 100, 100)).save(file)
    return files


def test_large_ones_go_as_copies_and_a_broken_one_spares_the_rest(
    browser: Page, service: Running, narrow: Running, tmp_path: Path
) -> None:
    large = photograph("cat", (2000, 1500))
    files = {
        "large.jpg": large,
        "broken.jpg": b"this is no picture",
        "large.tif": photograph("coffee", (640, 480), "TIFF"),
        "rocket.jpg": pictures.read("rocket"),  # of more pixels than this server takes
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    assert len(large) > 400_000
    page = opened(browser, narrow)
    page.wait(lambda: page.one("#version").text)
    page.choose_files(*(tmp_path / name for name in files))
    page.wait(lambda: "640 × 427" in page.one("#tray li:last-child").text)
    answer(page)
    assert (
        "large.tif, broken.jpg" in page.one(".overview").text or "broken.jpg, large.tif" in page.one(".overview").text
    )
    assert len(page.all("#classify-outcome .best")) == 2
    assert "this browser cannot make it smaller; the server takes 391 KiB" in page.one("#classify-outcome").text
    assert "2 large pictures went as copies with a shorter side of" in page.one(".copies").text
    labels = {"labels": "cup of coffee,cat,bicycle,banana,flower,T-shirt"}
    whole = httpx.post(f"{service.url}/classify", files={"file": large}, data=labels, timeout=300).json()["data"][0]
    shown = page.one("#classify-outcome .result")
    assert shown.find_element("css selector", ".best").text == whole["label"]
    cosine = float(shown.find_element("css selector", ".cosine").text.removeprefix("cosine "))
    assert abs(cosine - whole["predictions"][0]["cosine"]) < 0.02


def test_what_is_done_is_kept_through_cancel_and_a_lost_network(browser: Page, narrow: Running, tmp_path: Path) -> None:
    page = opened(browser, narrow)
    page.wait(lambda: page.one("#version").text)
    page.one("#files").send_keys("\n".join(map(str, small_pictures(tmp_path, 120))))
    page.wait(lambda: page.one("#tray-more").text == "120 pictures, the first 50 of them here")
    page.one("#tab-search").click()
    page.run(CANCEL_SOON)
    page.one("#search button[type=submit]").click()
    page.wait(lambda: "Stopped." in page.one("#search-outcome").text)
    kept = int(page.one("#search-outcome").text.split()[1])
    assert 0 < kept < 120
    page.driver.execute_cdp_cmd("Network.emulateNetworkConditions", OFFLINE)
    try:
        answer(page, "search")
        assert "cannot be reached" in page.one("#search-outcome .message").text
        assert f"{kept} of 120 pictures are done and kept" in page.one("#search-outcome").text
    finally:
        page.driver.execute_cdp_cmd("Network.emulateNetworkConditions", ONLINE)
    answer(page, "search")
    page.wait(lambda: len(page.all("#search-outcome .hit")) == 60)
    page.one("#search-outcome .more").click()
    assert len(page.all("#search-outcome .hit")) == 120
    page.requests()
    page.write("#query", "something that nobody asked for yet")
    answer(page, "search")
    asked = [url.removeprefix(narrow.url) for url in page.requests() if url.startswith("http")]
    assert [path for path in asked if not path.startswith("/health/")] == ["/embed"]


def test_a_full_server_is_asked_again(browser: Page, bundle_path: Path, tmp_path: Path) -> None:
    hold = tmp_path / "hold"
    module = f"tests.service.held_service {hold}"
    options = {"queue_items": "4", "max_batch": "1", "timeout_s": "300"}
    with running(tmp_path, bundle_path, module=module, **options) as service, ThreadPoolExecutor() as pool:
        page = opened(browser, service)
        page.wait(lambda: page.one("#version").text)
        take_samples(page, 0)
        hold.touch()
        texts = [f"text {number}" for number in range(4)]
        waiting = [
            pool.submit(httpx.post, f"{service.url}/embed", json={"inputs": text}, timeout=300) for text in texts
        ]
        page.wait(lambda: "sightword_queue_items 4.0" in httpx.get(f"{service.url}/metrics").text)
        page.one("#classify button[type=submit]").click()
        page.wait(lambda: "The server is full; asking again" in page.one("#panel-classify .progress").text)
        hold.unlink()
        assert {each.result().status_code for each in waiting} == {200}
        page.wait(lambda: page.all("#classify-outcome .best"))


def test_a_folder_is_taken_with_what_is_in_it(browser: Page, service: Running, tmp_path: Path) -> None:
    """Chosen, and dropped: what is no picture is counted, and files that no folder holds come as they are."""
    folder = tmp_path / "holiday"
    (folder / "second day").mkdir(parents=True)
    for name in ("second day/c.JPG", "a.png", "second day/b.jpg"):
        (folder / name).write_bytes(pictures.read("rocket"))
    for name in ("notes.txt", ".DS_Store", "second day/film.mov"):
        (folder / name).write_text("no picture")
    page = opened(browser, service)
    page.one("#folder").send_keys(str(folder))
    names = {"holiday/a.png", "holiday/second day/b.jpg", "holiday/second day/c.JPG"}
    page.wait(lambda: page.texts("#tray .name") == sorted(names))
    assert "3 files are no pictures and were left out" in page.one("#tray-hint").text
    page.one("#clear").click()
    page.run("window.scrollTo(0, 0)")
    place = page.run("const {x, y} = drop.getBoundingClientRect(); return [x, y]")
    data = {"items": [], "files": [str(folder), str(pictures.FILES["cat"])], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "drop"):
        event = {"type": kind, "x": place[0] + 20, "y": place[1] + 20, "data": data}
        page.driver.execute_cdp_cmd("Input.dispatchDragEvent", event)
    page.wait(lambda: set(page.texts("#tray .name")) == names | {"chelsea.png"})
    assert "notes.txt" in page.one("#tray-hint").text


def test_multi_label_headlines_nothing_unlikely(browser: Page, service: Running) -> None:
    page = opened(browser, service)
    take_samples(page, 0)
    page.run("document.querySelector('#classify details').open = true")
    page.one("#multi-label").click()
    page.write("#labels", "motorcycle, banana")
    answer(page)
    assert page.one("#classify-outcome .best").text == "none of these"
    assert "No label is likelier than not. Closest is" in page.one("#classify-outcome .verdict").text
    page.write("#labels", "cup of coffee, motorcycle")
    answer(page)
    assert page.one("#classify-outcome .best").text == "cup of coffee"
