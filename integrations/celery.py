"""Import this where the Celery application is made: it connects the signals of every pool. ::

    import whisperr.integrations.celery

A pool's child starts its sender before its first task, and delivers when it ends, for whatever
reason Celery ends it. Python's own exit handlers never run there. Embedded beat (``-B``) ends
without any signal: there ``flush_interval`` bounds the loss. Standalone beat needs nothing.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from celery import signals

from whisperr import lifecycle

__all__ = ["connect"]

MAIN_EXIT_TIMEOUT = 2.0  # seconds; the exit handlers come after, and have a deadline of their own

# Each would end a child that is already at its end, and is delivering: to be terminated again
# (by a second revoke, or by a service manager that signals the whole group), or a soft time limit.
_ENDING_SIGNALS = [
    getattr(signal, name)
    for name in ("SIGTERM", "SIGQUIT", "SIGHUP", "SIGUSR1")
    if hasattr(signal, name)
]


def connect() -> None:
    """Connect the signals. The import has done it; a second time changes nothing."""
    for sent, receiver in _RECEIVERS:
        sent.connect(receiver, weak=False, dispatch_uid=_uid(receiver))


def _uid(receiver: Any) -> str:
    return f"whisperr.{receiver.__name__}"


def _start(**_: Any) -> None:
    """A child of a pool has begun, forked or spawned, or the solo worker."""
    # Once more, so as to be the last: receivers of the application may track at the end, too.
    signals.worker_process_shutdown.disconnect(dispatch_uid=_uid(_end_child))
    connect()
    lifecycle.start_all()


def _start_main(sender: Any = None, **_: Any) -> None:
    """The worker is ready. With threads or greenlets its main process runs the tasks itself.

    A prefork pool forks it again, so there no thread is started.
    """
    pool = getattr(sender, "pool", None)
    if pool is not None and not _forks(pool):
        lifecycle.start_all()


def _forks(pool: Any) -> bool:
    return any(kind.__module__ == "celery.concurrency.prefork" for kind in type(pool).__mro__)


def _end_child(**_: Any) -> None:
    """A child ends, and nothing runs after this: what can't be delivered is reported as lost.

    After a hard time limit it has a tenth of a second. The sender delivers what is older than
    ``flush_interval`` before; this takes what a tenth of a second allows.
    """
    with _ending_signals_ignored():
        lifecycle.shutdown_all()  # bounded by shutdown_timeout; Celery sets no bound of its own


@contextmanager
def _ending_signals_ignored() -> Iterator[None]:
    """Signals that end a child are ignored meanwhile. What they ask for is about to happen, in bounded time."""
    before = {}
    try:
        with suppress(ValueError):  # not the main thread, so none of them would be raised here
            for number in _ENDING_SIGNALS:
                before[number] = signal.signal(number, signal.SIG_IGN)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end_main(**_: Any) -> None:
    """The worker's main process ends, which with solo, threads and gevent ran the tasks itself."""
    lifecycle.flush_all(MAIN_EXIT_TIMEOUT)


_RECEIVERS = (
    (signals.worker_process_init, _start),
    (signals.worker_ready, _start_main),
    (signals.worker_process_shutdown, _end_child),
    (signals.worker_shutdown, _end_main),
)

connect()
