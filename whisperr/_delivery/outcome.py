"""HTTP status -> what it means for a batch, and the answer that says so. No I/O."""

from __future__ import annotations

import enum
from typing import NamedTuple


class Outcome(enum.Enum):
    """What the sender does with a batch after one answer."""

    OK = "ok"  # delivered: forget it
    RETRY = "retry"  # try again later: back-off, then keep
    AUTH = "auth"  # the key was rejected: keep everything, stop this pass
    REDIRECT = "redirect"  # never followed (the key would travel): keep, stop this pass
    REFUSE = "refuse"  # the content was refused: split until the bad record is alone
    DROP = "drop"  # refused for good: forget it


_AUTH = frozenset({401, 403})
_REFUSE = frozenset({400, 413, 422})


def outcome_of(status: int) -> Outcome:
    """Classify an HTTP status. A number outside 100-599 counts as a broken server: RETRY."""
    if 200 <= status < 300:
        return Outcome.OK
    if status in _AUTH:
        return Outcome.AUTH
    if is_transient(status):
        return Outcome.RETRY
    if 100 <= status < 400:
        return Outcome.REDIRECT
    if status in _REFUSE:
        return Outcome.REFUSE
    return Outcome.DROP


def is_transient(status: int) -> bool:
    """True for an answer that may change by itself: 429, 5xx, and what is no HTTP status at all."""
    return status == 429 or not 100 <= status < 500


class Reply(NamedTuple):
    """What became of one send(), after its retries."""

    outcome: Outcome
    status: int | None = None
    detail: str | None = None  # may hold anything: never for a log
    error: str | None = None  # the type of a network error
    interrupted: bool = False  # the retries were cut short, nothing is known
