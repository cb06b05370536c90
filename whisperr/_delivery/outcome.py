"""What comes back, and what it means for a batch. No I/O."""

from __future__ import annotations

import enum
from typing import NamedTuple


class Outcome(enum.Enum):
    """What the sender does with a batch after one answer."""

    OK = "ok"  # delivered: forget it
    RETRY = "retry"  # try again later: back-off, then keep
    AUTH = "auth"  # the key was rejected: keep everything, stop this pass
    REDIRECT = "redirect"  # never followed (the key would travel): keep, stop this pass
    ELSEWHERE = "elsewhere"  # somebody on the way answered, not the service: keep, stop this pass
    REFUSE = "refuse"  # the content was refused: split until the bad record is alone
    DROP = "drop"  # refused for good: forget it


_AUTH = frozenset({401, 403})
_TRANSIENT = frozenset({408, 425, 429})
# The service has our paths and methods: who says that it hasn't, or asks for what is a proxy's
# business, is another server, a gateway or a filter.
_ELSEWHERE = frozenset({404, 405, 407, 421, 423, 451})
_REFUSE = frozenset({400, 413, 414, 422, 431})


def outcome_of(status: int, content_type: str = "") -> Outcome:
    """Classify an answer. A number outside 100-599 counts as a broken server: RETRY."""
    if 200 <= status < 300:
        return Outcome.ELSEWHERE if _is_page(content_type) else Outcome.OK
    if status in _AUTH:
        return Outcome.AUTH
    if is_transient(status):
        return Outcome.RETRY
    if 100 <= status < 400:
        return Outcome.REDIRECT
    if status in _ELSEWHERE:
        return Outcome.ELSEWHERE
    if status in _REFUSE:
        return Outcome.REFUSE
    return Outcome.DROP


def is_transient(status: int) -> bool:
    """True for what may change by itself: 408, 425, 429, 5xx, and what is no HTTP status at all."""
    return status in _TRANSIENT or not 100 <= status < 500


def _is_page(content_type: str) -> bool:
    """A page for a human, as the log-in of a network has it: the service never sends one."""
    return content_type.partition(";")[0].strip().lower() == "text/html"


class Answer(NamedTuple):
    """What came back from one attempt."""

    status: int
    content_type: str
    detail: str  # the begin of the body
    retry_after: float | None  # seconds, if it says how long to wait


class NoAnswer(Exception):
    """An attempt to which the network brought none, or not in time. Its cause says why."""


_DETAIL = 2 * 1024  # characters of an error's text


class Reply(NamedTuple):
    """What became of one send(), after its retries."""

    outcome: Outcome
    status: int | None = None
    detail: str | None = None  # may hold anything: never for a log
    error: str | None = None  # the type of a network error
    interrupted: bool = False  # the retries were cut short, nothing is known


class Attempt(NamedTuple):
    """What came of one attempt."""

    reply: Reply
    retry_after: float | None = None  # seconds, if the answer says how long to wait
    on_hold: bool = False  # it was taken, or will be: another attempt with the same makes no copy


def failed(error: BaseException) -> Reply:
    """No answer, and why."""
    try:
        detail = str(error)[:_DETAIL]
    except Exception:  # it is anybody's, and so is its text
        detail = None
    return Reply(Outcome.RETRY, detail=detail, error=type(error).__name__)
