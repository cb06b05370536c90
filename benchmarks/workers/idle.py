"""Wake-ups and CPU of an SDK while there is nothing to do (wake-ups: Linux).

One event is delivered first, so that whatever it starts has started.
"""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import figures
import sdks

SETTLE = 1.0  # seconds after the last delivery
TASKS = Path("/proc/self/task")


def wake_ups() -> int:
    """Voluntary context switches so far, of all threads but this one."""
    total = 0
    for task in TASKS.iterdir():
        if int(task.name) != threading.get_native_id():
            status = (task / "status").read_text()
            total += int(status.split("\nvoluntary_ctxt_switches:")[1].split()[0])
    return total


def main() -> None:
    given = figures.arguments(url="", journal="", seconds=60.0)
    client = sdks.open_client(given.sdk, sdks.Options(given.url, journal_dir=given.journal))
    client.track(*sdks.payload(0))
    client.flush()
    time.sleep(SETTLE)
    before, cpu = wake_ups(), figures.cpu_seconds()
    time.sleep(given.seconds)
    used = figures.cpu_seconds() - cpu  # before the reading of /proc, which is ours
    woken = wake_ups() - before
    minute = 60 / given.seconds
    figures.report({"wake_ups": woken * minute, "cpu_ms": used * 1e3 * minute}, 1)
    os._exit(0)


if __name__ == "__main__":
    main()
