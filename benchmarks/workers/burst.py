"""Nanoseconds of each track() in bursts, the sender awake beside them; a flush in between."""

from __future__ import annotations

import statistics
from time import perf_counter_ns

import sdks


def main() -> None:
    given = sdks.arguments(url="", burst=5_000, bursts=10)
    client = sdks.open_client(given.module, given.url)
    track = client.track
    times: list[int] = []
    medians, means, lasts = [], [], []
    for _ in range(given.bursts + 1):  # the first one warms up
        payloads = [sdks.payload(n) for n in range(given.burst)]
        times = []
        for user, event, properties in payloads:
            begun = perf_counter_ns()
            track(user, event, properties)
            times.append(perf_counter_ns() - begun)
        client.flush()
        medians.append(statistics.median(times))
        means.append(statistics.fmean(times))
        lasts.append(sdks.percentile(times, 99))
    sdks.report(
        median_ns=statistics.median(medians[1:]),
        mean_ns=statistics.median(means[1:]),
        p99_ns=statistics.median(lasts[1:]),
        events=given.burst * (given.bursts + 1),
    )


if __name__ == "__main__":
    main()
