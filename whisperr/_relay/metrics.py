"""What a relay has done and what waits for it, as metrics of Prometheus, by its official client.

Guarantees:
    Read at the scrape, within the seconds of one look at the broker. Where that fails, the figures
    of the relay itself come all the same, and those of the broker are left out.
Lock-free: each figure is one attribute that one thread writes.
"""

from __future__ import annotations

from typing import Callable, Iterator, NamedTuple

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from whisperr._clock import monotonic
from whisperr._relay.interfaces import Waiting
from whisperr._relay.lane import Lane
from whisperr._relay.relay import Relay

PREFIX = "whisperr_relay_"


class _Count(NamedTuple):
    """What only grows, for one app."""

    name: str
    text: str
    of: Callable[[Lane], int]


_COUNTS = (
    _Count(
        "delivered", "Events and identities that the API has taken", lambda lane: lane.delivered
    ),
    _Count("requests", "Requests to the API, repeated ones too", lambda lane: lane.requests),
    _Count("retries", "Requests that repeat one", lambda lane: lane.retries),
    _Count("dead_letters", "Dead letters that this relay has written", lambda lane: lane.dead),
)


class RelayCollector:
    """For a registry of prometheus_client. ``look``: at the broker, in bounded time."""

    def __init__(self, relay: Relay, look: Callable[[], Waiting | None]) -> None:
        self._relay = relay
        self._look = look
        self._begun = monotonic()

    def collect(self) -> Iterator[Metric]:
        found = self._look()  # first: what follows is then no older than this
        yield from self._of_relay()
        yield _gauge("broker_up", "Whether this scrape has reached the broker", found is not None)
        if found is not None:
            yield from _of_broker(found)

    def _of_relay(self) -> Iterator[Metric]:
        lanes = self._relay.lanes
        for count in _COUNTS:
            family = CounterMetricFamily(PREFIX + count.name, count.text, labels=["app"])
            for lane in lanes:
                family.add_metric([lane.app], count.of(lane))
            yield family
        text = "Messages that this relay has read and not settled"
        yield _by_app("held_messages", text, {lane.app: lane.held for lane in lanes})
        text = "Since the latest delivery, or since the relay began"
        ages = {lane.app: self._age(lane.delivered_at) for lane in lanes}
        yield _by_app("last_delivery_age_seconds", text, ages)
        text = "Since the broker's latest answer to this relay, or since the relay began"
        yield _gauge("broker_contact_age_seconds", text, self._age(self._relay.broker_seen_at))

    def _age(self, moment: float | None) -> float:
        return monotonic() - (self._begun if moment is None else moment)


def _of_broker(found: Waiting) -> Iterator[Metric]:
    """The same for every relay of this broker."""
    messages = {app: depth.messages for app, depth in found.apps.items()}
    yield _by_app("waiting_messages", "Messages that no relay has settled", messages)
    ages = {
        app: depth.age or 0.0
        for app, depth in found.apps.items()
        if depth.age is not None or not depth.messages  # a RabbitMQ does not say it
    }
    yield _by_app("oldest_message_age_seconds", "Of these, the oldest; 0: there is none", ages)
    text = "Dead letters that lie in the broker, of all apps"
    yield _gauge("stored_dead_letters", text, found.dead_letters)


def _by_app(name: str, text: str, values: dict[str, int] | dict[str, float]) -> Metric:
    family = GaugeMetricFamily(PREFIX + name, text, labels=["app"])
    for app, value in values.items():
        family.add_metric([app], value)
    return family


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(PREFIX + name, text, value=value)
