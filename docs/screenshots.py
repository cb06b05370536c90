"""Make the pictures of the sandbox's page: python docs/screenshots.py [folder].

Starts a sandbox and a small shop of forked workers (this same file, as ``shop.py <url>``), and photographs the page, light and dark, with
a headless Chromium (Debian: apt-get install chromium chromium-driver; then pip install
selenium pillow 'whisperr[sandbox]').
"""

from __future__ import annotations

import contextlib
import io
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Iterator

from PIL import Image, ImageColor
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from whisperr import Whisperr
from whisperr.sandbox import Sandbox

KEY = "wrk_shop"
SIZE = (1440, 900)
WORKERS = 4
BUSY = float(os.environ.get("BUSY", "25"))  # seconds of traffic before the pictures
TIMEOUT = 20.0  # seconds for anything on the page to appear
EVENTS = ("page_viewed", "product_viewed", "cart_updated", "payment_failed", "renewal_succeeded")


def main() -> int:
    if Path(sys.argv[0]).name == "shop.py":
        return open_shop(sys.argv[1])
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).with_name("images"))
    folder.mkdir(parents=True, exist_ok=True)
    with Sandbox() as box, shop(box):
        time.sleep(BUSY / 2)
        box.inject(KEY, {"do": "status", "status": 503, "times": 3})
        wrong(box)
        time.sleep(BUSY / 2)
        for scheme in ("light", "dark"):
            with browser(scheme) as driver:
                photograph(driver, box, folder, scheme)
    return 0


# --- the traffic


@contextlib.contextmanager
def shop(box: Sandbox) -> Iterator[None]:
    """The shop, open until the end of the block."""
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder, "shop.py")
        program.symlink_to(Path(__file__).resolve())
        command = [sys.executable, str(program), box.url]
        with subprocess.Popen(command, cwd=folder, stdin=subprocess.PIPE) as process:
            try:
                yield
            finally:
                process.communicate()  # closes its standard input


def open_shop(url: str) -> int:
    """Workers, forked, that track what customers do until the end of standard input."""
    workers = []
    for number in range(WORKERS):
        workers.append(os.fork())
        if workers[-1] == 0:
            work(url, number)
    sys.stdin.read()
    for worker in workers:
        os.kill(worker, signal.SIGTERM)
        os.waitpid(worker, 0)
    return 0


def work(url: str, number: int) -> None:
    """A worker: never returns."""
    chance = random.Random(number)
    client = Whisperr(KEY, base_url=url, flush_interval=0.7, app_version="2.4.0")
    client.identify(
        f"user_{number}",
        email=f"ada{number}@example.org",
        phone=f"+49 30 555 010{number}",
        traits={"plan": "pro", "seats": 3 + number, "app_language": "de"},
        preferred_channel="email",
    )
    while True:
        user = f"user_{chance.randrange(12)}"
        amount = round(chance.uniform(5, 90), 2)
        client.track(user, chance.choice(EVENTS), {"amount": amount, "currency": "EUR"})
        time.sleep(chance.expovariate(3 + 2 * number))


def wrong(box: Sandbox) -> None:
    """What a service that was never tested with the sandbox sends."""
    import requests

    event = {
        "external_user_id": "user_3",
        "event_type": "PaymentFailed",
        "occurred_at": "2026-01-01 10:00:00",
        "properties": {"amount": 12.5},
        "context": {"$message_id": "legacy-1", "sdk_name": "handmade", "sdk_version": "0"},
    }
    headers = {"X-API-Key": KEY, "User-Agent": "whisperr-python/0.0.1"}
    with requests.Session() as session:
        session.trust_env = False
        answer = session.post(f"{box.url}/v1/events/track", json=event, headers=headers)
        assert answer.status_code == 400, answer.text


# --- the pictures


@contextlib.contextmanager
def browser(scheme: str) -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    for argument in ("--headless=new", "--no-sandbox", "--hide-scrollbars", "--no-proxy-server"):
        options.add_argument(argument)
    driver = webdriver.Chrome(options, webdriver.ChromeService("/usr/bin/chromedriver"))
    try:
        width, height = SIZE
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        wanted = [{"name": "prefers-color-scheme", "value": scheme}]
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": wanted})
        yield driver
    finally:
        driver.quit()


def photograph(driver: webdriver.Chrome, box: Sandbox, folder: Path, scheme: str) -> None:
    """The page as it opens, an event that was retried, and a user."""
    wait = WebDriverWait(driver, TIMEOUT)
    driver.get(box.url)
    wait.until(lambda d: len(d.find_elements(By.CSS_SELECTOR, "#rows tr")) > 20)
    wait.until(lambda d: d.find_elements(By.CSS_SELECTOR, "#lanes button"))
    time.sleep(3)  # for the plots to move, and the newest rows to settle
    save(driver, folder / f"sandbox-{scheme}.png")

    driver.get(f"{box.url}/?state=failed")
    wait.until(lambda d: d.find_elements(By.CSS_SELECTOR, "#rows tr"))
    driver.find_element(By.CSS_SELECTOR, "#rows button").click()
    wait.until(lambda d: d.find_elements(By.ID, "copies"))
    time.sleep(1)
    save(driver, folder / f"retried-{scheme}.png")

    driver.get(f"{box.url}/?user=user_1")
    wait.until(lambda d: d.find_element(By.ID, "user-facts").text)
    time.sleep(1)
    save(driver, folder / f"user-{scheme}.png")


def save(driver: webdriver.Chrome, path: Path) -> None:
    picture = Image.open(io.BytesIO(driver.get_screenshot_as_png())).convert("RGB")
    # The commonest colours as they are, and those of the legend, however small: an average would
    # mix the amber with the red.
    legend = driver.execute_script(
        "return ['--arrived', '--failed', '--refused', '--resent', '--twice'].map("
        "name => getComputedStyle(document.documentElement).getPropertyValue(name))"
    )
    common = sorted(picture.getcolors(1 << 24) or [], reverse=True)
    colours = [ImageColor.getrgb(name.strip()) for name in legend] + [c for _, c in common]
    palette = Image.new("P", (1, 1))
    palette.putpalette([part for colour in colours[:256] for part in colour])
    picture.quantize(palette=palette, dither=Image.Dither.NONE).save(path, optimize=True)


if __name__ == "__main__":
    sys.exit(main())
