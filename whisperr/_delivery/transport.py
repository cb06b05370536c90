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
from typing import TYPE_CHECKING, Callable, Protocol

from whisperr._clock import monotonic
from whisperr._delivery.answers import explain_no_answer
from whisperr._delivery.outcome import Attempt, Outcome, Reply, failed
from whisperr._process import exits
from whisperr._reporting.reports import say, says_all
from whisperr._settings import Settings

if TYPE_CHECKING:
    from whisperr._delivery.retry import RetryPolicy

Pause = Callable[[float], bool]  # wait these seconds; False: don't go on


def _load_session() -> None:
    """Before any thread is started. Where something stands in for requests, that may fail: later, then."""
    if not exits.HAS_DAEMON_THREADS:
        # Beside the first interpreter it can't be loaded; we decode no text of an unknown encoding.
        warnings.filterwarnings("ignore", "Unable to find acceptable character detection")
    with contextlib.suppress(Exception):
        import whisperr._delivery.session  # noqa: F401


_load_session()


class Way(Protocol):
    """What makes one attempt: by HTTP, or through a broker."""

    verb: str  # in a debug line
    retries: RetryPolicy  # before the first attempt of a send

    def attempt(
        self, path: str, body: bytes, headers: dict[str, str], seconds: float, count: int
    ) -> Attempt:
        """In at most these seconds. ``count``: of the records in it."""
        ...

    def abort(self) -> None:
        """From any thread: end a wait for an answer."""

    def close(self) -> None:
        """Only in the process that made this."""


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
        self._way: Way | None = None
        self.requests = 0
        self.retries = 0
        self.bytes_sent = 0  # of bodies, repeated ones too
        #: After the last attempt: the network, or the server, could not take it ...
        self.is_in_trouble = False
        #: ... and its answer asked for so many seconds before the next one.
        self.retry_after: float | None = None

    def send(
        self,
        path: str,
        body: bytes,
        headers: dict[str, str] | None = None,
        what: str = "",
        count: int = 1,
    ) -> Reply:
        """``what``: the records in it, in words, for a debug line; ``count``: how many they are."""
        try:
            return self._send(path, body, headers or {}, what, count)
        except Exception as error:  # the one border where foreign errors end
            self.close()
            return failed(error)

    def _send(
        self, path: str, body: bytes, headers: dict[str, str], what: str, count: int
    ) -> Reply:
        retries = self._opened().retries
        reply = Reply(Outcome.RETRY)
        while True:
            seconds = self._time_left()
            if seconds <= 0:
                break
            self.requests += 1
            self.retries += bool(retries.history)
            self.bytes_sent += len(body)
            self.retry_after = None
            self.is_in_trouble = True  # until it is known to be otherwise
            begun = monotonic()
            way = self._opened()
            reply, wait, on_hold = way.attempt(path, body, headers, seconds, count)
            while on_hold and self._time_left() > 0 and not self._has_one_attempt():
                reply, wait, on_hold = way.attempt(path, body, headers, self._time_left(), count)
            self.retry_after = wait
            if says_all():
                said = _in_words(reply, self._settings.place, seconds)
                took = 1000 * (monotonic() - begun)
                say(
                    logging.DEBUG,
                    f"{way.verb} {path}: {what}, {len(body)} bytes: {said} in {took:.0f} ms",
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

    def _opened(self) -> Way:
        if self._way is None:
            if self._settings.broker_url is not None:
                from whisperr._delivery.publisher import Publisher

                self._way = Publisher(self._settings)
            else:
                from whisperr._delivery.session import Session

                self._way = Session(self._settings)
        return self._way

    def abort(self) -> None:
        """From any thread: end a wait for an answer. The attempt has failed then."""
        way = self._way
        if way is not None:
            with contextlib.suppress(Exception):
                way.abort()

    def close(self) -> None:
        """Close the connections. Only in the process that made this."""
        way, self._way = self._way, None
        if way is not None:
            with contextlib.suppress(Exception):
                way.close()


def _in_words(reply: Reply, url: str, seconds: float) -> str:
    if reply.status is not None:
        return f"status {reply.status}"
    if reply.outcome is Outcome.OK:
        return "confirmed"
    why = explain_no_answer(reply.error or "", reply.detail, url, seconds).what
    return f"no answer ({why.rstrip('.')})"
