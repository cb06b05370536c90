"""``WhisperrError``: how the application hears of a loss or of a stop."""

from __future__ import annotations

from dataclasses import dataclass, field

AUTH = "auth"
DROPPED = "dropped"
JOURNAL = "journal"
RETRY_EXHAUSTED = "retry_exhausted"


@dataclass
class WhisperrError:
    """Handed to ``on_error``. It is a value, not an exception, and is never raised.

    Attributes:
        type: ``"auth"`` (the key was rejected; everything is kept), ``"dropped"``
            (``count`` records are lost for good), ``"retry_exhausted"`` (one pass
            gave up; everything is kept for the next) or ``"journal"`` (it can't be written, or
            is damaged; what is tracked meanwhile is in memory alone). More types may follow.
        message: One English sentence without keys or personal data.
        status: The HTTP status, where one was received.
        count: How many events and identities are concerned.
        detail: What exactly was wrong: the server's own words (at most 2 KiB), or the
            refused value. It may hold personal data, so it never reaches a log or a ``repr``.
        event_types: Of those records, the most frequent first; ``"identify"`` for an identity.
            () where nobody knows, as of files of a journal.
        cause: Why the service can't be reached, in a sentence without keys or personal data, if
            that is known: the last attempt says it.
    """

    type: str
    message: str
    status: int | None = None
    count: int = 1
    detail: str | None = field(default=None, repr=False, compare=False)
    event_types: tuple[str, ...] = field(default=(), repr=False, compare=False)
    cause: str | None = field(default=None, repr=False, compare=False)


WhisperrError.__module__ = "whisperr"  # users import it from there; tracebacks should say so
