"""Nanoseconds of each call in bursts, the sender awake beside them; a flush after each burst.

With ``--keys 1,10,100`` a series of bursts for each number of properties, the figures under
``median@1`` and so on; with ``--method identify`` the other call.
"""

from __future__ import annotations

import threading
from time import perf_counter_ns
from typing import Any, Callable

import figures
import sdks


def timed(call: Callable[..., object], calls: list[Any], times: list[int]) -> None:
    for index, given in enumerate(calls):
        begun = perf_counter_ns()
        call(*given)
        times[index] = perf_counter_ns() - begun


def burst(call: Callable[..., object], calls: list[Any], threads: int) -> list[int]:
    """The duration of each call, those of all threads together."""
    times = [[0] * len(part) for part in (calls[first::threads] for first in range(threads))]
    if threads == 1:
        timed(call, calls, times[0])
        return times[0]
    barrier = threading.Barrier(threads)

    def run(first: int) -> None:
        mine = calls[first::threads]
        barrier.wait()
        timed(call, mine, times[first])

    running = [threading.Thread(target=run, args=(first,)) for first in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    return [time for part in times for time in part]


def main() -> None:
    given = figures.arguments(
        url="", journal="", events=5_000, bursts=5, threads=1, keys="5", method="track"
    )
    options = sdks.Options(given.url, max(10_000, 2 * given.events), 0.0, given.journal)
    client = sdks.open_client(given.sdk, options)
    call = client.identify if given.method == "identify" else client.track
    assert call is not None
    found: dict[str, float] = {}
    series = figures.numbers(given.keys)
    for keys in series:
        times: list[int] = []
        for index in range(given.bursts + 1):
            made: list[Any] = [arguments(given.method, n, keys) for n in range(given.events)]
            lasted = burst(call, made, given.threads)
            client.flush()
            if index:  # the first one warms up
                times += lasted
        suffix = f"@{keys}" if len(series) > 1 else ""
        found.update(figures.distribution(times, suffix, 1e-3))
        found["mean" + suffix] = sum(times) / len(times) * 1e-3
    figures.report(found, given.events * (given.bursts + 1) * len(series))


def arguments(method: str, n: int, keys: int) -> tuple[Any, ...]:
    return (f"user_{n:06}", sdks.traits(n)) if method == "identify" else sdks.payload(n, keys)


if __name__ == "__main__":
    main()
