"""Run hosts, and print, write or check the table. See README.md in this folder."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "examples")]

import table_page as page  # noqa: E402
from one_run import KINDS, Count, run  # noqa: E402
from redis_server import own_redis  # noqa: E402
from table_rows import KILLED, LINE, ROWS, Row  # noqa: E402

from whisperr.sandbox import Sandbox  # noqa: E402


def main() -> int:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background it is ignored
    options = _options()
    rows = [row for row in ROWS if _is_wanted(row, options)]
    if not rows:
        print("no such row")
        return 2
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, own_redis(
        Path(folder)
    ) as redis, Sandbox() as box:

        def count(job: tuple[Row, str]) -> Count:
            row, kind = job
            counted = run(row, kind, box, redis)
            print(f"{row.name:50} {kind:8} {counted}", flush=True)
            return counted

        jobs = [(row, kind) for row in rows for kind in _kinds(row, options.check)]
        with ThreadPoolExecutor(options.jobs) as pool:
            results = list(pool.map(count, jobs))
    counts = {(row.name, kind): result for (row, kind), result in zip(jobs, results)}
    print(f"{len(rows)} hosts, {len(jobs)} runs, {time.monotonic() - begun:.0f} s")
    if options.write:
        page.write(ROWS, counts)
    return _compare(rows, counts) if options.check else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="parts of names; all rows without one")
    parser.add_argument("--check", action="store_true", help="the light rows, against the page")
    parser.add_argument("--write", action="store_true", help="write these rows into the page")
    parser.add_argument("--jobs", type=int, default=3, help="runs at once (%(default)s)")
    return parser.parse_args()


def _is_wanted(row: Row, options: argparse.Namespace) -> bool:
    if options.names:
        return any(name.lower() in row.name.lower() for name in options.names)
    return row.light or not options.check


def _kinds(row: Row, check: bool) -> list[str]:
    kinds = [kind for kind in KINDS if kind != LINE or page.has_line(row)]
    # A program that ends by itself is over before it could be killed.
    kinds = [kind for kind in kinds if kind != KILLED or row.stop is not None]
    return [kind for kind in kinds if kind != KILLED or not check]


def _compare(rows: list[Row], counts: dict[tuple[str, str], Count]) -> int:
    said = page.read()
    wrong = [
        f"{name}, {kind}: {counted}, and the page says {said.get((name, kind))}"
        for (name, kind), counted in counts.items()
        if not _agrees(str(counted), said.get((name, kind), ""))
    ]
    print("\n".join(wrong))
    compared = len(counts) - len(wrong)
    print(f"{compared} passed, {len(wrong)} failed")
    return int(bool(wrong) or not counts)


def _agrees(counted: str, said: str) -> bool:
    """All, none, or the same part of what was tracked, which may differ by a few."""
    if counted == said:
        return True
    parts = [text.split(" of ") for text in (counted, said)]
    if any(len(part) != 2 for part in parts):
        return False
    shares = [int(arrived) / int(tracked) for arrived, tracked in parts]
    return shares[0] == shares[1] and shares[0] in (0.0, 1.0)


if __name__ == "__main__":
    sys.exit(main())
