"""A real browser, and a page of the sandbox in it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from page import Page
from selenium import webdriver

from support.parts import find_chromium, need
from support.sandboxes import PatientSandbox
from whisperr.sandbox import Sandbox


@pytest.fixture(scope="session")
def downloads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the browser puts what it downloads."""
    return tmp_path_factory.mktemp("downloads")


@pytest.fixture(scope="session")
def driver(downloads: Path) -> Iterator[webdriver.Chrome]:
    """A headless Chromium from the system's packages."""
    need("chromium")
    options = webdriver.ChromeOptions()
    options.binary_location = str(find_chromium())
    for argument in ("headless=new", "no-sandbox", "no-proxy-server", "window-size=1440,900"):
        options.add_argument(f"--{argument}")
    options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
    started = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
    try:
        yield started
    finally:
        started.quit()


@pytest.fixture
def box() -> Iterator[Sandbox]:
    """A sandbox of the test's own: the page shows all keys of its server."""
    with PatientSandbox() as running:
        yield running


@pytest.fixture
def page(driver: webdriver.Chrome, box: Sandbox) -> Page:
    """The page, opened and live."""
    opened = Page(driver, box.url)
    opened.load()
    return opened
