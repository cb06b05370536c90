"""How late a paced loop of the application is while its events are delivered.

A tick every millisecond, at each of which some events are tracked; late is what passes
between the moment that a tick was due and the moment that the loop came to it. With the
module ``none`` nothing is tracked: what the machine alone makes late.
"""

from __future__ import annotations

import time

import sdks

PERIOD = 0.001  # seconds


def main() -> None:
    given = sdks.arguments(url="", events=20_000, per_tick=10)
    client = None if given.module == "none" else sdks.open_client(given.module, given.url)
    payloads = [sdks.payload(n) for n in range(given.events)]
    late = []
    start = time.perf_counter() + 0.1
    for tick in range(given.events // given.per_tick):
        due = start + tick * PERIOD
        left = due - time.perf_counter()
        if left > 0:
            time.sleep(left)
        late.append(time.perf_counter() - due)
        if client is not None:
            first = tick * given.per_tick
            for user, event, properties in payloads[first : first + given.per_tick]:
                client.track(user, event, properties)
    if client is not None:
        client.flush()
    sdks.report(
        p50_ms=sdks.percentile(late, 50) * 1e3,
        p99_ms=sdks.percentile(late, 99) * 1e3,
        max_ms=max(late) * 1e3,
        events=given.events if client else 0,
    )


if __name__ == "__main__":
    main()
