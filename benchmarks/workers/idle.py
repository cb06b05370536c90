"""How often the threads of an SDK wake up while there is nothing to do (Linux)."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import sdks

SETTLE = 0.5  # seconds after the last delivery


def wake_ups() -> int:
    """Voluntary context switches so far, of all threads but this one."""
    total = 0
    for task in Path("/proc/self/task").iterdir():
        if int(task.name) != threading.get_native_id():
            status = (task / "status").read_text()
            total += int(status.split("\nvoluntary_ctxt_switches:")[1].split()[0])
    return total


def main() -> None:
    given = sdks.arguments(url="", seconds=10.0)
    client = sdks.open_client(given.module, given.url)
    client.track(*sdks.payload(0))
    client.flush()
    time.sleep(SETTLE)
    before = wake_ups()
    time.sleep(given.seconds)
    sdks.report(wake_ups=wake_ups() - before, events=1)
    os._exit(0)


if __name__ == "__main__":
    main()
