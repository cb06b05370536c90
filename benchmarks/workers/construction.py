"""Milliseconds from the import to an enabled client, and of its first track()."""

from __future__ import annotations

import importlib
from time import perf_counter_ns

import sdks


def main() -> None:
    given = sdks.arguments(url="")
    importlib.import_module(given.module)
    begun = perf_counter_ns()
    client = sdks.open_client(given.module, given.url)
    made = perf_counter_ns()
    client.track(*sdks.payload(0))
    tracked = perf_counter_ns()
    client.flush()
    sdks.report(
        construction_ms=(made - begun) / 1e6, first_track_ms=(tracked - made) / 1e6, events=1
    )


if __name__ == "__main__":
    main()
