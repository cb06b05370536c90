"""Hooks for ``gunicorn.conf.py``. ::

    from whisperr.integrations.gunicorn import post_fork, post_worker_init, worker_abort, worker_exit

A preloaded application under a synchronous worker needs none of them: the client finds out that
it was forked, and delivers at the worker's exit. With them the sender runs before the first
event, uvicorn's worker delivers at SIGTERM, and an aborted one gets its half second. Each can
be called from a hook of your own with the same name.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from types import FrameType
from typing import Any

from whisperr import lifecycle

__all__ = ["post_fork", "post_worker_init", "worker_abort", "worker_exit"]

EXIT_TIMEOUT = 2.0  # seconds; the exit handlers come after, and have a deadline of their own
ABORT_TIMEOUT = 0.5  # seconds; gunicorn kills an aborted worker after one
ASGI_ABORT_TIMEOUT = 0.3  # seconds; likewise

logger = logging.getLogger("whisperr")


def post_fork(server: Any, worker: Any) -> None:
    """In the worker, just forked: says at debug level that it has an empty queue of its own.

    It has that without the hook, too.
    """
    logger.debug("whisperr: gunicorn worker %d: a queue and a sender of its own", os.getpid())


def post_worker_init(worker: Any) -> None:
    """In the worker, when the application is loaded and gevent has patched: start the sender threads.

    Under uvicorn's worker it also sees that SIGTERM ends in Python's exit handlers, and that an
    abort flushes, where the application has not installed handlers of its own.
    """
    lifecycle.start_all()
    if _runs_asgi_under_uvicorn(worker):
        _install(signal.SIGTERM, _exit)
        _install(signal.SIGABRT, _flush_and_abort)


def worker_exit(server: Any, worker: Any) -> None:
    """In the worker, at its end: deliver, for 2 seconds at most.

    gunicorn calls it in the master too, for a worker that is gone; there it does nothing. What is
    left after it has the time of Python's exit handlers, ``shutdown_timeout``.
    """
    if worker.pid == os.getpid():
        lifecycle.flush_all(EXIT_TIMEOUT)


def worker_abort(worker: Any) -> None:
    """In a worker that hung for longer than ``timeout``: deliver, for half a second at most.

    gunicorn kills it one second after it has called this.
    """
    lifecycle.flush_all(ABORT_TIMEOUT)


def _runs_asgi_under_uvicorn(worker: Any) -> bool:
    return any(kind.__name__ == "UvicornWorker" for kind in type(worker).__mro__)


def _install(number: int, handler: Any) -> None:
    if signal.getsignal(number) is signal.SIG_DFL:
        signal.signal(number, handler)


def _exit(number: int, frame: FrameType | None) -> None:
    """uvicorn has finished, and raises the signal again: leave as other workers do."""
    sys.exit(0)


def _flush_and_abort(number: int, frame: FrameType | None) -> None:
    """Not by an exception: uvicorn would catch it, and the hung worker live on."""
    lifecycle.flush_all(ASGI_ABORT_TIMEOUT)
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
