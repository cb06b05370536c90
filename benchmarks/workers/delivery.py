"""CPU and time of events that are tracked and delivered, in rounds that a flush ends."""

from __future__ import annotations

import time

import figures
import sdks


def main() -> None:
    given = figures.arguments(url="", journal="", events=100_000, round=5_000)
    client = sdks.open_client(given.sdk, sdks.Options(given.url, journal_dir=given.journal))
    track = client.track
    size = min(given.round, given.events)
    rounds = given.events // size
    track(*sdks.payload(0))
    client.flush()
    took = used = 0.0
    for _ in range(rounds):
        made = [sdks.payload(n) for n in range(size)]  # its cost is not the SDK's
        begun, cpu = time.perf_counter(), figures.cpu_seconds()
        for user, event, properties in made:
            track(user, event, properties)
        client.flush()
        used += figures.cpu_seconds() - cpu
        took += time.perf_counter() - begun
    events = rounds * size
    found = {"cpu_s_per_100k": used * 100_000 / events, "events_per_s": events / took}
    figures.report(found, events + 1)


if __name__ == "__main__":
    main()
