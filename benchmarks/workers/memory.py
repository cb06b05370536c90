"""Bytes of one queued event, the server accepting connections and never answering.

By the resident set of the process, or by tracemalloc with ``--traced 1``. What the sender
holds while it waits for an answer is there before the count begins.
"""

from __future__ import annotations

import gc
import os
import socket
import time
import tracemalloc
from typing import Callable

import sdks

SETTLE = 0.5  # seconds until the sender hangs in its first request


def resident() -> int:
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def traced() -> int:
    return tracemalloc.get_traced_memory()[0]


def main() -> None:
    given = sdks.arguments(events=50_000, traced=0)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(64)  # the kernel takes the connection and the request; nobody reads it
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        client = sdks.open_client(given.module, url, max_queue_size=2 * given.events)
        for n in range(600):
            client.track(*sdks.payload(n))
        time.sleep(SETTLE)
        if given.traced:
            tracemalloc.start()
        read: Callable[[], int] = traced if given.traced else resident
        gc.collect()
        before = read()
        for n in range(given.events):
            client.track(*sdks.payload(n))
        gc.collect()
        sdks.report(bytes_per_event=(read() - before) / given.events)
        os._exit(0)  # nothing of it can be delivered


if __name__ == "__main__":
    main()
