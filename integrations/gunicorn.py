"""Hooks for ``gunicorn.conf.py``.

    from whisperr.integrations.gunicorn import post_fork, post_worker_init, worker_exit

A preloaded application needs none of them: the client finds out that it was forked, and
delivers at the worker's exit. With them the sender runs before the first event, and the
worker's exit flushes before gunicorn's own clean-up. Each can be called from a hook of
your own with the same name.
"""

from __future__ import annotations

import logging
import os
from typing import Any

from whisperr import lifecycle

__all__ = ["post_fork", "post_worker_init", "worker_exit"]

EXIT_TIMEOUT = 5.0  # seconds; a recycled worker is killed ``timeout`` after its last heartbeat

logger = logging.getLogger("whisperr")


def post_fork(server: Any, worker: Any) -> None:
    """In the worker, just forked: the client has its own, empty queue already."""
    logger.debug("gunicorn worker %d: a queue of its own", os.getpid())


def post_worker_init(worker: Any) -> None:
    """In the worker, when the application is loaded and gevent has patched: start the senders."""
    lifecycle.start_all()


def worker_exit(server: Any, worker: Any) -> None:
    """In the worker, at its end. gunicorn calls it in the master too, for a worker that is gone."""
    if worker.pid == os.getpid():
        lifecycle.flush_all(EXIT_TIMEOUT)
