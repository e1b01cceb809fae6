"""A real browser, driven without a window."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest
from selenium import webdriver
from selenium.common.exceptions import NoSuchElementException, StaleElementReferenceException
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait

from benchmarks.service_process import PATIENCE_S

T = TypeVar("T")
FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--window-size=1280,900")
FORGET = """
    if (origin !== "null")  // of a page without one there is no storage
        for (const name of Object.keys(sessionStorage))
            if (!name.startsWith("sightword-key ")) sessionStorage.removeItem(name);
"""  # what another test wrote into the form and chose; the key stays


class Page:
    """The page that is open in the browser."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver

    def open(self, url: str) -> None:
        self.run(FORGET)
        self.driver.get("about:blank")  # the same address with another fragment would not load again
        self.driver.get_log("browser")
        self.driver.get_log("performance")
        self.driver.get(url)

    def one(self, selector: str) -> WebElement:
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def all(self, selector: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def texts(self, selector: str) -> list[str]:
        return [element.text for element in self.all(selector)]

    def wait(self, condition: Callable[[], T]) -> T:
        """Until it is true; what changes meanwhile is looked at again."""
        waiting = WebDriverWait(self.driver, PATIENCE_S, 0.05, [StaleElementReferenceException, NoSuchElementException])
        return waiting.until(lambda _: condition())

    def write(self, selector: str, text: str) -> None:
        field = self.one(selector)
        field.clear()
        field.send_keys(text)

    def choose_files(self, *files: Path) -> None:
        self.one("#files").send_keys("\n".join(map(str, files)))
        self.wait(lambda: {file.name for file in files} <= set(self.texts("#tray .name")))

    def errors(self) -> Sequence[str]:
        """What the console complains of since the page was opened."""
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"]

    def requests(self) -> list[str]:
        """Addresses asked for since the page was opened."""
        events = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        return [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]

    def run(self, script: str) -> Any:
        return self.driver.execute_script(script)  # type: ignore[no-untyped-call]


@contextmanager
def browsing(preferences: Mapping[str, object] | None = None) -> Iterator[Page]:
    """Chromium, or a skip where there is none."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    driver_path = shutil.which("chromedriver")
    if browser is None or driver_path is None:
        pytest.skip("no Chromium with its chromedriver on this machine")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for flag in FLAGS:
        options.add_argument(flag)
    options.add_experimental_option("prefs", dict(preferences or {}))
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(driver_path))
    try:
        yield Page(driver)
    finally:
        driver.quit()
