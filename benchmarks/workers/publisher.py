"""CPU of one process that delivers, or publishes, what it has tracked: so many events in a request.

Nothing is delivered before all of them are tracked, so that the CPU of both is told apart.
"""

from __future__ import annotations

import time
from typing import Any

import figures
import sdks

LIMIT = 600.0  # seconds
NEVER = 10**6


def main() -> None:
    given = figures.arguments(url="", broker="", events=100_000, together=20)
    from whisperr import Whisperr

    way: dict[str, Any] = {"api_key": "wrk_benchmark", "base_url": given.url}
    if given.broker:
        way = {"app": "shop", "broker_url": given.broker}
    client = Whisperr(
        flush_at=NEVER,
        flush_interval=NEVER,
        max_queue_size=NEVER,
        max_queue_bytes=1 << 30,
        max_batch_size=given.together,
        **way,
    )
    cpu = figures.cpu_seconds()
    for n in range(given.events):
        client.track(*sdks.payload(n))
    tracked = figures.cpu_seconds()
    begun = time.perf_counter()
    assert client.flush(LIMIT), client.stats()
    found = {
        "track_cpu_s": tracked - cpu,
        "deliver_cpu_s": figures.cpu_seconds() - tracked,
        "deliver_s": time.perf_counter() - begun,
    }
    figures.report(found, given.events)


if __name__ == "__main__":
    main()
