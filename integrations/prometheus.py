"""Metrics for Prometheus, by its official client. ::

    from whisperr.integrations.prometheus import instrument

    instrument()

``whisperr_accepted_total``, ``whisperr_delivered_total``, ``whisperr_dropped_total{reason="…"}`` and so on,
of all clients of the process. In the multiprocess mode of ``prometheus_client`` (the variable
``PROMETHEUS_MULTIPROC_DIR``), as under gunicorn, the sums over all workers, dead ones too, are what
these have counted.

Guarantees:
    Exact when nothing is under way: outside of the multiprocess mode the figures are read at the
    scrape, in it they are written after each delivery pass and at the end of an exit.
Assumes:
    Clients live as long as their process. The figures of one that is discarded go with it.
Guarded by a lock of its process, for some seconds at most:
    the figures that were written last.
Fork: a child writes a file of its own, under a lock of its own. ``prometheus_client`` has one lock
    for all values of a process, which a fork may copy while it is held: ours are not among these.
"""

from __future__ import annotations

import os
import threading
from typing import Any, Iterator

from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.values import MultiProcessValue

from whisperr import lifecycle
from whisperr.integrations._figures import COUNTERS, GAUGES

__all__ = ["instrument"]

PREFIX = "whisperr_"
LONGEST_WAIT = (
    5.0  # seconds for another thread that is writing; longer only for a handler inside it
)


def instrument(registry: CollectorRegistry = REGISTRY) -> None:
    """Show the figures of all clients of this process, and of those it forks. Once is enough.

    Call it where the application is set up, before or after a fork.

    Args:
        registry: Where to, outside of the multiprocess mode.
    """
    if os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        lifecycle.after_pass(_write)
    else:
        registry.register(_Collector())


class _Collector:
    """Reads the figures when they are asked for."""

    def collect(self) -> Iterator[Any]:
        stats = lifecycle.stats_all()
        for stat, name, text in COUNTERS:
            if stat == "dropped":
                by_reason = CounterMetricFamily(PREFIX + name, text, labels=["reason"])
                for reason, count in stats["dropped"].items():
                    by_reason.add_metric([reason], count)
                yield by_reason
            else:
                yield CounterMetricFamily(PREFIX + name, text, value=stats[stat])
        for stat, name, text in GAUGES:
            yield GaugeMetricFamily(PREFIX + name, text, value=stats[stat])


# --- several processes: a file of each


class _Files:
    """The values of this process, and what was written of them."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.lock = threading.Lock()
        self._make: Any = MultiProcessValue(_identifier)  # type: ignore[no-untyped-call]
        self._values: dict[tuple[str, str], Any] = {}
        self._written: dict[tuple[str, str], int] = {}

    def write(self) -> None:
        """Add what has come since the last time: a file may be that of an earlier process."""
        stats = lifecycle.stats_all()
        for stat, name, text in COUNTERS:
            if stat == "dropped":
                for reason, count in stats["dropped"].items():
                    self._count(name, text, reason, count)
            else:
                self._count(name, text, "", stats[stat])
        for stat, name, text in GAUGES:
            self._value("gauge", name, name, text, "").set(stats[stat])

    def _count(self, name: str, text: str, reason: str, count: int) -> None:
        value = self._value("counter", name, f"{name}_total", text, reason)
        new = count - self._written.get((name, reason), 0)
        self._written[name, reason] = count
        if new > 0:
            value.inc(new)

    def _value(self, kind: str, metric: str, name: str, text: str, reason: str) -> Any:
        value = self._values.get((metric, reason))
        if value is None:
            labels = (["reason"], [reason]) if reason else ([], [])
            value = self._values[metric, reason] = self._make(
                kind, PREFIX + metric, PREFIX + name, *labels, text, multiprocess_mode="sum"
            )
        return value


_files: dict[int, _Files] = {}  # by process id


def _write() -> None:
    files = _files.get(os.getpid())
    if files is None:
        files = _files.setdefault(os.getpid(), _Files())
    if files.lock.acquire(timeout=LONGEST_WAIT):
        try:
            files.write()
        finally:
            files.lock.release()


def _identifier() -> str:
    """Of files beside those of the application's own metrics in this process."""
    return f"{os.getpid()}-whisperr"
