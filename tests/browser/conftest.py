"""A real headless Chromium, started once, and a page of a fresh node for each test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from rocinante.rest import RestServer
from tests.browser.demo import WWW, DemoNode, fill

CHROMIUM = Path("/usr/bin/chromium")
CHROMEDRIVER = Path("/usr/bin/chromedriver")
OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
)
PATIENCE_S = 60


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for option in (*OPTIONS, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(str(CHROMEDRIVER)))
    try:
        yield driver
    finally:
        driver.quit()


class Page:
    """What a person does with the page: looks, clicks, types; each look waits until it is so."""

    def __init__(self, driver: webdriver.Chrome, node: DemoNode, server: RestServer) -> None:
        self.driver, self.node, self.server = driver, node, server
        self.url = f"http://127.0.0.1:{server.port}/"

    def open(self, view: str = "", *, width: int = 1400, theme: str = "light") -> Page:
        self.command("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": theme}])
        self.command("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        self.driver.get(f"{self.url}#/{view}")
        self.sees("health-text", self.node.member.name)
        return self

    def command(self, name: str, **arguments: Any) -> None:
        self.driver.execute_cdp_cmd(name, arguments)

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def until(self, condition: Callable[[], Any], what: str) -> Any:
        return WebDriverWait(self.driver, PATIENCE_S, 0.05).until(lambda _: condition(), f"never: {what}")

    def text(self, identifier: str) -> str:
        """The text of an element as it is now, whatever is being rendered at the moment."""
        return str(self.run("return document.getElementById(arguments[0])?.innerText ?? ''", identifier))

    def sees(self, identifier: str, text: str) -> None:
        self.until(
            lambda: text in self.text(identifier), f"{text!r} in #{identifier}, which says {self.text(identifier)!r}"
        )

    def find(self, selector: str) -> WebElement:
        found: WebElement = self.until(lambda: self.driver.find_elements(By.CSS_SELECTOR, selector), selector)[0]
        return found

    def count(self, selector: str) -> int:
        return int(self.run("return document.querySelectorAll(arguments[0]).length", selector))

    def click(self, selector: str) -> None:
        self.until(
            lambda: self.run("const e = document.querySelector(arguments[0]); return e && !e.disabled", selector),
            selector,
        )
        self.on(selector, lambda element: element.click())

    def click_text(self, selector: str, text: str) -> None:
        """Click the element of this selector that says this; at once, for lists are drawn anew."""
        script = (
            "const e = [...document.querySelectorAll(arguments[0])].find((e) => e.innerText.includes(arguments[1]));"
            "e?.click(); return Boolean(e)"
        )
        self.until(lambda: self.run(script, selector, text), f"{selector} with {text!r}")

    def type(self, selector: str, text: str) -> None:
        self.on(selector, lambda field: (field.clear(), field.send_keys(text)))

    def on(self, selector: str, act: Callable[[WebElement], object]) -> None:
        """Do this to an element; again where it was drawn anew between the look and the act, which is then not done."""

        def done() -> bool:
            try:
                act(self.find(selector))
            except StaleElementReferenceException:
                return False
            return True

        self.until(done, f"{selector} stays for a moment")

    def console(self, *allowed: str) -> list[str]:
        """What the console complained of, but for what a test provokes. CSP violations stand there too."""
        return [
            f"{entry['level']} {entry['message']}"
            for entry in self.driver.get_log("browser")  # type: ignore[no-untyped-call]
            if entry["level"] in {"SEVERE", "WARNING"} and not any(part in entry["message"] for part in allowed)
        ]


@pytest.fixture
def page(chromium: webdriver.Chrome) -> Iterator[Page]:
    with DemoNode() as node:
        fill(node)
        server = RestServer(node, host="127.0.0.1", port=0, wwwroot=WWW)
        server.start()
        try:
            yield Page(chromium, node, server)
        finally:
            chromium.get("about:blank")
            chromium.get_log("browser")  # type: ignore[no-untyped-call]
            server.stop()
