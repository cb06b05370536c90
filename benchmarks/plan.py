"""What is measured, of whom, and how much of it: data, nothing runs here.

A part is one worker with its options, run for each column in turn, as often as there are
repeats. ``--quick`` takes the smaller options and fewer repeats, and leaves no part out.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Mapping

from environments import EMPTY, JOURNAL, OURS, PEERS, PUBLISHED

Sizes = Mapping[str, Any]

# What one column can't do in reasonable time at the size of the others: Sentry makes a request
# for each event, both whisperrs one for each identity.
FEWER = {"sentry": {"events": 500}}


@dataclass(frozen=True)
class Part:
    """One measurement. ``full`` and ``quick`` are options of the worker, see there."""

    name: str
    title: str
    worker: str
    full: Sizes
    quick: Sizes
    repeats: int = 5
    quick_repeats: int = 1
    together: bool = False  # all columns at once: they do nothing
    needs: str = ""  # a platform, when only that one can tell
    without: frozenset[str] = frozenset()  # columns in which it has no meaning
    quick_without: frozenset[str] = frozenset()  # and those that would take too long
    special: Mapping[str, Sizes] = field(default_factory=dict)  # other options of one column
    quick_special: Mapping[str, Sizes] = field(default_factory=dict)  # and for --quick

    def times(self, quick: bool) -> int:
        return self.quick_repeats if quick else self.repeats

    def options(self, column: str, quick: bool) -> dict[str, Any]:
        found = {**(self.quick if quick else self.full), **self.special.get(column, {})}
        return {**found, **(self.quick_special.get(column, {}) if quick else {})}

    def concerns(self, column: str, quick: bool) -> bool:
        return column not in self.without and not (quick and column in self.quick_without)


ALL_LENGTHS = {"lengths": "1000,10000,100000,1000000"}
NO_IDENTIFY = frozenset({"opentelemetry", "sentry"})
NOTHING = frozenset({EMPTY})
SLOW_CHILDREN = ("opentelemetry", "segment", "posthog", "sentry")  # up to 50 ms each
SAME_AS_OURS = frozenset({JOURNAL})  # the journal changes nothing there
NO_JOURNAL = frozenset({EMPTY, OURS, *PEERS})

PARTS = (
    Part(
        "burst",
        "one call of a burst, one thread",
        "calls",
        {"events": 5_000, "bursts": 5},
        {"events": 5_000, "bursts": 2},
        quick_repeats=2,
        special={"sentry": {"events": 500, "bursts": 2}},
    ),
    Part(
        "burst_8",
        "one call of a burst, eight threads",
        "calls",
        {"events": 20_000, "bursts": 2, "threads": 8},
        {"events": 10_000, "bursts": 1, "threads": 8},
        repeats=3,
        special={"sentry": {"events": 2_000, "bursts": 1, "threads": 8}},
    ),
    Part(
        "paced",
        "one call at 1,000 a second, one thread",
        "paced",
        {"seconds": 5.0},
        {"seconds": 2.0},
    ),
    Part(
        "paced_8",
        "one call at 1,000 a second, shared by eight threads",
        "paced",
        {"seconds": 5.0, "threads": 8},
        {"seconds": 1.0, "threads": 8},
        repeats=3,
    ),
    Part(
        "identify",
        "identify() in a burst of 500",
        "calls",
        {"events": 500, "bursts": 5, "method": "identify"},
        {"events": 500, "bursts": 1, "method": "identify"},
        without=NO_IDENTIFY,
    ),
    Part(
        "keys",
        "one call with 1, 10 and 100 properties",
        "calls",
        {"events": 1_000, "bursts": 5, "keys": "1,10,100"},
        {"events": 500, "bursts": 2, "keys": "1,10,100"},
        repeats=3,
        special={"sentry": {"events": 200, "bursts": 1}},
    ),
    Part(
        "queue",
        "one call with many events queued",
        "queued",
        {"lengths": "1000,10000,100000"},
        {"lengths": "1000,10000"},
        repeats=3,
        special={OURS: ALL_LENGTHS, PUBLISHED: ALL_LENGTHS, "sentry": {"lengths": "1000"}},
        quick_special={
            OURS: ALL_LENGTHS,
            PUBLISHED: {"lengths": "1000,10000,100000"},
            JOURNAL: {"lengths": "1000,10000,100000"},
        },
        without=NOTHING,
    ),
    Part(
        "memory",
        "memory of a queued event, by the resident set",
        "queued",
        {"lengths": "50000", "count": "resident"},
        {"lengths": "10000", "count": "resident"},
        repeats=3,
        special={"sentry": {"lengths": "1000"}},
        needs="linux",
        without=NOTHING,
    ),
    Part(
        "traced",
        "memory of a queued event, by tracemalloc",
        "queued",
        {"lengths": "20000", "count": "traced"},
        {"lengths": "5000", "count": "traced"},
        repeats=1,
        special={"sentry": {"lengths": "1000"}},
        without=NOTHING,
    ),
    Part(
        "delivery",
        "events tracked and delivered",
        "delivery",
        {"events": 100_000},
        {"events": 20_000},
        special=FEWER,
        without=NOTHING,
    ),
    Part(
        "start",
        "import and first client",
        "start",
        {"pairs": 7},
        {"pairs": 3},
        repeats=3,
        without=NOTHING,
    ),
    Part(
        "idle",
        "an idle client",
        "idle",
        {"seconds": 60.0},
        {"seconds": 12.0},
        repeats=1,
        together=True,
        needs="linux",
    ),
    Part(
        "forks",
        "os.fork() with live clients",
        "forks",
        {"forks": 2_000},
        {"forks": 200},
        repeats=3,
        special={name: {"forks": 100} for name in SLOW_CHILDREN},
        quick_special={name: {"forks": 5} for name in SLOW_CHILDREN},
        quick_without=frozenset({"posthog", "sentry"}),
        without=NOTHING | SAME_AS_OURS,
    ),
    Part("exit", "the end of a program with 100 queued events", "exits", {}, {}),
    Part(
        "journal",
        "the journal on disk",
        "journal",
        {"events": 10_000},
        {"events": 10_000},
        quick_repeats=3,
        without=NO_JOURNAL,
    ),
)


def chosen(names: list[str], platform: str) -> list[Part]:
    """The parts of these names that this platform can measure."""
    return [part for part in PARTS if part.name in names and part.needs in ("", platform)]
