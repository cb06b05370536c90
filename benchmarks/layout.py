"""Which figures of each part are shown, under which words: for the tables and for the plots.

Nothing of the standard library beyond dataclasses: the program that draws imports this from
an environment of its own.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Panel:
    """One table, and one drawing."""

    title: str
    unit: str
    figures: tuple[tuple[str, str], ...]  # (name of the figure, words)
    # "ladder": marks on a line, on a logarithmic axis; "lines": over a size
    kind: str = "bars"
    axis: str = ""  # of lines: what the size is


def _ranks(suffix: str = "") -> tuple[tuple[str, str], ...]:
    words = {"median": "median", "p99": "p99", "p99.9": "p99.9", "max": "max"}
    return tuple((name + suffix, text) for name, text in words.items())


def _sized(figure: str, sizes: tuple[int, ...]) -> tuple[tuple[str, str], ...]:
    return tuple((f"{figure}@{size}", f"{size:,}") for size in sizes)


def _ladder(title: str, unit: str, suffix: str = "") -> Panel:
    return Panel(title, unit, _ranks(suffix), "ladder")


FORKS = (
    ("none", "none"),
    ("none_b", "none, again"),
    ("1", "1 client"),
    ("100", "100 clients"),
    ("100_used", "100 clients that have delivered"),
)


def _forked(side: str) -> tuple[tuple[str, str], ...]:
    return tuple((f"{side}@{name}", text) for name, text in FORKS)


PANELS: dict[str, tuple[Panel, ...]] = {
    "burst": (_ladder("track() in bursts, one thread", "µs"),),
    "burst_8": (_ladder("track() in bursts, eight threads", "µs"),),
    "paced": (
        _ladder("track(), 1,000 a second, one thread", "µs"),
        _ladder("how late the application comes to each call", "ms", "_late"),
    ),
    "paced_8": (
        _ladder("track(), 1,000 a second, eight threads", "µs"),
        _ladder("how late the application comes to each call, eight threads", "ms", "_late"),
    ),
    "identify": (_ladder("identify() in bursts", "µs"),),
    "keys": (
        Panel(
            "track() by the number of properties, median",
            "µs",
            _sized("median", (1, 10, 100)),
            "lines",
            "properties",
        ),
    ),
    "queue": (
        Panel(
            "track() by the length of the queue, median",
            "µs",
            _sized("median", (1_000, 10_000, 100_000, 1_000_000)),
            "lines",
            "events queued",
        ),
    ),
    "memory": (Panel("a queued event, resident set", "bytes", (("bytes", "bytes"),)),),
    "traced": (Panel("a queued event, tracemalloc", "bytes", (("bytes", "bytes"),)),),
    "delivery": (
        Panel("CPU of 100,000 delivered events", "s", (("cpu_s_per_100k", "CPU"),), "ladder"),
        Panel("delivered, end to end", "events/s", (("events_per_s", "events a second"),)),
    ),
    "start": (
        Panel(
            "import and first client",
            "ms",
            (
                ("import_ms", "import"),
                ("import_cpu_ms", "import, CPU"),
                ("client_ms", "first client"),
                ("first_track_ms", "first track()"),
            ),
        ),
    ),
    "idle": (
        Panel("wake-ups of an idle client", "a minute", (("wake_ups", "wake-ups"),)),
        Panel("CPU of an idle client", "ms a minute", (("cpu_ms", "CPU"),)),
    ),
    "forks": (
        Panel("os.fork(), until it returns in the parent", "µs", _forked("parent"), "ladder"),
        Panel("os.fork(), until the child runs", "µs", _forked("child"), "ladder"),
    ),
    "exit": (Panel("end of a program with 100 queued events", "ms", (("exit_ms", "exit"),)),),
    "journal": (
        Panel("bytes on disk for each byte sent", "bytes", (("disk_ratio", "bytes"),)),
        Panel(
            "with 10,000 records of a dead process, until the first request is under way",
            "ms",
            (("dead_ms", "start"),),
        ),
    ),
}
