"""Living objects of one kind, held weakly: to be listed, or told something, and not kept.

Lock-free: a plain dict that is changed, and copied, in one step.
"""

from __future__ import annotations

import weakref
from typing import Generic, TypeVar

T = TypeVar("T")


class Registry(Generic[T]):
    """Members are forgotten when nobody else refers to them."""

    def __init__(self) -> None:
        self._members: dict[int, weakref.ReferenceType[T]] = {}

    def add(self, member: T) -> None:
        key = id(member)
        self._members[key] = weakref.ref(member, lambda _: self._members.pop(key, None))

    def living(self) -> list[T]:
        """In the order in which they were added."""
        found = (reference() for reference in list(self._members.values()))
        return [member for member in found if member is not None]
