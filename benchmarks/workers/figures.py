"""What every worker needs: its options, order statistics, clocks, and its last line of output."""

from __future__ import annotations

import argparse
import json
import time
from typing import Any, Iterable, Mapping, Sequence


def arguments(**defaults: Any) -> argparse.Namespace:
    """The SDK to measure, and one option for each default, of its type."""
    parser = argparse.ArgumentParser()
    parser.add_argument("sdk")
    for name, default in defaults.items():
        parser.add_argument(f"--{name}", default=default, type=type(default))
    return parser.parse_args()


def report(figures: Mapping[str, float], sent: int = 0) -> None:
    """The last line of a worker's output. ``sent``: what must have arrived at the sink."""
    print(json.dumps({"figures": dict(figures), "sent": sent}), flush=True)


def percentile(ordered: Sequence[float], percent: float) -> float:
    """The nearest rank: the smallest value that ``percent`` of all do not exceed."""
    if not ordered:
        raise ValueError("no values")
    rank = -(-len(ordered) * percent // 100)  # rounded up
    return ordered[min(len(ordered), max(1, int(rank))) - 1]


def distribution(values: Iterable[float], suffix: str = "", scale: float = 1.0) -> dict[str, float]:
    """Median, 99th and 99.9th percentile and the largest, as figures by name.

    Fewer than a thousand values have no 99.9th percentile: it would be the largest.
    """
    ordered = sorted(values)
    ranks = {"median": 50.0, "p99": 99.0, "p99.9": 99.9, "max": 100.0}
    if len(ordered) < 1_000:
        del ranks["p99.9"]
    return {name + suffix: percentile(ordered, rank) * scale for name, rank in ranks.items()}


def numbers(text: str) -> list[int]:
    """``"1,10"`` -> ``[1, 10]``."""
    return [int(part) for part in text.split(",")]


def cpu_seconds() -> float:
    """User and system time of this process so far, all its threads."""
    return time.process_time()
