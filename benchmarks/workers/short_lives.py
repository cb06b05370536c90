"""Processes that track once and end without an exit handler, then one that delivers what they left.

``peak_bytes``: the size of all files in the folder, when it was largest. ``seconds``, ``cpu`` and
``requests``: of the one that delivers, from its first use of a client until nothing is left.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import Any

import figures
import sdks

LOOK = 25  # children between two looks at the folder
PATIENCE = 600.0  # seconds until something has failed


def new_client(url: str, folder: str) -> Any:
    """One that delivers when it is asked to."""
    from whisperr import Whisperr

    return Whisperr("wrk_benchmark", base_url=url, journal_dir=folder, flush_interval=999.0)


def live_and_die(url: str, folder: str, n: int) -> None:
    pid = os.fork()
    if pid == 0:
        new_client(url, folder).track(*sdks.payload(n))
        os._exit(0)  # as dead as by SIGKILL
    os.waitpid(pid, 0)


def size(folder: str) -> int:
    return sum(path.stat().st_size for path in Path(folder).glob("*/*"))


def main() -> None:
    given = figures.arguments(url="", journal="", children=1500)
    with tempfile.TemporaryDirectory(dir=given.journal or None) as folder:
        new_client(given.url, folder)  # what it imports no child needs to import
        peak = 0
        for n in range(given.children):
            live_and_die(given.url, folder, n)
            if n % LOOK == LOOK - 1:
                peak = max(peak, size(folder))
        peak = max(peak, size(folder))
        client = new_client(given.url, folder)
        begun, cpu = time.perf_counter(), figures.cpu_seconds()
        while not client.flush(PATIENCE):
            assert time.perf_counter() - begun < PATIENCE, client.stats()
        found = {
            "seconds": time.perf_counter() - begun,
            "cpu": figures.cpu_seconds() - cpu,
            "requests": client.stats()["requests"],
            "adopted": client.stats()["adopted"],
            "peak_bytes": peak,
        }
        client.shutdown()
        found["files_left"] = sum(path.is_file() for path in Path(folder).rglob("*"))
    figures.report(found, given.children)


if __name__ == "__main__":
    main()
