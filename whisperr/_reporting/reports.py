"""How the application hears of trouble: one line of the logger, one call of ``on_error``.

Neither keys nor personal data reach the logger: a message is a fixed sentence with
numbers, and what may hold more goes into ``WhisperrError.detail``, for on_error only.
Called without any lock held, from the caller's thread (a refused call, a shutdown) or from
the sender's. The callback may do anything, a fork included.
"""

from __future__ import annotations

import contextlib
import logging
import sys
from typing import Callable

from whisperr._errors import DROPPED, JOURNAL, WhisperrError
from whisperr._process.fork_token import ForkToken
from whisperr._reporting.feedback import our_records
from whisperr._settings import OnError

logger = logging.getLogger("whisperr")

_DEBUG_FORMAT = "[whisperr %(process)d] %(levelname)s %(message)s"


class Superseded(BaseException):
    """The callback forked, and this is the child: the engine that was reporting is not its own.

    Unwinds whatever was being done for the parent. Not an Exception, so that nothing on the
    way takes it for a failure of its own.
    """


class Reporter:
    """Reports of one engine."""

    def __init__(self, on_error: OnError | None, token: ForkToken) -> None:
        self._on_error = on_error
        self._token = token
        self._stopped: str | None = None  # the type of trouble last warned of

    def lost(
        self, count: int, message: str, status: int | None = None, detail: str | None = None
    ) -> None:
        """Records are gone for good. Always a WARNING."""
        self._tell(logging.WARNING, WhisperrError(DROPPED, message, status, count, detail))

    def kept(self, error: WhisperrError) -> None:
        """A pass gave up, nothing is lost. A WARNING the first time, until a delivery succeeds."""
        level = logging.DEBUG if self._stopped == error.type else logging.WARNING
        self._stopped = error.type
        self._tell(level, error)

    def troubled(self, message: str, detail: str | None) -> None:
        """The journal does not do what it is there for. A WARNING; nothing is lost yet."""
        self._tell(logging.WARNING, WhisperrError(JOURNAL, message, None, 0, detail))

    def delivered(self) -> None:
        self._stopped = None

    def _tell(self, level: int, error: WhisperrError) -> None:
        try:
            if not is_finalizing():
                say(level, "%s: %s", error.type, error.message)
            if self._on_error is not None:
                on_error = self._on_error
                _isolated(lambda: on_error(error))
        finally:
            if not self._token[0]:
                raise Superseded


def say(level: int, message: str, *values: object) -> None:
    """One line of our logger, which raises nothing, and of which no handler makes an event."""
    with our_records():
        _isolated(lambda: logger.log(level, message, *values))


def is_finalizing() -> bool:
    """All exit handlers have run: the interpreter takes itself apart, and says nothing any more."""
    return sys is None or sys.is_finalizing()


def _isolated(report: Callable[[], object]) -> None:
    """Of the callback, or of a filter or handler of the application: what it raises ends here."""
    try:
        report()
    except Exception as raised:
        if is_finalizing():
            return
        with contextlib.suppress(Exception):  # a daemon may have closed its stderr
            sys.stderr.write(f"whisperr: a report raised {type(raised).__name__}, ignored\n")


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
        handler.setFormatter(logging.Formatter(_DEBUG_FORMAT))
        logger.addHandler(handler)
