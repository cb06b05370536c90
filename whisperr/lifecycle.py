"""All living clients of this process at once: for hooks of servers, and the only way in for them.

Each of these may be called at any time, in any process, any number of times; without a
client they do nothing. Timeouts are in seconds, for all clients together.
"""

from __future__ import annotations

import time

from whisperr._client import live_engines
from whisperr._reporting.reports import Superseded
from whisperr._settings import check_timeout

__all__ = ["flush_all", "shutdown_all", "start_all"]


def start_all() -> None:
    """Start the senders now, instead of at the first event: where a thread is safe."""
    for engine in live_engines():
        engine.start()


def flush_all(timeout: float) -> bool:
    """``flush()`` of all clients under one deadline. True if all of them said True."""
    deadline = time.monotonic() + check_timeout("timeout", timeout)
    engines = live_engines()
    for engine in engines:  # all at once: one that hangs takes no time from the others
        engine.request_pass()
    try:
        settled = [engine.flush(deadline) for engine in engines]
    except Superseded:
        return False
    return all(settled)


def shutdown_all(timeout: float | None = None) -> bool:
    """``shutdown()`` of all clients under one deadline. True if all of them said True.

    None: each client's ``shutdown_timeout``, all from now.
    """
    now = time.monotonic()
    common = None if timeout is None else check_timeout("timeout", timeout)
    engines = live_engines()
    for engine in engines:
        seconds = engine.shutdown_timeout if common is None else common
        engine.begin_exit(now + seconds, closing=True)
    try:
        settled = [engine.finish_exit() for engine in engines]
    except Superseded:
        return False
    return all(settled)
