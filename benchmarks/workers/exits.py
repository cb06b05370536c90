"""Milliseconds from the last line of a program to its end, with events that still wait.

The program says nothing at its end: no flush, no shutdown; what the SDK itself does there is
measured, and whether everything arrives. It runs in a process of its own, timed from outside.
"""

from __future__ import annotations

import subprocess
import sys
import time

import figures
import sdks


def program(given: object) -> None:
    """The one that ends."""
    client = sdks.open_client(given.sdk, sdks.Options(given.url, journal_dir=given.journal))  # type: ignore[attr-defined]
    client.track(*sdks.payload(0))
    client.flush()
    for n in range(given.events):  # type: ignore[attr-defined]
        client.track(*sdks.payload(n))
    print(time.monotonic_ns(), flush=True)


def main() -> None:
    given = figures.arguments(url="", journal="", events=100, ending=0)
    if given.ending:
        program(given)
        return
    command = [sys.executable, *sys.argv, "--ending", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        last_line = int(process.stdout.readline())
        process.wait(120)
        ended = time.monotonic_ns()
    figures.report({"exit_ms": (ended - last_line) / 1e6}, given.events + 1)


if __name__ == "__main__":
    main()
