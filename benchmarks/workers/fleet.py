"""A fleet of processes, forked from one client that has its connection open: each publishes 20 events at a time."""

from __future__ import annotations

import os
import time
import warnings

import figures
import sdks

LIMIT = 300.0  # seconds


def main() -> None:
    warnings.simplefilter("ignore", DeprecationWarning)  # of 3.12 on: it forks beside a thread
    given = figures.arguments(broker="", processes=64, publishes=50, together=20)
    from whisperr import Whisperr

    client = Whisperr(broker_url=given.broker, app="shop", max_batch_size=given.together)
    client.track(*sdks.payload(0))
    assert client.flush(LIMIT), client.stats()
    begun = time.perf_counter()
    children = []
    for _ in range(given.processes):
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                status = publish(client, given.publishes, given.together)
            finally:
                os._exit(status)
        children.append(pid)
    statuses = [os.waitpid(pid, 0)[1] for pid in children]
    assert not any(statuses), statuses
    events = 1 + given.processes * given.publishes * given.together
    figures.report({"publish_s": time.perf_counter() - begun}, events)


def publish(client: object, publishes: int, together: int) -> int:
    for _ in range(publishes):
        for n in range(together):
            client.track(*sdks.payload(n))  # type: ignore[attr-defined]
        if not client.flush(LIMIT):  # type: ignore[attr-defined]
            return 1
    return 0


if __name__ == "__main__":
    main()
