"""The application's own account of what it tracked, to be compared with what arrived.

One line for each ``track()`` that returned, in a file that all processes append to: a line
this short is appended in one piece, whoever else is writing.
"""

from __future__ import annotations

import os
from itertools import count
from typing import Any, Callable


class Accounts:
    """Numbers the events of one role (``web``, ``task``, ``script``) and writes the numbers down."""

    def __init__(self, role: str) -> None:
        self._role = role
        self._count = count(1)

    def track(self, track: Callable[[str, dict[str, Any]], None], event_type: str) -> None:
        """Call ``track(event_type, properties)``, then write the number down."""
        process = f"{self._role} {os.getpid()}"
        number = f"{process} {next(self._count)}"
        track(event_type, {"n": number, "process": process})
        with open(os.environ["DEMO_ACCOUNTS"], "ab", buffering=0) as file:
            file.write(f"{number}\n".encode())


def read_accounts(path: str) -> dict[str, set[str]]:
    """What was tracked: the numbers by process."""
    numbers: dict[str, set[str]] = {}
    if os.path.exists(path):
        with open(path, encoding="utf-8") as lines:
            for line in lines:
                number = line.strip()
                numbers.setdefault(number.rpartition(" ")[0], set()).add(number)
    return numbers
