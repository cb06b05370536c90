"""One face for all SDKs: a client, what tracks one event, and what waits until all are delivered.

``whisperr`` is either of the two releases: both are called the same way, with nothing between.
The wrappers around the others cost some 0.1 µs a call.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from typing import Any, Callable, Sequence

EVENT = "payment_failed"  # what the sink counts


@dataclass(frozen=True)
class Client:
    track: Callable[[str, str, dict[str, Any]], object]
    flush: Callable[[], object]  # a barrier: everything delivered, or given up


def open_client(module: str, url: str, max_queue_size: int = 10_000) -> Client:
    """A client of one SDK that delivers to ``url``, its other options as they come."""
    return _OPENERS[module](url, max_queue_size)


def payload(n: int) -> tuple[str, str, dict[str, Any]]:
    """The arguments of one call, new objects each time; 300 bytes on the wire of whisperr."""
    properties = {
        "n": n,
        "plan_id": f"pro_{n % 12}",
        "price": 49.9 + n % 7,
        "currency": "EUR",
        "is_resubscribe": n % 2 == 0,
    }
    return f"user_{n:06}", EVENT, properties


def _whisperr(url: str, max_queue_size: int) -> Client:
    from whisperr import Whisperr

    client = Whisperr("wrk_benchmark", base_url=url, max_queue_size=max_queue_size)
    return Client(client.track, client.flush)


def _posthog(url: str, max_queue_size: int) -> Client:
    from posthog import Posthog

    client = Posthog("phc_benchmark", host=url, max_queue_size=max_queue_size)

    def track(user: str, event: str, properties: dict[str, Any]) -> object:
        return client.capture(event=event, distinct_id=user, properties=properties)

    return Client(track, client.flush)


def _segment(url: str, max_queue_size: int) -> Client:
    from segment.analytics.client import Client as Segment

    client = Segment("benchmark", host=url, max_queue_size=max_queue_size)
    return Client(client.track, client.flush)


def _rudder(url: str, max_queue_size: int) -> Client:
    from rudderstack.analytics.client import Client as Rudder

    client = Rudder("benchmark", host=url, max_queue_size=max_queue_size)
    return Client(client.track, client.flush)


def _sentry(url: str, max_queue_size: int) -> Client:
    import sentry_sdk

    dsn = url.replace("://", "://benchmark@") + "/1"
    sentry_sdk.init(dsn, transport_queue_size=max_queue_size, default_integrations=False)

    def track(user: str, event: str, properties: dict[str, Any]) -> object:
        return sentry_sdk.capture_event(
            {"message": event, "level": "info", "user": {"id": user}, "extra": properties}
        )

    return Client(track, lambda: sentry_sdk.flush(300))


_OPENERS: dict[str, Callable[[str, int], Client]] = {
    "whisperr": _whisperr,
    "posthog": _posthog,
    "segment.analytics": _segment,
    "rudderstack.analytics": _rudder,
    "sentry_sdk": _sentry,
}


# --- what every worker needs


def arguments(**defaults: Any) -> argparse.Namespace:
    """The module to measure, and one option for each default, of its type."""
    parser = argparse.ArgumentParser()
    parser.add_argument("module")
    for name, default in defaults.items():
        parser.add_argument(f"--{name}", default=default, type=type(default))
    return parser.parse_args()


def report(**figures: float) -> None:
    """The last line of a worker's output."""
    print(json.dumps(figures), flush=True)


def percentile(values: Sequence[float], percent: float) -> float:
    """The nearest rank; ``values`` need no order."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]
