"""Whose turn it is, for what one at a time does and nobody waits for.

Guarantees:
    take() never waits. A turn is held by a call, and by no call that has ended: what a signal
    handler raises (a soft time limit, Ctrl-C) may come between any two steps, in a ``finally``
    too, and a lock would then be held for ever.
Guarded by nothing: one dict.setdefault decides.
"""

from __future__ import annotations

import sys
from types import FrameType


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
