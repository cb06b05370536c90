"""Calls of track() at a steady pace, by the words of its standard input, while its broker comes and goes.

``run SECONDS``: call for so long, and say how long the calls took. ``flush SECONDS``: wait until all
is delivered. The end of the input ends it.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import figures
import sdks

NEVER = 10**6


def main() -> None:
    given = figures.arguments(broker="", rate=500)
    from whisperr import Whisperr

    client = Whisperr(
        broker_url=given.broker, app="shop", max_queue_size=NEVER, max_queue_bytes=1 << 30
    )
    sent = 0
    for line in sys.stdin:
        word, seconds = line.split()
        if word == "run":
            took = run(client, float(seconds), given.rate, sent)
            sent += len(took)
            figures.report(
                {**figures.distribution(took, "_us", 1e-3), **usual(took, given.rate)}, sent
            )
        else:
            figures.report({"done": client.flush(float(seconds))}, sent)
    client.shutdown(1.0)


def usual(took: list[float], rate: int) -> dict[str, float]:
    """The 99th percentile of a second, in the median of all: what else runs here for a moment counts less."""
    seconds = [sorted(took[at : at + rate]) for at in range(0, len(took), rate)]
    of_each = sorted(figures.percentile(each, 99.0) for each in seconds)
    return {"usual_p99_us": figures.percentile(of_each, 50.0) * 1e-3}


def run(client: Any, seconds: float, rate: int, first: int) -> list[float]:
    """Nanoseconds of each call."""
    took: list[float] = []
    begun = time.perf_counter()
    for n in range(int(seconds * rate)):
        time.sleep(max(0.0, begun + n / rate - time.perf_counter()))
        payload = sdks.payload(first + n)
        before = time.perf_counter_ns()
        client.track(*payload)
        took.append(time.perf_counter_ns() - before)
    return took


if __name__ == "__main__":
    main()
