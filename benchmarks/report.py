"""Medians -> a table in plain text, with what the targets say of each line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Mapping

Medians = Mapping[str, Mapping[str, Mapping[str, float]]]  # measure -> figure -> environment


@dataclass(frozen=True)
class Line:
    """One line of the table: a figure, in its unit, and what it should be at most."""

    measure: str
    figure: str
    label: str
    scale: float = 1.0
    digits: int = 2
    most: float | None = None  # in the unit shown
    most_ratio: float | None = None  # of the published SDK's

    def target(self) -> str:
        if self.most is not None:
            return f"at most {self.most:g}"
        if self.most_ratio is not None:
            return f"ratio at most {self.most_ratio:.2f}"
        return ""

    def verdict(self, value: float, ratio: float | None) -> str:
        if self.most is not None:
            return "met" if value <= self.most else "missed"
        if self.most_ratio is not None and ratio is not None:
            return "met" if ratio <= self.most_ratio else "missed"
        return ""


THIRD = 1 / 3
LINES = (
    Line("burst", "median_ns", "track() in a burst of 5,000: median, µs", 1e-3, most_ratio=THIRD),
    Line("burst", "mean_ns", "  mean, the sender's share in it, µs", 1e-3),
    Line("burst", "p99_ns", "  99th percentile, µs", 1e-3),
    Line("delivery", "cpu_s_per_100k", "CPU of 100,000 delivered events, s", most_ratio=THIRD),
    Line("delivery", "events_per_s", "  delivered in a second, thousands", 1e-3, 1),
    Line("memory", "resident", "memory of a queued event, bytes", digits=0, most=500),
    Line("memory", "traced", "  the same by tracemalloc", digits=0),
    Line("idle", "wake_ups", "wake-ups of an idle client in 10 s", digits=0, most=0),
    Line("imports", "wall_ms", "import, over a bare interpreter, ms", digits=1, most=60),
    Line("imports", "cpu_ms", "  its CPU, ms", digits=1),
    Line("construction", "construction_ms", "the first enabled client, ms", digits=1),
    Line("construction", "first_track_ms", "  its first track(), ms", digits=2),
    Line("tail", "p50_ms", "lateness of a 1 kHz loop: median, ms"),
    Line("tail", "p99_ms", "  99th percentile, ms"),
    Line("tail", "max_ms", "  worst, ms"),
)


def table(medians: Medians, columns: list[str]) -> str:
    """``columns``: ours, the published SDK, then any others."""
    ours, published = columns[:2]
    rows = [["", *columns, "ratio", "target", ""]]
    for line in LINES:
        values = medians.get(line.measure, {}).get(line.figure)
        if not values:
            continue
        ratio = values[ours] / values[published] if values.get(published) else None
        cells = [_number(values.get(name), line) for name in columns]
        verdict = line.verdict(values[ours] * line.scale, ratio)
        shown = "" if ratio is None else f"{ratio:.2f}"
        rows.append([line.label, *cells, shown, line.target(), verdict])
    return _aligned(rows)


def missed(text: str) -> int:
    return sum(line.endswith(" missed") for line in text.splitlines())


def _number(value: float | None, line: Line) -> str:
    return "-" if value is None else f"{value * line.scale:,.{line.digits}f}"


def _aligned(rows: list[list[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows)]
    last = len(widths) - 2  # the target and what it says stand left, as the label does
    lines = []
    for row in rows:
        cells = [
            cell.ljust(width) if index in (0, last, last + 1) else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths))
        ]
        lines.append("  ".join(cells).rstrip())
    lines.insert(1, "-" * max(map(len, lines)))
    return "\n".join(lines)
