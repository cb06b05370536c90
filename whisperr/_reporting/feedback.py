"""Keeps a logging handler that tracks from being fed by what its own events make us log.

A handler on the root logger that tracks each record would get ours, and urllib3's about our
connections: each event makes such records, and each record an event, for ever. So a call of
``track()`` that a handler makes while it has one of these is ignored. Only that call: one from a
``__del__`` or a signal handler in the same thread is the application's.

Guarantees:
    Costs a look at an empty set while nothing of ours is being logged.
Assumes:
    the handler tracks in the thread that logs. One behind a queue has to look at the name itself.
Lock-free: a thread adds and takes away only itself.
Fork: the child's only thread is the one that forked; it is in the set if it was.
"""

from __future__ import annotations

import contextlib
import logging
import sys
from threading import get_ident
from typing import Iterator

OURS = ("whisperr", "urllib3", "requests")  # loggers, with all below them

_HANDLE = logging.Logger.handle.__code__

#: Threads in which records of ours may be on their way to a handler.
logging_threads: set[int] = set()


@contextlib.contextmanager
def our_records() -> Iterator[None]:
    """While this thread may log in our name, or have urllib3 do so."""
    me = get_ident()
    is_inner = me in logging_threads
    logging_threads.add(me)
    try:
        yield
    finally:
        if not is_inner:
            logging_threads.discard(me)


def is_fed_by_us() -> bool:
    """Whether the call that asks was made by a handler that has a record of ours."""
    if get_ident() not in logging_threads:
        return False
    frame = sys._getframe(2)
    while frame is not None:
        if frame.f_code is _HANDLE:
            record = frame.f_locals.get("record")
            name = getattr(record, "name", None)
            return isinstance(name, str) and name.partition(".")[0] in OURS
        frame = frame.f_back  # type: ignore[assignment]
    return False


_of_connections = logging.getLogger("urllib3.connectionpool")


def urllib3_says_all() -> bool:
    """Whether urllib3 logs each request, as it does at DEBUG."""
    return is_enabled(_of_connections, logging.DEBUG)


def is_enabled(logger: logging.Logger, level: int) -> bool:
    """As ``isEnabledFor(level)``, without logging's lock.

    A signal handler that interrupts whoever holds that lock may wait for the sender, whose own
    calls, and urllib3's, take it at their first look at a level.
    """
    return logger.manager.disable < level >= logger.getEffectiveLevel()
