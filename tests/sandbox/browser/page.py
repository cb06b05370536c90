"""The sandbox's page, as a test uses it: what a person sees and does, in the page's own words."""

from __future__ import annotations

import json
from typing import Any, Callable, TypeVar

from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import Select, WebDriverWait

from support.deadlines import DEADLINE

Found = TypeVar("Found")


class Page:
    """One tab on the page of a sandbox."""

    def __init__(self, driver: webdriver.Chrome, url: str) -> None:
        self.driver = driver
        self.url = url

    def load(self, query: str = "") -> None:
        self.driver.get(f"{self.url}/{query}")
        self.until(lambda: self["connection"].text == "live")

    def __getitem__(self, name: str) -> WebElement:
        """The element of an id."""
        return self.driver.find_element(By.ID, name)

    def until(self, found: Callable[[], Found]) -> Found:
        """What a look at the page finds, once it finds something. Fails at the deadline."""
        ignored = [StaleElementReferenceException]
        wait = WebDriverWait(self.driver, DEADLINE, 0.02, ignored_exceptions=ignored)
        return wait.until(lambda driver: found())

    def run(self, script: str, *arguments: object) -> Any:
        return self.driver.execute_script(script, *arguments)

    def wait_for(self, script: str) -> Any:
        """Run JavaScript that calls ``done(value)`` at some time."""
        body = f"const done = arguments[arguments.length - 1];\n{script}"
        return self.driver.execute_async_script(body)

    # --- the list

    def rows(self) -> list[list[str]]:
        """The cells of the list, row by row."""
        cells = "return [...document.querySelectorAll('#rows tr')].map("
        return list(self.run(f"{cells}row => [...row.cells].map(cell => cell.textContent))"))

    def events(self) -> list[tuple[str, str]]:
        """State and name of each row."""
        return [(row[1], row[2]) for row in self.rows()]

    def button(self, name: str) -> WebElement:
        """The button of the first row with this event."""
        return self.until(
            lambda: next(
                (
                    button
                    for button in self.driver.find_elements(By.CSS_SELECTOR, "#rows button")
                    if button.text == name
                ),
                None,
            )
        )

    def open(self, name: str) -> str:
        """Open the first row with this event; the text of what opens."""
        self.button(name).click()
        self.until(lambda: self["detail-title"].text == name)
        return self["detail"].text

    def choose(self, name: str, value: str) -> None:
        """Choose from a select by its value."""
        Select(self[name]).select_by_value(value)

    def write(self, name: str, text: str) -> None:
        """Write into a field, in place of what is there."""
        self[name].clear()
        self[name].send_keys(text)

    # --- the keyboard

    def press(self, *keys: str) -> None:
        """Keys that go to whatever has the focus."""
        ActionChains(self.driver).send_keys(*keys).perform()

    def focused(self) -> str:
        """The id of what has the focus, or its text."""
        return str(self.run("const e = document.activeElement; return e.id || e.textContent"))

    def tab_to(self, name: str) -> None:
        """Press Tab until the element of this id, or text, has the focus."""
        seen: list[str] = []
        while self.focused() != name:
            assert len(seen) < 80, f"{name} cannot be reached: {seen}"
            seen.append(self.focused())
            self.press(Keys.TAB)


def lines(text: str) -> list[dict[str, Any]]:
    """The values of JSON lines."""
    return [json.loads(line) for line in text.splitlines()]
