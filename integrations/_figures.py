"""What both kinds of metrics show of ``stats()``: one table of names and words."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["COUNTERS", "GAUGES", "Figure"]


class Figure(NamedTuple):
    """One figure of ``lifecycle.stats_all()``."""

    stat: str
    name: str
    text: str


#: What only grows, in one process. ``dropped`` is by reason.
COUNTERS = (
    Figure("accepted", "accepted", "Calls that were queued, or turned away at once"),
    Figure("adopted", "adopted", "Records taken over from a dead process"),
    Figure("delivered", "delivered", "Records that the service has taken"),
    Figure("dropped", "dropped", "Records that are lost, by reason"),
    Figure("ignored", "ignored", "Calls without a user or an event type"),
    Figure("requests", "requests", "Requests, repeated ones too"),
    Figure("retries", "retries", "Requests that repeat one"),
    Figure("bytes", "sent_bytes", "Bytes of the bodies of requests, repeated ones too"),
)
GAUGES = (
    Figure("pending", "pending", "Records in memory that wait, or are under way"),
    Figure("spilled", "spilled", "Records in the journal, and not in memory"),
)
