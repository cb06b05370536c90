"""All living clients of this process at once: for hooks of servers, and the only way in for them.

Each of these may be called at any time, in any process and thread, any number of times. Disabled
clients are left out; without a client nothing is done. Timeouts are in seconds, for all clients
together.
"""

from __future__ import annotations

import logging
import signal
from collections import Counter
from typing import Any, Callable

from whisperr._client import live_clients, live_engines
from whisperr._clock import monotonic
from whisperr._process import signals
from whisperr._process.threads import in_thread
from whisperr._reporting import observers
from whisperr._reporting.reports import Superseded, say
from whisperr._settings import check_timeout

__all__ = [
    "aflush_all",
    "after_pass",
    "after_restore",
    "ashutdown_all",
    "deliver_on_signals",
    "flush_all",
    "shutdown_all",
    "start_all",
    "stats_all",
]

_ENDING = ("SIGTERM", "SIGHUP")  # by Python's default, without any exit handler


def start_all() -> None:
    """Start each client's sender thread now, instead of at the first event in this process.

    For a hook that runs in a worker after the fork, and after gevent has patched. A process that
    forks later should not call it: a thread that runs at a fork makes Python 3.12 and later warn.
    Clients that are made afterwards start theirs at their first event. Where no thread can be
    started, nothing is lost: ``flush()`` and the exit deliver in the thread that calls them.
    """
    for engine in live_engines():
        engine.start()


def flush_all(timeout: float) -> bool:
    """``Whisperr.flush()`` of all clients at the same time, under one deadline.

    Args:
        timeout: How long to wait at most for all of them, in seconds, 0 or more. With 0 it only
            asks each sender to deliver now.

    Returns:
        True if all that was accepted before the call was settled: delivered, or dropped and
        reported. True too if there is no client. What is left stays queued.

    Raises:
        ValueError: The timeout is no such number.
    """
    deadline = monotonic() + check_timeout("timeout", timeout)
    engines = live_engines()
    for engine in engines:  # all at once: one that hangs takes no time from the others
        engine.request_pass()
    try:
        settled = [engine.flush(deadline) for engine in engines]
    except Superseded:
        return False
    return all(settled)


def shutdown_all(timeout: float | None = None) -> bool:
    """``Whisperr.shutdown()`` of all clients at the same time: they deliver, and stop for good.

    What is left when the time is over is reported as ``dropped``, by count; with a journal it
    stays on the disk instead, for the next process.

    Args:
        timeout: How long it may take for all of them, in seconds, 0 or more. None means the
            ``shutdown_timeout`` of each client, all counted from now.

    Returns:
        True if all that was accepted before the call was settled, or if there is no client.

    Raises:
        ValueError: The timeout is no such number. No client is shut down then.
    """
    now = monotonic()
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


async def aflush_all(timeout: float) -> bool:
    """``flush_all()`` that lets an event loop go on; under trio it holds it up."""
    return await in_thread(lambda: flush_all(timeout))


async def ashutdown_all(timeout: float | None = None) -> bool:
    """``shutdown_all()`` that lets an event loop go on; under trio it holds it up."""
    return await in_thread(lambda: shutdown_all(timeout))


def after_restore() -> None:
    """Give each client new ids, and connections, in a process that was restored from a snapshot.

    For hooks of whatever copies a process that runs, several times perhaps: AWS Lambda's SnapStart
    (``whisperr.integrations.aws_lambda`` does it), CRIU, an image of a virtual machine. Without it
    all copies number their events alike under one prefix, and a service that removes repeats
    takes different events for the same. What was queued in the snapshot is delivered by each
    copy under the ids that it had, and so counts once. A fork needs no hook.

    The new ids are as random as ``os.urandom()``, which the kernel has to seed anew in a copied
    machine, as Lambda's does.
    """
    for client in live_clients():
        client._renew_engine()


def deliver_on_signals(*numbers: int) -> list[int]:
    """Deliver before SIGTERM and SIGHUP end this process, which by default run no exit handler.

    For programs that leave these signals to Python: scripts, Waitress, cheroot, Tornado's
    processes, schedulers. The process still ends by the signal, after ``shutdown_timeout`` at
    most; its own exit handlers do not run, as they would not have. Children that it forks
    inherit that. A handler that is there is kept, and so is one that comes later: what ends by
    ``sys.exit`` delivers anyway.

    Args:
        numbers: Other signals, in place of these two.

    Returns:
        The signals that now deliver. None of them outside the main thread, where Python allows
        no handlers; that is a warning of the logger ``whisperr``.

    Raises:
        OSError, ValueError: There is no such signal, or it can't be handled.
    """
    wanted = numbers or [getattr(signal, name) for name in _ENDING if hasattr(signal, name)]
    try:
        return [int(number) for number in wanted if signals.install(number)]
    except signals.OutsideMainThread:
        say(logging.WARNING, "deliver_on_signals() does nothing outside the main thread")
        return []


def stats_all() -> dict[str, Any]:
    """``Whisperr.stats()`` of all clients together, of this process: for metrics.

    ``dropped`` is a dict, as there; ``last_error`` is left out.
    """
    total: Counter[str] = Counter()
    dropped: Counter[str] = Counter()
    for engine in live_engines():
        stats = engine.stats()
        dropped.update(stats.pop("dropped"))
        del stats["last_error"]
        total.update(stats)
    return {**{name: total[name] for name in _SUMS}, "dropped": dict(dropped)}


def after_pass(callback: Callable[[], object]) -> None:
    """Call this from now on after each delivery pass, and at the end of an exit.

    Before a ``flush()`` returns: in the thread that has delivered or in that of the ``flush()``, at
    times in both at once. In forked children, too. What it raises is ignored. It must not wait for
    anybody.
    """
    observers.add(callback)


_SUMS = (
    "accepted",
    "adopted",
    "delivered",
    "pending",
    "spilled",
    "requests",
    "retries",
    "splits",
    "ignored",
    "bytes",
)
