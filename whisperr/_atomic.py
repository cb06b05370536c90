"""The cells that need no lock: a counter, a tally, a value that only advances, a turn.

A call of ``track()`` may be interrupted at any bytecode, by another thread, by a signal handler
or by ``__del__``, and each of these may call ``track()`` itself. A lock held there would be
waited for by the very call that holds it. So every step that more than one of them may take at
once is one operation of the interpreter that cannot be divided.

    cell        what must be indivisible
    Counter     ``BytesIO.seek``
    Tally       ``next`` on ``itertools.count``
    Furthest    ``deque.append``, ``deque.copy``
    Turn        ``dict.setdefault``; ``frame.clear`` refuses a frame that is being executed

With the global interpreter lock all of these hold: each is one call into C that runs no Python
code on the way. Without it each takes the lock of its one object, for no longer than the call; so it
is since CPython 3.14.7 (docs/explanation/concurrency.md has the table). One set of cells serves both.
"""

from __future__ import annotations

import sys
from collections import deque
from io import SEEK_CUR, BytesIO
from itertools import count
from types import FrameType
from typing import Callable, Generic, Iterable, Iterator, TypeVar

T = TypeVar("T")

_WITHOUT_LOCK = (3, 14, 7)  # the first CPython in which they hold without an interpreter lock


def holds(version: tuple[int, ...], has_lock: bool) -> bool:
    """Whether all of them are indivisible in such an interpreter."""
    return has_lock or version >= _WITHOUT_LOCK


#: In this one, as it was started.
HOLDS = holds(tuple(sys.version_info[:3]), getattr(sys, "_is_gil_enabled", lambda: True)())


class Counter:
    """An integer that anybody adds to. Exact; nobody waits.

    It is a position in a file in memory that never holds a byte: ``seek`` moves it, and tells
    where it is now, in one call into C. A position can't be negative, so zero stands far up: a
    Counter may fall half a billion below zero for a moment, when what is taken away is counted
    before it was added.
    """

    __slots__ = ("_seek",)

    ZERO = 2**29  # the position that means 0; so small an int costs least

    def __init__(self) -> None:
        self._seek = BytesIO().seek
        self._seek(self.ZERO)

    def add(self, amount: int) -> int:
        """Add, and return the total with it."""
        return self._seek(amount, SEEK_CUR) - self.ZERO

    def read(self) -> int:
        """The total."""
        return self._seek(0, SEEK_CUR) - self.ZERO

    @property
    def move(self) -> Callable[[int, int], int]:
        """``move(amount, SEEK_CUR)`` is ZERO more than add(): where a call of that costs too much."""
        return self._seek


class Tally:
    """Counts one by one, and gives each its number: 0, 1, 2, … No number twice.

    A Counter can't do this: of two that add at once, both could be told the later total.
    """

    __slots__ = ("numbers",)

    def __init__(self) -> None:
        #: ``next()`` of it counts one more, and is its number. One call into C.
        self.numbers: Iterator[int] = count()

    def next(self) -> int:
        """Count one more, and return its number."""
        return next(self.numbers)

    def read(self) -> int:
        """How many were counted, which is also the next number. It takes none."""
        return int(repr(self.numbers)[len("count(") : -1])  # no other look leaves it as it is


class Furthest(Generic[T]):
    """A value that only advances: the furthest of all that were reported, whoever comes first.

    Read, compare and write would be three steps, and of two callers at once the wrong one could
    come last. So each report is kept; there are few of them.
    """

    __slots__ = ("_choose", "_reported")

    def __init__(self, first: T, choose: Callable[[Iterable[T]], T]) -> None:
        self._reported = deque([first])
        self._choose = choose  # max, or min

    def advance(self, value: T) -> None:
        """Report a value. One that is not further changes nothing."""
        self._reported.append(value)

    def read(self) -> T:
        """The furthest value so far."""
        return self._choose(self._reported.copy())


class _Holder:
    """One call that took a turn, and (once it has ended) the one that took it next."""

    __slots__ = ("frame", "next")

    def __init__(self, frame: FrameType | None) -> None:
        self.frame = frame  # of the call; None: it gave the turn back
        self.next: dict[str, _Holder] = {}  # at most one item, by setdefault

    def has_ended(self) -> bool:
        """Once true, true for ever: that is what makes a take-over safe."""
        frame = self.frame
        return frame is None or _is_over(frame)


class Turn:
    """Free, or held by the call that took it.

    Guarantees:
        At most one call holds it. A call holds it up to release() or its own end, however that
        comes: an exception that a signal handler raises, anywhere, leaves nothing held.
        Nobody waits: take() says at once whether it is the caller's.
    Lock-free:
        The holders are a chain. Who finds that the last one has ended adds itself behind it by
        one ``dict.setdefault``, so an ended holder has one successor, whoever looks at it and
        however late. _latest is a hint that may lag behind: the chain leads on from there, and
        what is before it is garbage.
        An exception before that step leaves nothing behind, one after it a holder whose call
        ends by the same exception.
    Fork: not shared. A child makes its own; a thread that held this one never ends there.
    """

    __slots__ = ("_latest",)

    def __init__(self) -> None:
        self._latest = _Holder(None)

    def take(self) -> bool:
        """Whether it is now the caller's, up to release() or its end, however that comes."""
        mine = _Holder(sys._getframe(1))
        while True:
            last = self._last()
            if not last.has_ended():
                return False
            if last.next.setdefault("by", mine) is mine:
                self._latest = mine
                return True

    def release(self) -> None:
        """By the call that took it; from any other it changes nothing."""
        last = self._last()
        if last.frame is sys._getframe(1):
            last.frame = None

    def _last(self) -> _Holder:
        holder = self._latest
        while True:
            following = holder.next.get("by")
            if following is None:
                self._latest = holder
                return holder
            holder = following


def _is_over(frame: FrameType) -> bool:
    """Whether a call has ended. The interpreter clears no frame that is being executed."""
    try:
        frame.clear()
    except RuntimeError:
        return False
    return True
