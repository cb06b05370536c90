"""Signals belong to the application: what its handlers raise, and a delivery before one ends the process.

The second is installed on request alone.

Guarantees:
    A signal for which somebody has a handler, or which is ignored, keeps that. One that would
    end the process still does, in bounded time, with the status that whoever waits expects;
    before, the exit pass runs, as at any other exit. The same signal once more, meanwhile, does
    not cut it short.
Assumes:
    Handlers of Python run in the main thread, between two of its steps. A call stuck in C code
    therefore puts the end off, as with every handler. Under gevent that may be the hub, which
    must not wait: a greenlet delivers then.
Fork: a child inherits the handler, and ends by it as its parent does.
"""

from __future__ import annotations

import os
import signal
import sys
from types import CodeType, FrameType, FunctionType, MethodType, TracebackType
from typing import Any, Callable

from whisperr._process import exits

_SHELL = 128  # what a shell adds to a signal to have a status

_ending_in = 0  # pid


class OutsideMainThread(Exception):
    """Python allows handlers in the main thread of the main interpreter alone."""


def install(number: int) -> bool:
    """Have this signal deliver first. False: it has another meaning here."""
    if signal.getsignal(number) is signal.SIG_DFL:  # ValueError: there is no such signal
        try:
            signal.signal(number, _deliver_and_end)
        except ValueError:
            raise OutsideMainThread from None
    return signal.getsignal(number) is _deliver_and_end  # mod_wsgi ignores what it is told


def _deliver_and_end(number: int, frame: FrameType | None) -> None:
    global _ending_in
    if _ending_in == os.getpid():
        return  # it came once more: this is under way
    _ending_in = os.getpid()
    gevent: Any = sys.modules.get("gevent")
    if gevent is not None and gevent.getcurrent() is gevent.get_hub():
        gevent.spawn(_end_by, number)
    else:
        _end_by(number)


def _end_by(number: int) -> None:
    try:
        exits.run()
    finally:
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        os._exit(_SHELL + number)  # the first process of a container outlives even that


def came_from_handler(error: BaseException) -> bool:
    """Whether a signal handler that is installed raised it, as time limits of jobs do."""
    codes = {_code_of(signal.getsignal(number)) for number in signal.valid_signals()}
    traceback = _traceback_of(error)
    while traceback is not None:
        if traceback.tb_frame.f_code in codes:
            return True
        traceback = traceback.tb_next
    return False


def _code_of(handler: object) -> CodeType | None:
    if type(handler) is MethodType:
        handler = handler.__func__
    return handler.__code__ if type(handler) is FunctionType else None


#: An exception of the caller's objects may refuse to be asked for anything.
_traceback_of: Callable[[BaseException], TracebackType | None] = BaseException.__dict__[
    "__traceback__"
].__get__
