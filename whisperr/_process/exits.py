"""What runs at which kind of exit. Takes a callable, knows no engine.

    how the process ends                        what runs it
    a script; os.fork and sys.exit              atexit
    a multiprocessing child up to 3.12          multiprocessing.util.Finalize (atexit is skipped)
    a multiprocessing child on 3.13             either (what was registered before is wiped)
    a child of multiprocess or billiard         Finalize of that library's own util
    a worker of billiard's Pool                 its on_exit (it ends by os._exit, and nothing else runs)
    a child forked in the sender's thread       run(), by the sender's loop
    an interpreter beside the first one         threading, before it waits for the threads of that
                                                interpreter, and atexit (see HAS_DAEMON_THREADS)
    a work horse of rq                          nothing: whisperr.integrations.rq, of which ensure() reminds

Registered at import, and once more at the first use in a child. Nothing is ever
unregistered: the first use may be in an exit handler, and what is registered then does not
run any more. The callable is idempotent, so some exits running two of these is no harm.

Lock-free: ensure() may race with itself, and then registers twice.
"""

from __future__ import annotations

import _thread
import atexit
import logging
import os
import sys
import threading
from typing import Any, Callable

from whisperr._clock import monotonic

#: Whether the end of this interpreter leaves a daemon thread alone. In one beside the first (3.12) there is
#: none: it waits for every thread before it runs atexit, so a thread of ours has to be told before.
HAS_DAEMON_THREADS: bool = getattr(_thread, "daemon_threads_allowed", lambda: True)()
_LIBRARIES = ("multiprocessing", "multiprocess", "billiard")  # that make processes in one way

_drain: Callable[[float, bool], None] | None = None
_atexit_in = 0  # pid
_finalize_in = 0  # pid
_reminded_in = 0  # pid
_is_told = False  # that the threads are about to be waited for
_may_start = True
_begun: tuple[int, float] = (0, 0.0)  # pid, and the monotonic time when its exit began


def install(drain: Callable[[float, bool], None]) -> None:
    """At import: ``drain`` runs at exit, with the monotonic time at which that began.

    Its second argument says whether it is for good: in a child that ends with the sender's
    thread every other thread of ours has to end too, or the process would live on.
    """
    global _drain
    _drain = drain
    _register_atexit()


def ensure() -> None:
    """At the first use in a process: see that its kind of exit will run the callable."""
    global _finalize_in, _reminded_in
    pid = os.getpid()
    if _atexit_in != pid:
        _register_atexit()
    if _finalize_in != pid:
        _finalize_in = _register_finalizer(pid)
    if _reminded_in != pid and _is_bare_rq_horse():
        _reminded_in = pid  # before: a handler that tracks comes here again
        logging.getLogger("whisperr").debug(
            "whisperr: an rq work horse runs no exit handler: "
            "rq worker -w whisperr.integrations.rq.Worker"
        )


def may_start_thread() -> bool:
    """Whether a thread that is started now will be told when it has to end."""
    global _is_told
    if not (HAS_DAEMON_THREADS or _is_told):
        try:
            # As concurrent.futures does: there is no other word of it.
            threading._register_atexit(_before_join)  # type: ignore[attr-defined]
        except (AttributeError, RuntimeError):  # it has begun to end
            return False
        _is_told = True
    return _may_start


def _before_join() -> None:
    global _may_start
    _may_start = False
    run()


def _register_atexit() -> None:
    global _atexit_in
    _atexit_in = os.getpid()
    atexit.register(run)


def _register_finalizer(pid: int) -> int:
    """The pid if a library has made this process and will run the callable; else 0, to look again."""
    for library in _LIBRARIES:
        process = _child_process(library)
        if process is not None:
            sys.modules[f"{library}.util"].Finalize(None, run, exitpriority=0)
            _join_worker(getattr(process, "_target", None))
            return pid
    return 0


def _child_process(library: str) -> object | None:
    """The process that we are in, as the library knows it; None if it did not make it."""
    module = sys.modules.get(f"{library}.process")
    if module is None or f"{library}.util" not in sys.modules:
        return None
    process: object = module.current_process()
    return None if type(process).__name__ == "_MainProcess" else process


def _join_worker(worker: Any) -> None:
    """Have a worker of billiard's Pool deliver after what its own pool wants done at its exit.

    After: that may track, or be Celery's word to our integration, which lets no signal interrupt it.
    """
    pool = sys.modules.get("billiard.pool")
    if pool is None or not isinstance(worker, pool.Worker):
        return
    then = worker.on_exit

    def on_exit(pid: int, status: int) -> None:
        try:
            if then is not None:
                then(pid, status)
        finally:
            run()

    worker.on_exit = on_exit


def _is_bare_rq_horse() -> bool:
    is_rq = "rq.worker" in sys.modules and "RQ_JOB_ID" in os.environ
    return is_rq and "whisperr.integrations.rq" not in sys.modules


def begun() -> float | None:
    """When the exit of this process began, or None while it hasn't."""
    if _begun[0] != os.getpid() and not threading.main_thread().is_alive():
        _begin()  # exit handlers are running, and ours is not among them: it came too late
    pid, moment = _begun
    return moment if pid == os.getpid() else None


def _begin() -> None:
    global _begun
    _begun = (os.getpid(), monotonic())


def run(for_good: bool = False) -> None:
    """The exit pass. All that runs in one process shares one begin, and so one deadline."""
    if begun() is None:
        _begin()
    if _drain is not None:
        _drain(_begun[1], for_good)
