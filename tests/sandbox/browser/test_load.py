"""Many processes, much traffic, and the page open."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

from page import Page

from support.deadlines import generous, wait_until
from whisperr.sandbox import Sandbox

PROCESSES = 8
RATE = 20_000  # events a second, all processes together
SECONDS = 10.0
MOVES = 3  # of the counter, at least; on a quiet machine there are hundreds
CLICKS = 20
MEMORY = 300 * 1024 * 1024  # bytes, of the server
KEY = "wrk_load"

# Forks; each worker offers its share of the rate, and ends with a flush of all.
PROGRAM = """
import os, sys, time
from whisperr import Whisperr
url, processes, rate, seconds = sys.argv[1], *map(float, sys.argv[2:])
client = Whisperr("wrk_load", base_url=url, flush_at=500, max_queue_size=1_000_000)
workers = []
for worker in range(int(processes)):
    workers.append(os.fork())
    if workers[-1] == 0:
        start, number, total = time.monotonic(), 0, int(seconds * rate / processes)
        while number < total:
            due = (time.monotonic() - start) * rate / processes
            while number < min(total, due):
                client.track(f"user_{number % 1000}", "order_paid", {"n": f"{worker}-{number}"})
                number += 1
            time.sleep(0.005)
        print(number, client.shutdown(1000), flush=True)
        os._exit(0)
for worker in workers:
    os.waitpid(worker, 0)
"""


def open_an_event(page: Page) -> None:
    """Click until one is shown: a row may be replaced while it is clicked."""
    for _ in range(CLICKS):
        page.run("document.querySelectorAll('#rows button')[5]?.click();")
        if wait_until(lambda: page["detail-title"].text == "order_paid", generous(1.0)):
            return
    raise AssertionError("no event is shown")


def peak_memory(pid: int) -> int:
    with open(f"/proc/{pid}/status", encoding="ascii") as lines:
        peak = next(line for line in lines if line.startswith("VmHWM:"))
    return int(peak.split()[1]) * 1024


def test_20_000_events_a_second(page: Page, box: Sandbox, tmp_path: Path) -> None:
    """8 processes offer 200,000 events, 20,000 a second where they can: none is lost, and the page stays alive."""
    command = [sys.executable, "-c", PROGRAM, box.url, str(PROCESSES), str(RATE), str(SECONDS)]
    start = time.monotonic()
    counts, longest = [0], 0.0
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
        while process.poll() is None:
            asked = time.monotonic()
            counts.append(int(re.sub(r"\D", "", page["count-arrived"].text)))
            page.run("document.getElementById('detail-title').textContent = ''")
            if page.rows():
                open_an_event(page)
            page.run("document.getElementById('close').click(); document.activeElement.blur()")
            longest = max(longest, time.monotonic() - asked)
        took = time.monotonic() - start
        assert process.stdout is not None
        said = [line.split() for line in process.stdout.read().splitlines()]
    offered = sum(int(number) for number, _ in said)
    assert [settled for _, settled in said] == ["True"] * PROCESSES
    ledger = box.ledger(KEY)
    assert (ledger["arrived"], ledger["numbers"], ledger["twice"]) == (offered, offered, 0)
    assert offered == RATE * SECONDS
    assert len(set(counts)) > MOVES  # the counter kept moving
    page.until(lambda: page["count-arrived"].text == f"{offered:,}")
    memory = peak_memory(box.pid)
    print(
        f"\n{offered} events in {took:.1f} s, {os.cpu_count()} processors; server's memory at most"
        f" {memory / 2**20:.0f} MB; longest wait for the page {longest * 1000:.0f} ms"
    )
    assert memory < MEMORY
