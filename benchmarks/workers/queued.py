"""A long queue: what a call costs with so many waiting, and the memory of each that waits.

The sink's gate is closed meanwhile: the first request of the sender is answered at the end,
and then everything must still arrive. ``--count resident`` (Linux) is the growth of the
resident set, ``--count traced`` that of what tracemalloc counts; without, calls are timed.
"""

from __future__ import annotations

import gc
import os
import time
import tracemalloc
from time import perf_counter_ns
from typing import Callable
from urllib.request import urlopen

import figures
import sdks

IN_FLIGHT = 600  # events before the count begins: the sender takes its first batch of these
SETTLE = 0.5  # seconds until the sender waits for its answer
TIMED = 1_000  # calls at each length


def resident() -> int:
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def traced() -> int:
    return tracemalloc.get_traced_memory()[0]


def timed_calls(client: sdks.Client) -> list[int]:
    made = [sdks.payload(n) for n in range(TIMED)]
    times = [0] * TIMED
    track = client.track
    for index, (user, event, properties) in enumerate(made):
        begun = perf_counter_ns()
        track(user, event, properties)
        times[index] = perf_counter_ns() - begun
    return times


def main() -> None:
    given = figures.arguments(url="", journal="", lengths="1000,10000", count="")
    lengths = figures.numbers(given.lengths)
    options = sdks.Options(given.url, 2 * lengths[-1] + 10_000, sdks.WAIT, given.journal)
    client = sdks.open_client(given.sdk, options)
    gate(given.url, "close")
    for n in range(IN_FLIGHT):
        client.track(*sdks.payload(n))
    time.sleep(SETTLE)
    queued = 0
    found: dict[str, float] = {}
    if given.count:
        queued = lengths[-1]
        found["bytes"] = grown(client, queued, given.count) / queued
    else:
        for length in lengths:
            for n in range(queued, length):
                client.track(*sdks.payload(n))
            found.update(figures.distribution(timed_calls(client), f"@{length}", 1e-3))
            queued = length + TIMED
    gate(given.url, "open")
    tracemalloc.stop()
    client.flush()
    figures.report(found, IN_FLIGHT + queued)
    os._exit(0)


def grown(client: sdks.Client, events: int, count: str) -> int:
    """Bytes of so many events."""
    read: Callable[[], int] = resident
    if count == "traced":
        tracemalloc.start()
        read = traced
    gc.collect()
    before = read()
    for n in range(events):
        client.track(*sdks.payload(n))
    gc.collect()
    return read() - before


def gate(url: str, verb: str) -> None:
    with urlopen(f"{url}/gate/{verb}", timeout=10) as answer:
        answer.read()


if __name__ == "__main__":
    main()
