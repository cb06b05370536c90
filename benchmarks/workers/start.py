"""Milliseconds that an import adds to an interpreter, and those of the first client.

The imports in pairs with an interpreter that does nothing else; one before the count, which
writes the byte code. The wall clock, and the CPU, which a busy machine changes less.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from time import perf_counter_ns

import figures
import sdks

# What a program must import to make a client.
IMPORTS = {
    "none": "pass",
    "whisperr": "import whisperr",
    "posthog": "import posthog",
    "segment": "import segment.analytics",
    "opentelemetry": (
        "import opentelemetry.sdk._logs.export\n"
        "import opentelemetry.exporter.otlp.proto.http._log_exporter"
    ),
    "sentry": "import sentry_sdk",
}


def children_cpu() -> float:
    """Seconds of all children that ended."""
    try:
        from resource import RUSAGE_CHILDREN, getrusage
    except ImportError:  # Windows, which does not say
        return 0.0
    used = getrusage(RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def cost(program: str) -> tuple[float, float]:
    """Milliseconds of one interpreter from its start to its end: wall clock, CPU."""
    cpu, begun = children_cpu(), time.perf_counter()
    subprocess.run([sys.executable, "-c", program], check=True)
    return (time.perf_counter() - begun) * 1e3, (children_cpu() - cpu) * 1e3


def main() -> None:
    given = figures.arguments(url="", journal="", pairs=10)
    program = IMPORTS[given.sdk]
    cost(program)
    wall, cpu = [], []
    for _ in range(given.pairs):
        bare, full = cost("pass"), cost(program)
        wall.append(full[0] - bare[0])
        cpu.append(full[1] - bare[1])
    exec(program, {})
    begun = perf_counter_ns()
    client = sdks.open_client(given.sdk, sdks.Options(given.url, journal_dir=given.journal))
    made = perf_counter_ns()
    client.track(*sdks.payload(0))
    tracked = perf_counter_ns()
    client.flush()
    found = {
        "import_ms": statistics.median(wall),
        "import_cpu_ms": statistics.median(cpu),
        "client_ms": (made - begun) / 1e6,
        "first_track_ms": (tracked - made) / 1e6,
    }
    figures.report(found, 1)


if __name__ == "__main__":
    main()
