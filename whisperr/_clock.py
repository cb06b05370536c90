"""The clock of every deadline of ours: seconds that only go forward, whatever others do to ``time``.

What stands still or jumps in the application's tests (freezegun, a patched ``time.monotonic``)
and on its machine (an administrator, NTP) is time as the application sees it, and events are
dated in that. A wait is not: it was begun on a real clock and has to end by the same one.

Guarantees:
    monotonic() is bound to the system's clock at import and looked up nowhere afterwards. No
    replacement of an attribute reaches it: freezegun replaces what *is* ``time.monotonic`` in
    every module, and this is another object. Imported while the time is frozen, it is right, too.
    Never compared with ``time.monotonic()``, which counts from another moment on some systems.
Assumes:
    on Windows with Python 3.8: imported while ``time.monotonic`` is the real one.
Lock-free. Fork: parent and child read the same clock.

What it counts: not the time in which the machine was suspended, except on macOS; but that in
which this process alone was stopped, and a deadline that went by meanwhile has come when it goes
on. Between two looks at it we wait with the time-out of a lock, which is of real time as well:
the system's monotonic clock since Python 3.9 with glibc 2.30, its wall clock before that and with
musl, where a wait lasts longer by what the clock is set back during it.
"""

from __future__ import annotations

import sys
import time
from functools import partial
from types import BuiltinFunctionType
from typing import Any, Callable


def _system_clock() -> Callable[[], float]:
    clock = getattr(time, "clock_gettime", None)  # not on Windows
    if isinstance(clock, BuiltinFunctionType):
        return partial(clock, time.CLOCK_MONOTONIC)
    if isinstance(time.monotonic, BuiltinFunctionType) or sys.version_info < (3, 9):
        return partial(time.monotonic)
    return partial(_unseen_time().monotonic)


def _unseen_time() -> Any:
    """A second module ``time``, in which nobody has replaced anything. 3.8 would refresh the first."""
    from importlib.machinery import BuiltinImporter
    from importlib.util import module_from_spec

    spec = BuiltinImporter.find_spec("time")
    assert spec is not None
    module = module_from_spec(spec)
    BuiltinImporter.exec_module(module)
    return module


#: Seconds since some moment of the past.
monotonic: Callable[[], float] = _system_clock()
