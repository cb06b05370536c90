"""Microseconds of os.fork() with live clients of an SDK, alternated with none (POSIX).

Five processes of one interpreter fork in turn, a child at a time, each child ending at once:
two without a client, one with one, one with a hundred as a prefork server makes them before it
forks, and one with a hundred that have delivered. Measured until
fork() has returned in the parent, and until the child runs its first line.
"""

from __future__ import annotations

import os
import statistics
import struct
import subprocess
import sys
import warnings
from time import perf_counter_ns

import figures
import sdks
import start

# name: clients, and whether each delivers one event first
PROCESSES = {"none": (0, 0), "none_b": (0, 0), "1": (1, 0), "100": (100, 0), "100_used": (100, 1)}
# All have imported what a client will: whisperr imports requests with its first client (and
# 0.2.1 has no need of it).
IMPORTS = {
    **start.IMPORTS,
    "whisperr": "import contextlib, whisperr\nwith contextlib.suppress(ImportError): import requests",
}
PAIR = struct.Struct("qq")  # nanoseconds: in the parent, in the child


def fork_once() -> tuple[int, int]:
    read_end, write_end = os.pipe()
    begun = perf_counter_ns()
    pid = os.fork()
    now = perf_counter_ns()  # one clock for both
    if pid == 0:
        os.write(write_end, struct.pack("q", now))
        os._exit(0)
    in_child = struct.unpack("q", os.read(read_end, 8))[0]
    os.waitpid(pid, 0)
    os.close(read_end)
    os.close(write_end)
    return now - begun, in_child - begun


def forking(given: object, clients: int, used: int) -> None:
    """The process that forks, once for each byte that it reads."""
    warnings.simplefilter("ignore")  # of a fork with threads; to print it would be measured
    exec(IMPORTS[given.sdk], {})  # type: ignore[attr-defined]
    options = sdks.Options(given.url)  # type: ignore[attr-defined]
    kept = [sdks.open_client(given.sdk, options) for _ in range(clients)]  # type: ignore[attr-defined]
    for client in kept if used else []:
        client.track(*sdks.payload(0))
        client.flush()
    output = os.dup(1)
    os.write(output, b"!")
    while os.read(0, 1):
        os.write(output, PAIR.pack(*fork_once()))
    os._exit(0)


def main() -> None:
    given = figures.arguments(url="", journal="", forks=2_000, clients=-1, used=0)
    if given.clients >= 0:
        forking(given, given.clients, given.used)
    processes = {}
    for name, (clients, used) in PROCESSES.items():
        command = [sys.executable, *sys.argv, "--clients", str(clients), "--used", str(used)]
        processes[name] = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
        )
    for process in processes.values():
        _read(process, 1)
    times: dict[str, list[tuple[int, int]]] = {name: [] for name in processes}
    for _ in range(given.forks):
        for name, process in processes.items():
            assert process.stdin is not None
            process.stdin.write(b".")
            times[name].append(PAIR.unpack(_read(process, PAIR.size)))
    for process in processes.values():
        process.communicate(timeout=30)
    found: dict[str, float] = {}
    for name, pairs in times.items():
        found[f"parent@{name}"] = statistics.median(pair[0] for pair in pairs) / 1e3
        found[f"child@{name}"] = statistics.median(pair[1] for pair in pairs) / 1e3
    sent = sum(clients for clients, used in PROCESSES.values() if used)
    figures.report(found, sent)


def _read(process: subprocess.Popen[bytes], size: int) -> bytes:
    assert process.stdout is not None
    data = process.stdout.read(size)
    if not data:
        raise SystemExit("a forking process ended early")
    return bytes(data)


if __name__ == "__main__":
    main()
