"""Whether a relay does its work, in plain words: nothing of it tells who the broker is."""

from __future__ import annotations

from typing import Iterator

from whisperr._clock import monotonic
from whisperr._relay.relay import Relay

LATELY = 10.0  # seconds; a relay asks its broker every second, and waits 5 s for an answer


def problems(relay: Relay) -> list[str]:
    """None: it lives."""
    return [*_of_broker(relay), *_of_lanes(relay)]


def _of_broker(relay: Relay) -> Iterator[str]:
    seen = relay.broker_seen_at
    if seen is None:
        yield "the broker has not answered yet"
    elif monotonic() - seen > LATELY:
        yield f"the broker has not answered for {monotonic() - seen:.0f} s"


def _of_lanes(relay: Relay) -> Iterator[str]:
    for app in relay.ended_lanes():
        named = f"of the app {app}" if app else "that name no app"
        yield f"messages {named} are delivered no longer"
