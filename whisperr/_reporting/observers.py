"""Who wants to look at the figures whenever they have changed: for metrics.

Lock-free: one dict, changed and copied in one step. Fork: a child has the parent's observers.
"""

from __future__ import annotations

from typing import Callable

from whisperr._reporting.reports import isolated

_observers: dict[Callable[[], object], None] = {}  # in the order in which they came


def add(observer: Callable[[], object]) -> None:
    """From now on it is called. Twice is once."""
    _observers[observer] = None


def tell() -> None:
    """The figures have changed. What an observer raises ends here."""
    for observer in list(_observers):
        isolated(observer)
