"""A running total without a lock.

Guarantees:
    add() is exact from any number of threads, from a signal handler that interrupts
    another add() in the same thread, and from ``__del__``. It never waits.
Assumes:
    the global interpreter lock: ``deque.append`` and ``next`` on an iterator written in C
    are each one indivisible step.

Why it holds: every add() first appends one part and then lets the accumulator take one
part, whichever comes first. Whatever is interleaved, no part is taken twice, none is left
for good, and the accumulator never finds the queue empty, because every ``next`` was
preceded by an append.
"""

from __future__ import annotations

import sys
from collections import deque
from itertools import accumulate, count
from types import FrameType
from typing import Callable


class Counter:
    """An integer that many threads add to."""

    __slots__ = ("_parts", "_sums")

    def __init__(self) -> None:
        self._parts: deque[int] = deque()
        # iter() ends at None, which is never appended: the sums go on for ever.
        self._sums = accumulate(iter(self._parts.popleft, None))

    def add(self, amount: int) -> int:
        """Add, and return the total after some add() of this moment: one's own, when alone."""
        self._parts.append(amount)
        return next(self._sums)

    def steps(self) -> tuple[Callable[[int], None], Callable[[], int]]:
        """The two steps of add(), for a place where a call of it costs too much."""
        return self._parts.append, self._sums.__next__

    def read(self) -> int:
        return self.add(0)


class Sequence:
    """Numbers 0, 1, 2, …: each given out once, also to threads and handlers that interrupt each other.

    A Total can't do this: a reader's zero may be taken by a writer, and two writers would
    then see one sum.
    """

    __slots__ = ("_looks", "take")

    def __init__(self) -> None:
        self.take: Callable[[], int] = count().__next__
        self._looks = Counter()

    def taken(self) -> int:
        """How many numbers were given out. Looking costs a number, which is not counted."""
        return self.take() - (self._looks.add(1) - 1)

    def next(self) -> int:
        """A number above all that were given out. Looking costs it, and it is not counted."""
        number = self.take()
        self._looks.add(1)
        return number

    def skip(self) -> None:
        """One number given out was not used: don't count it."""
        self._looks.add(1)


class Turn:
    """Free, or held by the call that took it."""

    __slots__ = ("_holder",)

    def __init__(self) -> None:
        self._holder: dict[str, FrameType] = {}

    def take(self) -> bool:
        """Whether it is now the caller's, up to release() or its end, however that comes."""
        mine = sys._getframe(1)
        holder = self._holder.setdefault("by", mine)
        if holder is not mine and _has_ended(holder):
            self._holder.pop("by", None)
            holder = self._holder.setdefault("by", mine)
        return holder is mine

    def release(self) -> None:
        """By the call that took it."""
        self._holder.pop("by", None)


def _has_ended(frame: FrameType) -> bool:
    try:
        frame.clear()
    except RuntimeError:  # it is being executed
        return False
    return True
