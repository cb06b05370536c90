"""The records of one segment that are on disk alone, and not in memory: their numbers.

Guarantees:
    A number that was added is given out once: by take(), by take_arrived() or in the count of
    close(). add() after close() says so, or was counted by it.
Lock-free:
    One deque that everybody pops. close() sets its flag first and pops second, add() adds first
    and looks second, so that no number falls between. note_arrived() and add() likewise: either
    side first writes, then looks, and take_arrived() gives a number to one of them.
Fork: a child never uses it.
"""

from __future__ import annotations

import contextlib
from collections import deque
from typing import Iterable


class Backlog:
    """Numbers, ascending, as far as others don't come between."""

    def __init__(self, numbers: Iterable[int] = ()) -> None:
        self._numbers: deque[int] = deque(numbers)
        self._arrived: set[int] = set()  # given up by an exit while in flight, and arrived
        self.is_closed = False

    def __len__(self) -> int:
        return len(self._numbers)

    # --- any thread

    def add(self, number: int) -> bool:
        """From now on the record is on disk alone. False: closed, and so it is lost."""
        if self.has_older(number):
            self._numbers.append(number)
        else:  # the first; or it was read, and there was no room for it
            self._numbers.appendleft(number)
        if self.is_closed:
            with contextlib.suppress(IndexError):  # close() has counted it
                self._numbers.popleft()
                return False
        return True

    def take_arrived(self, number: int) -> bool:
        """Take one out again that has arrived. False: it has not, or is not here (yet)."""
        if number not in self._arrived:
            return False
        try:
            self._numbers.remove(number)
        except ValueError:
            return False
        return True

    def close(self) -> int:
        """The file goes; how many records are lost by that."""
        self.is_closed = True
        lost = 0
        with contextlib.suppress(IndexError):
            while True:
                self._numbers.popleft()
                lost += 1
        return lost

    # --- the sender's pass

    def note_arrived(self, number: int) -> bool:
        """An exit gave this one up in flight, and it arrived. True: it was here, and is no more."""
        self._arrived.add(number)
        return self.take_arrived(number)

    def take(self, count: int) -> list[int]:
        """The oldest."""
        taken: list[int] = []
        with contextlib.suppress(IndexError):
            while len(taken) < count:
                taken.append(self._numbers.popleft())
        return taken

    def give_back(self, numbers: list[int]) -> int:
        """What take() gave could not be read; how many of it are lost, as it was closed meanwhile."""
        return sum(not self.add(number) for number in reversed(numbers))

    def has_older(self, number: int) -> bool:
        """The oldest is older than this."""
        try:
            return self._numbers[0] < number
        except IndexError:
            return False

    def newest(self) -> int:
        """The highest number; -1 if there is none."""
        try:
            return self._numbers[-1]
        except IndexError:
            return -1
