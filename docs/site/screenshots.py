"""Takes the pictures of the page in docs/page: `python docs/site/screenshots.py`, with Chromium and its chromedriver.

The photographs are the page's own samples, the drawings those of the test shard in training/sample.
"""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image

from benchmarks.service_process import running
from model.bundle import bundled
from tests.service.browser import Page, browsing

ROOT = Path(__file__).parents[2]
PICTURES = ROOT / "docs" / "page"
SHARD = ROOT / "training" / "sample" / "test-sample-000000.tar"
SAMPLES, DRAWINGS = 2, 48
WIDTH, MOST_BYTES = 900, 30_000


def main() -> None:
    """Start a service with the bundled model and take all of them."""
    with TemporaryDirectory() as folder, running(Path(folder), bundled()) as service, browsing() as page:
        for name, width, height, top in (("classify", 1100, 820, "#work"), ("phone", 390, 780, "#classify-outcome")):
            _opened(page, f"{service.url}/#classify", width, height, "light")
            _answer(page, "classify", ".why")
            _take(page, name, top)
        _opened(page, f"{service.url}/#map", 940, 930, "dark")
        page.choose_files(*_drawings(Path(folder)))
        _answer(page, "map", "svg")
        _take(page, "map", "#work")


def _opened(page: Page, url: str, width: int, height: int, scheme: str) -> None:
    """The page in a new tab, which remembers nothing of the one before, with the samples chosen."""
    page.driver.switch_to.new_window("tab")
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
    page.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    media = {"prefers-color-scheme": scheme, "prefers-reduced-motion": "reduce"}
    features = [{"name": name, "value": value} for name, value in media.items()]
    page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    page.driver.execute_cdp_cmd("Emulation.setScrollbarsHidden", {"hidden": True})
    page.open(url)
    for sample in page.wait(lambda: page.all("#samples button"))[:SAMPLES]:
        sample.click()
    page.wait(lambda: len(page.all("#tray li")) == SAMPLES)


def _drawings(folder: Path) -> list[Path]:
    with tarfile.open(SHARD) as shard:
        members = [each for each in shard if each.name.endswith(".webp")][:DRAWINGS]
        shard.extractall(folder, members, filter="data")
    return [folder / each.name for each in members]


def _answer(page: Page, form: str, shown: str) -> None:
    page.one(f"#{form} [type=submit]").click()
    page.wait(lambda: page.all(f"#{form}-outcome {shown}"))


def _take(page: Page, name: str, top: str) -> None:
    """With the element `top` at the upper edge, in the best quality that is small enough."""
    page.run(f"document.activeElement.blur(); document.querySelector('{top}').scrollIntoView()")
    picture = Image.open(io.BytesIO(page.driver.get_screenshot_as_png())).convert("RGB")
    picture.thumbnail((WIDTH, 2 * WIDTH))
    file, quality = PICTURES / f"{name}.webp", 90
    picture.save(file, quality=quality, method=6)
    while file.stat().st_size >= MOST_BYTES:
        quality -= 5  # below 0 it is an error
        picture.save(file, quality=quality, method=6)


if __name__ == "__main__":
    main()
