"""Calls at a steady pace: how long each takes, and how late the application comes to it.

Late is what passes between the moment that a call was due and the moment that the loop came
to it. With the empty function it is what sleeping on this machine costs; what an SDK adds is
its sender holding the interpreter's lock, or the processor. ``--threads`` share the pace.
"""

from __future__ import annotations

import threading
import time
from time import perf_counter_ns

import figures
import sdks

START = 100_000_000  # nanoseconds from now to the first call: every thread is there by then


def pace(
    client: sdks.Client, made: list[sdks.Payload], first: int, period: int
) -> tuple[list[int], list[int]]:
    """Nanoseconds of each call, and of each delay."""
    times, late = [0] * len(made), [0] * len(made)
    track, sleep = client.track, time.sleep
    for index, (user, event, properties) in enumerate(made):
        due = first + index * period
        left = due - perf_counter_ns()
        if left > 0:
            sleep(left / 1e9)
        begun = perf_counter_ns()
        track(user, event, properties)
        times[index] = perf_counter_ns() - begun
        late[index] = begun - due
    return times, late


def main() -> None:
    given = figures.arguments(url="", journal="", rate=1_000, seconds=5.0, threads=1)
    client = sdks.open_client(given.sdk, sdks.Options(given.url, journal_dir=given.journal))
    warm_up = 100
    for n in range(warm_up):
        client.track(*sdks.payload(n))
    client.flush()
    made = [sdks.payload(n) for n in range(int(given.rate * given.seconds))]
    step = 1_000_000_000 // given.rate
    start = perf_counter_ns() + START
    results: list[tuple[list[int], list[int]]] = []

    def run(index: int) -> None:
        mine = made[index :: given.threads]
        results.append(pace(client, mine, start + index * step, given.threads * step))

    if given.threads == 1:
        run(0)
    else:
        running = [threading.Thread(target=run, args=(index,)) for index in range(given.threads)]
        for thread in running:
            thread.start()
        for thread in running:
            thread.join()
    client.flush()
    times = [time for each, _ in results for time in each]
    late = [delay for _, each in results for delay in each]
    found = figures.distribution(times, "", 1e-3)
    found.update(figures.distribution(late, "_late", 1e-6))
    figures.report(found, warm_up + len(made))


if __name__ == "__main__":
    main()
