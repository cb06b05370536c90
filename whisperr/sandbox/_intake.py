"""From the bytes of one request to a parcel of valid entries, or to a refusal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Sequence

from whisperr.sandbox import _json, rules

BATCH = "/v1/events/batch"
TRACK = "/v1/events/track"
IDENTIFY = "/v1/identify"
PATHS = (BATCH, TRACK, IDENTIFY)


@dataclass(frozen=True)
class Parcel:
    """What one request brought: events, or one identity, all of it within the rules."""

    path: str
    entries: Sequence[dict[str, Any]]
    idempotency_key: str | None

    @property
    def holds_identity(self) -> bool:
        return self.path == IDENTIFY


class Refusal(Exception):
    """The request breaks the rules: the problems, and how many events it held (1 if unreadable)."""

    def __init__(self, error: str, problems: Sequence[str], count: int = 1) -> None:
        super().__init__(error)
        self.error = error
        self.problems = problems
        self.count = count


def open_parcel(
    path: str, headers: Mapping[str, Sequence[str]], body: bytes, now: datetime
) -> Parcel:
    """The parcel in a request; raises Refusal. ``headers``: lower-case name to all values."""
    try:
        value = _json.loads(body)
    except ValueError as exc:
        raise Refusal("not JSON", [f"body: {exc}"]) from None
    problems = rules.check_headers(headers) + _check(path, value, now)
    if problems:
        raise Refusal("the request breaks the rules", problems, _count(path, value))
    keys = headers.get("idempotency-key")
    return Parcel(path, value["events"] if path == BATCH else [value], keys[0] if keys else None)


def _check(path: str, value: object, now: datetime) -> list[str]:
    if path == BATCH:
        return rules.check_batch(value, now)
    if path == TRACK:
        return rules.check_event(value, now)
    return rules.check_identity(value, now)


def _count(path: str, value: object) -> int:
    events = value.get("events") if path == BATCH and isinstance(value, dict) else None
    return len(events) if isinstance(events, list) else 1
