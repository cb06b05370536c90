"""Metrics for OpenTelemetry, by its official API: observable counters. ::

    from whisperr.integrations.opentelemetry import instrument

    instrument()

``whisperr.accepted``, ``whisperr.delivered``, ``whisperr.dropped`` with the attribute ``reason`` and so on, of
all clients of the process, read when the application's own reader collects.

Guarantees:
    Each process counts its own: the sum over all of them is what all of them have counted.
Assumes:
    Each process has a reader of its own, and a resource that tells it from others, as for any metric
    of OpenTelemetry's. Clients live as long as their process.
Lock-free:
    it keeps nothing.
Fork:
    the figures of a child begin at zero.
"""

from __future__ import annotations

from typing import Any, Callable, Iterable

from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation, get_meter

from whisperr import __version__, lifecycle
from whisperr.integrations._figures import COUNTERS, GAUGES

__all__ = ["instrument"]

PREFIX = "whisperr."


def instrument(meter_provider: MeterProvider | None = None) -> None:
    """Show the figures of all clients of this process. Once for each provider.

    Args:
        meter_provider: Where to; None means the global one.
    """
    meter = get_meter("whisperr", __version__, meter_provider)
    for stat, name, text in COUNTERS:
        unit = "By" if stat == "bytes" else "1"
        meter.create_observable_counter(PREFIX + name, [_observer(stat)], unit, text)
    for stat, name, text in GAUGES:
        meter.create_observable_up_down_counter(PREFIX + name, [_observer(stat)], "1", text)


def _observer(stat: str) -> Callable[[CallbackOptions], Iterable[Observation]]:
    def observe(options: CallbackOptions) -> Iterable[Observation]:
        found: Any = lifecycle.stats_all()[stat]
        if not isinstance(found, dict):
            return [Observation(found)]
        return [Observation(count, {"reason": reason}) for reason, count in found.items()]

    return observe
