"""What this client should reach beside the others, and whether it did.

A ratio is the median of the ratios within each repeat: both were measured within seconds of
each other, so what slowed the machine slowed both.
"""

from __future__ import annotations

import statistics
from dataclasses import asdict, dataclass
from typing import Any, Callable, Mapping

from environments import EMPTY, JOURNAL, OURS, PEERS, PUBLISHED

MET, MISSED, NOT_MEASURED = "met", "missed", "not measured"

# part -> figure -> column -> one value for each repeat
Found = Mapping[str, Mapping[str, Mapping[str, "list[float]"]]]


@dataclass(frozen=True)
class Verdict:
    """One line of the table."""

    what: str
    target: str
    reached: str
    verdict: str

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def judge(found: Found) -> list[Verdict]:
    """Every target, in order."""
    return [target(found) for target in TARGETS]


# --- the kinds of target


def _ratio(
    what: str,
    part: str,
    figure: str,
    limit: float,
    column: str = OURS,
    at_least: bool = False,
    other_column: str = PUBLISHED,
    whose: str = "0.2.1's",
) -> Callable[[Found], Verdict]:
    """So many times the figure of 0.2.1, or of another column."""
    sign = "≥" if at_least else "≤"

    def target(found: Found) -> Verdict:
        mine = _values(found, part, figure, column)
        other = _values(found, part, figure, other_column)
        text = f"{sign} {limit:g} times {whose}"
        if not mine or not other:
            return Verdict(what, text, "", NOT_MEASURED)
        ratio = _median_ratio(mine, other)
        good = ratio >= limit if at_least else ratio <= limit
        reached = f"{ratio:.3g} ({_short(mine)} : {_short(other)})"
        return Verdict(what, text, reached, MET if good else MISSED)

    return target


def _best_peer(
    what: str, part: str, figure: str, limit: float, text: str
) -> Callable[[Found], Verdict]:
    """So many times the figure of the best of the peers."""

    def target(found: Found) -> Verdict:
        mine = _values(found, part, figure, OURS)
        peers = {name: _values(found, part, figure, name) for name in PEERS}
        measured = {name: values for name, values in peers.items() if values}
        if not mine or not measured:
            return Verdict(what, text, "", NOT_MEASURED)
        best = min(measured, key=lambda name: statistics.median(measured[name]))
        ratio = _median_ratio(mine, measured[best])
        reached = f"{ratio:.3g} ({_short(mine)} : {_short(measured[best])}, {best})"
        return Verdict(what, text, reached, MET if ratio <= limit else MISSED)

    return target


def _above(
    what: str,
    part: str,
    figure: str,
    limit: float,
    text: str,
    column: str = OURS,
    other_column: str = EMPTY,
) -> Callable[[Found], Verdict]:
    """So much more than with the empty function, or another column, in the unit of the figure."""

    def target(found: Found) -> Verdict:
        mine = _values(found, part, figure, column)
        other = _values(found, part, figure, other_column)
        if not mine or not other:
            return Verdict(what, text, "", NOT_MEASURED)
        more = statistics.median(a - b for a, b in zip(mine, other))
        reached = f"{more:+.3g} ({_short(mine)} : {_short(other)})"
        return Verdict(what, text, reached, MET if more <= limit else MISSED)

    return target


def _at_most(what: str, part: str, figure: str, limit: float) -> Callable[[Found], Verdict]:
    """A figure of the journal, by itself."""

    def target(found: Found) -> Verdict:
        values = _values(found, part, figure, JOURNAL)
        if not values:
            return Verdict(what, f"≤ {limit:g}", "", NOT_MEASURED)
        reached = statistics.median(values)
        verdict = MET if reached <= limit else MISSED
        return Verdict(what, f"≤ {limit:g}", _short(values), verdict)

    return target


def _forks(what: str, side: str) -> Callable[[Found], Verdict]:
    """A hundred clients differ from none by no more than none from none."""

    def target(found: Found) -> Verdict:
        text = "within none against none"
        none, again, many = (
            _values(found, "forks", f"{side}@{name}", OURS) for name in ("none", "none_b", "100")
        )
        if not none or not again or not many:
            return Verdict(what, text, "", NOT_MEASURED)
        spread = max(abs(a - b) for a, b in zip(none, again))
        more = statistics.median(a - b for a, b in zip(many, none))
        reached = f"{more:+.0f} µs (none: {_short(none)} µs; none against none: {spread:.0f} µs)"
        return Verdict(what, text, reached, MET if more <= spread else MISSED)

    return target


def _growth(what: str, small: str, large: str, limit: float) -> Callable[[Found], Verdict]:
    def target(found: Found) -> Verdict:
        less, more = _values(found, "queue", small, OURS), _values(found, "queue", large, OURS)
        text = f"≤ {limit:g} times"
        if not less or not more:
            return Verdict(what, text, "", NOT_MEASURED)
        ratio = _median_ratio(more, less)
        reached = f"{ratio:.3g} ({_short(more)} : {_short(less)} µs)"
        return Verdict(what, text, reached, MET if ratio <= limit else MISSED)

    return target


def _values(found: Found, part: str, figure: str, column: str) -> list[float]:
    return found.get(part, {}).get(figure, {}).get(column, [])


def _median_ratio(mine: list[float], other: list[float]) -> float:
    ratios = [a / b for a, b in zip(mine, other) if b]
    return statistics.median(ratios) if ratios else float("inf")


def _short(values: list[float]) -> str:
    middle = statistics.median(values)
    return f"{middle:.3g}" if middle < 1e3 else f"{middle:,.0f}"


TARGETS: tuple[Callable[[Found], Verdict], ...] = (
    _ratio("track() median, burst, 1 thread, µs", "burst", "median", 0.15),
    _ratio("the same, paced 1,000/s", "paced", "median", 0.3),
    _best_peer(
        "p99.9, burst, 8 threads, µs", "burst_8", "p99.9", 0.25, "≤ 0.25 times the best peer's"
    ),
    _best_peer("max of a paced call, µs", "paced", "max", 1.0, "no worse than the best peer's"),
    _above(
        "lateness of the application's own work, p99, ms",
        "paced",
        "p99_late",
        0.2,
        "within 0.2 of the empty function's",
    ),
    _ratio("with the journal, burst, median, µs", "burst", "median", 0.35, JOURNAL),
    _ratio(
        "with the journal, p99.9, burst, 8 threads, µs",
        "burst_8",
        "p99.9",
        2,
        JOURNAL,
        other_column=OURS,
        whose="that without",
    ),
    _above(
        "with the journal, first track() in an empty folder, ms",
        "start",
        "first_track_ms",
        1.0,
        "within 1 of that without",
        JOURNAL,
        OURS,
    ),
    _at_most("10,000 dead records: the first request is under way, ms", "journal", "dead_ms", 100),
    _at_most("bytes on disk for each byte sent", "journal", "disk_ratio", 1.2),
    _ratio("CPU of 100,000 delivered, s", "delivery", "cpu_s_per_100k", 0.15),
    _ratio("events a second, end to end", "delivery", "events_per_s", 5, at_least=True),
    _ratio("memory of a queued event, bytes", "memory", "bytes", 0.4),
    _above("idle wake-ups a minute", "idle", "wake_ups", 0, "those of a bare interpreter"),
    _forks("os.fork() with 100 clients, in the parent", "parent"),
    _forks("the same, until the child runs", "child"),
    _growth("a call at 1,000,000 queued against 1,000", "median@1000", "median@1000000", 1.1),
)
