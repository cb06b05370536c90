"""What the application should hear of: collected anywhere, told by the sender's pass.

Lock-free: one deque. once() may be told twice by two threads at one moment, which is no harm.
"""

from __future__ import annotations

import os
from collections import deque
from typing import NamedTuple


class Notice(NamedTuple):
    """One event. ``lost``: records, 0 if none is."""

    lost: int
    message: str
    detail: str | None = None


class Notices:
    """Those that were not told yet."""

    def __init__(self) -> None:
        self._waiting: deque[Notice] = deque()
        self._told: set[str] = set()  # what is told once

    def add(self, message: str, detail: str | None = None, lost: int = 0) -> None:
        self._waiting.append(Notice(lost, message, detail))

    def once(self, message: str, detail: str, topic: str | None = None) -> None:
        """Told once for each topic: the detail, unless another one is given."""
        topic = topic or detail
        if topic not in self._told:
            self._told.add(topic)
            self.add(message, detail)

    def take(self) -> list[Notice]:
        """All since this was last asked."""
        return [self._waiting.popleft() for _ in range(len(self._waiting))]


def reason(error: OSError) -> str:
    """Why something did not work, without a path in it."""
    return os.strerror(error.errno or 0)
