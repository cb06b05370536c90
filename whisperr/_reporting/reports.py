"""How the application hears of trouble: one line of the logger, one call of ``on_error``.

Each line begins with the name of the library, and says what, how many, of which event types, why,
and, once, what to do. Neither keys nor personal data reach the logger: a line is made of fixed
sentences, numbers and event types, and what may hold more goes into ``WhisperrError.detail``, for
on_error only. The parts are also fields of the log record, for handlers that write JSON.
Called without any lock held, from the caller's thread (a refused call, a shutdown) or from
the sender's. The callback may do anything, a fork included.
"""

from __future__ import annotations

import contextlib
import logging
import sys
from typing import Any, Callable, Sequence

from whisperr._errors import DROPPED, JOURNAL, WhisperrError
from whisperr._process.fork_token import ForkToken
from whisperr._reporting.feedback import is_enabled, our_records
from whisperr._settings import OnError

logger = logging.getLogger("whisperr")

_NAME = "whisperr: "
_MAX_TYPES = 3  # event types in a line
_LOOK_FURTHER = "`whisperr doctor` looks further."


class Superseded(BaseException):
    """The callback forked, and this is the child: the engine that was reporting is not its own.

    Unwinds whatever was being done for the parent. Not an Exception, so that nothing on the
    way takes it for a failure of its own.
    """


def say(level: int, text: str, **fields: Any) -> None:
    """One line of the logger. It raises nothing, and no handler makes an event of it.

    Args:
        text: A sentence without the name of the library.
        fields: What a handler may want as values: attributes ``whisperr_...`` of the record.
    """
    if not is_enabled(logger, level):
        return
    extra = {f"whisperr_{name}": value for name, value in fields.items()}

    def write() -> None:
        # What logger.log() does, without another look at the level, which may take logging's lock.
        logger.handle(
            logger.makeRecord(
                logger.name, level, __file__, 0, "%s%s", (_NAME, text), None, "say", extra
            )
        )

    with our_records():
        isolated(write)


def says_all() -> bool:
    """Whether a debug line would be written."""
    return is_enabled(logger, logging.DEBUG)


def listed(types: Sequence[str]) -> str:
    """Event types in brackets; "" for none."""
    if not types:
        return ""
    more = len(types) - _MAX_TYPES
    return f" ({', '.join(types[:_MAX_TYPES])}{f' and {more} more' if more > 0 else ''})"


class Reporter:
    """Reports of one engine."""

    def __init__(self, on_error: OnError | None, token: ForkToken) -> None:
        self._on_error = on_error
        self._token = token
        self._stopped: str | None = None  # the type of trouble last warned of
        self._advised: set[str] = set()  # what was said once

    def lost(self, error: WhisperrError, change: str = "") -> None:
        """Records are gone for good. Always a WARNING. ``change``: what to do about it."""
        self._tell(logging.WARNING, error, change)

    def kept(self, error: WhisperrError, change: str) -> None:
        """A pass gave up, nothing is lost. A WARNING the first time, until a delivery succeeds."""
        level = logging.DEBUG if self._stopped == error.type else logging.WARNING
        self._stopped = error.type
        self._tell(level, error, change)

    def troubled(self, message: str, detail: str | None) -> None:
        """The journal does not do what it is there for. A WARNING; nothing is lost yet."""
        error = WhisperrError(JOURNAL, message, None, 0, detail)
        self._tell(logging.WARNING, error, "`whisperr doctor --journal-dir DIR` looks at it.")

    def delivered(self) -> None:
        self._stopped = None

    def _tell(self, level: int, error: WhisperrError, change: str) -> None:
        try:
            if not is_finalizing():
                say(level, self._line(error, change), **_fields(error))
            if self._on_error is not None:
                on_error = self._on_error
                isolated(lambda: on_error(error))
        finally:
            if not self._token[0]:
                raise Superseded

    def _line(self, error: WhisperrError, change: str) -> str:
        parts = [f"{error.type}: {error.message}{listed(error.event_types)}"]
        if error.cause:
            parts[0] += "."
            parts.append(error.cause)
        if change and change not in self._advised:
            self._advised.add(change)
            parts[0] = parts[0].rstrip(".") + "."
            parts.append(change)
            if error.type != JOURNAL:
                parts.append(_LOOK_FURTHER)
        return " ".join(parts)


def _fields(error: WhisperrError) -> dict[str, Any]:
    return {
        "error": error.type,
        "count": error.count,
        "status": error.status,
        "event_types": error.event_types,
    }


def dropped(
    count: int,
    message: str,
    status: int | None = None,
    detail: str | None = None,
    types: Sequence[str] = (),
    cause: str | None = None,
) -> WhisperrError:
    """What ``on_error`` gets for records that are gone for good."""
    return WhisperrError(DROPPED, message, status, count, detail, tuple(types), cause)


def is_finalizing() -> bool:
    """All exit handlers have run: the interpreter takes itself apart, and says nothing any more."""
    return sys is None or sys.is_finalizing()


def isolated(report: Callable[[], object]) -> None:
    """Of the callback, or of a filter or handler of the application: what it raises ends here."""
    try:
        report()
    except Exception as raised:
        if is_finalizing():
            return
        with contextlib.suppress(Exception):  # a daemon may have closed its stderr
            sys.stderr.write(f"whisperr: a report raised {type(raised).__name__}, ignored\n")


# --- debug=True


class _Formatter(logging.Formatter):
    """The name of the library once, with the process; tracebacks of others as they are."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        text = record.getMessage()
        text = text[len(_NAME) :] if text.startswith(_NAME) else text
        return f"whisperr[{record.process}] {record.levelname} {text}"


class _ToStderr(logging.Handler):
    """Writes to what ``sys.stderr`` is at that moment, and nothing once that is closed.

    What it was when the client was made may be a stream of a test, or of a page, that is gone.
    """

    def emit(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(Exception):  # closed, full, or of somebody else's making
            stream = sys.stderr
            if stream is not None and not getattr(stream, "closed", False):
                stream.write(self.format(record) + "\n")
                stream.flush()


def log_to_stderr() -> None:
    """``debug=True``: everything the logger says, to stderr. Twice is once."""
    logger.setLevel(logging.DEBUG)
    if not any(isinstance(handler, _ToStderr) for handler in logger.handlers):
        handler = _ToStderr()
        handler.setFormatter(_Formatter())
        logger.addHandler(handler)
