"""What only the journal has: bytes on disk, and the start beside what a dead process left (POSIX).

``disk_ratio``: bytes of the segments, without what is reserved and not used, for each byte of the
request bodies in which the same events are then delivered. ``dead_ms``: from the first use of a
client until its first request is under way, with so many records of a dead process in the folder.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import Any

import figures
import sdks

PATIENCE = 30.0  # seconds until something has failed
LOOK = 0.0002  # seconds between two looks


def new_client(url: str, folder: str, events: int) -> Any:
    """One that delivers when it is asked to."""
    from whisperr import Whisperr

    asked = {"flush_at": 10 * events, "flush_interval": 999.0, "max_queue_size": 2 * events}
    return Whisperr("wrk_benchmark", base_url=url, journal_dir=folder, **asked)


def track(client: Any, events: int) -> None:
    """So many, which wait: the first pass comes by itself, and is over."""
    client.track(*sdks.payload(0))
    assert client.flush()
    for n in range(events):
        client.track(*sdks.payload(n))


def disk_ratio(url: str, folder: str, events: int) -> float:
    client = new_client(url, folder, events)
    track(client, events)
    before = client.stats()["bytes"]
    segments = Path(folder).glob("*/*.seg")
    written = sum(len(path.read_bytes().rstrip(b"\0")) for path in segments)
    assert client.flush()
    return float(written / (client.stats()["bytes"] - before))


def dead_ms(url: str, folder: str, events: int) -> float:
    pid = os.fork()
    if pid == 0:
        track(new_client(url, folder, events), events)
        os._exit(0)  # without an exit of ours: as dead as by SIGKILL
    os.waitpid(pid, 0)
    client = new_client(url, folder, events)
    begun = time.perf_counter()
    from whisperr import lifecycle

    lifecycle.start_all()
    while not client.stats()["requests"]:
        assert time.perf_counter() - begun < PATIENCE, client.stats()
        time.sleep(LOOK)
    took = time.perf_counter() - begun
    assert client.flush()
    assert client.stats()["adopted"] == events, client.stats()
    return took * 1e3


def main() -> None:
    given = figures.arguments(url="", journal="", events=10_000)
    with tempfile.TemporaryDirectory(dir=given.journal) as folder:
        dead = dead_ms(given.url, folder, given.events)
    with tempfile.TemporaryDirectory(dir=given.journal) as folder:
        ratio = disk_ratio(given.url, folder, given.events)
    figures.report({"dead_ms": dead, "disk_ratio": ratio}, 2 * given.events + 2)


if __name__ == "__main__":
    main()
