"""Import this in an application that uWSGI runs: it hooks the start and the end of each worker. ::

    import whisperr.integrations.uwsgi

uWSGI forks in C, runs no at-fork hook of Python, and is served correctly without this module
too: the client finds out at its first call in a worker. With it a worker starts its sender
thread, and takes over what was tracked in the master, before its first request instead of at its
first event. Outside uWSGI the import does nothing.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any, Callable

from whisperr import lifecycle

__all__ = ["EXIT_TIMEOUT", "at_exit", "post_fork"]

#: How long ``at_exit()`` may take, in seconds.
EXIT_TIMEOUT = 5.0  # uWSGI waits ``worker-reload-mercy``, 60 by default


def post_fork() -> None:
    """In a worker, just forked: start the sender threads. The import installs it.

    uWSGI does not call it with ``lazy-apps``, where each worker imports the application itself.
    """
    lifecycle.start_all()


def at_exit() -> None:
    """In a worker, at its end, before Python's own exit handlers: deliver, for 5 seconds at most.

    The import installs it.
    """
    lifecycle.flush_all(EXIT_TIMEOUT)


def _install(uwsgi: Any) -> None:
    decorators = _decorators(uwsgi)
    if decorators is not None:
        decorators.postfork(post_fork)
    else:
        uwsgi.post_fork_hook = _chain(getattr(uwsgi, "post_fork_hook", None), post_fork)
    uwsgi.atexit = _chain(getattr(uwsgi, "atexit", None), at_exit)


def _decorators(uwsgi: Any) -> Any:
    """``uwsgidecorators``, whose list of hooks is the one that uWSGI calls, where it can be had."""
    if not uwsgi.masterpid():
        return None  # it raises at import where there is no master
    try:
        return importlib.import_module("uwsgidecorators")
    except ImportError:  # the wheels of uWSGI leave it out
        return None


def _chain(first: Callable[[], object] | None, second: Callable[[], object]) -> Callable[[], None]:
    def both() -> None:
        try:
            if first is not None:
                first()
        finally:
            second()

    return both


if "uwsgi" in sys.modules:
    _install(sys.modules["uwsgi"])
