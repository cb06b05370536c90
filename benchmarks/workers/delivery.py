"""CPU of this process, all its threads, for events that are tracked and delivered."""

from __future__ import annotations

import time

import sdks


def cpu() -> float:
    """Seconds, user and system."""
    try:
        from resource import RUSAGE_SELF, getrusage
    except ImportError:  # Windows
        return time.process_time()
    used = getrusage(RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main() -> None:
    given = sdks.arguments(url="", events=100_000, round=5_000)
    client = sdks.open_client(given.module, given.url)
    track = client.track
    payloads = [sdks.payload(n) for n in range(given.round)]
    track(*payloads[0])
    client.flush()
    begun, cpu_before = time.perf_counter(), cpu()
    for _ in range(given.events // given.round):
        for user, event, properties in payloads:
            track(user, event, properties)
        client.flush()
    used, took = cpu() - cpu_before, time.perf_counter() - begun
    sdks.report(
        cpu_s_per_100k=used * 100_000 / given.events,
        events_per_s=given.events / took,
        events=given.events + 1,
    )


if __name__ == "__main__":
    main()
