"""One send: attempts, with waits between them that can be ended -> a Reply. Never raises.

Belongs to one engine and so to one process; send() is called by one thread at a time. An
inherited one is never used, closed or dropped in a child: the engine keeps it referenced.

An attempt that the network or a server in trouble has spoilt is repeated, up to ``max_retries``
times. One whose cause is in this process (what a test put in the place of requests, a defect) is
not, but kept for the next pass, and its session, which may hold stand-ins, is thrown away.
"""

from __future__ import annotations

import contextlib
import logging
import warnings
from typing import TYPE_CHECKING, Callable

from whisperr._clock import monotonic
from whisperr._delivery.answers import explain_no_answer
from whisperr._delivery.outcome import NoAnswer, Outcome, Reply, outcome_of
from whisperr._process import exits
from whisperr._reporting.reports import say, says_all
from whisperr._settings import Settings

if TYPE_CHECKING:
    from whisperr._delivery.session import Session

_DETAIL = 2 * 1024  # characters of an error's text

Pause = Callable[[float], bool]  # wait these seconds; False: don't go on


def _load_session() -> None:
    """Before any thread is started. Where something stands in for requests, that may fail: later, then."""
    if not exits.HAS_DAEMON_THREADS:
        # Beside the first interpreter it can't be loaded; we decode no text of an unknown encoding.
        warnings.filterwarnings("ignore", "Unable to find acceptable character detection")
    with contextlib.suppress(Exception):
        import whisperr._delivery.session  # noqa: F401


_load_session()


class Transport:
    """The way to one destination. ``pause`` waits between attempts, ``deadline`` bounds them."""

    def __init__(
        self,
        settings: Settings,
        pause: Pause,
        deadline: Callable[[], float | None],
        has_one_attempt: Callable[[], bool] = lambda: False,
    ) -> None:
        self._settings = settings
        self._pause = pause
        self._deadline = deadline
        self._has_one_attempt = has_one_attempt
        self._session: Session | None = None
        self.requests = 0
        self.retries = 0
        self.bytes_sent = 0  # of bodies, repeated ones too
        #: After the last attempt: the network, or the server, could not take it ...
        self.is_in_trouble = False
        #: ... and its answer asked for so many seconds before the next one.
        self.retry_after: float | None = None

    def send(
        self, path: str, body: bytes, headers: dict[str, str] | None = None, what: str = ""
    ) -> Reply:
        """``what``: the records in it, in words, for a debug line."""
        try:
            return self._send(path, body, headers or {}, what)
        except Exception as error:  # the one border where foreign errors end
            self.close()
            return _failed(error)

    def _send(self, path: str, body: bytes, headers: dict[str, str], what: str) -> Reply:
        retries = self._opened().retries
        reply = Reply(Outcome.RETRY)
        while True:
            seconds = self._time_left()
            if seconds <= 0:
                break
            self.requests += 1
            self.retries += bool(retries.history)
            self.bytes_sent += len(body)
            wait = self.retry_after = None
            self.is_in_trouble = True  # until it is known to be otherwise
            begun = monotonic()
            try:
                answer = self._opened().post(path, body, headers, seconds)
            except NoAnswer as error:
                reply = _failed(error.__cause__ or error)
            else:
                outcome = outcome_of(answer.status, answer.content_type)
                reply = Reply(outcome, answer.status, answer.detail)
                wait = self.retry_after = answer.retry_after
            if says_all():
                said = _in_words(reply, self._settings.base_url, seconds)
                took = 1000 * (monotonic() - begun)
                say(
                    logging.DEBUG,
                    f"POST {path}: {what}, {len(body)} bytes: {said} in {took:.0f} ms",
                )
            if reply.outcome is not Outcome.RETRY:
                self.is_in_trouble = False
                return reply
            left = retries.after_failure(path)
            if left is None or self._has_one_attempt():
                return reply
            retries = left
            if not self._pause(retries.get_backoff_time() if wait is None else wait):
                break
        return reply._replace(interrupted=True)

    def _time_left(self) -> float:
        """For the next attempt."""
        seconds, deadline = self._settings.request_timeout, self._deadline()
        return seconds if deadline is None else min(seconds, deadline - monotonic())

    def _opened(self) -> Session:
        if self._session is None:
            from whisperr._delivery.session import Session

            self._session = Session(self._settings)
        return self._session

    def abort(self) -> None:
        """From any thread: end a wait for an answer. The attempt has failed then."""
        session = self._session
        if session is not None:
            with contextlib.suppress(Exception):
                session.abort()

    def close(self) -> None:
        """Close the connections. Only in the process that made this."""
        session, self._session = self._session, None
        if session is not None:
            with contextlib.suppress(Exception):
                session.close()


def _in_words(reply: Reply, url: str, seconds: float) -> str:
    if reply.status is not None:
        return f"status {reply.status}"
    why = explain_no_answer(reply.error or "", reply.detail, url, seconds).what
    return f"no answer ({why.rstrip('.')})"


def _failed(error: BaseException) -> Reply:
    try:
        detail = str(error)[:_DETAIL]
    except Exception:  # it is anybody's, and so is its text
        detail = None
    return Reply(Outcome.RETRY, detail=detail, error=type(error).__name__)
