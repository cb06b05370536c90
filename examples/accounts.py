"""The application's own account of what it tracked, to be compared with what arrived.

One line for each ``track()`` that returned, in a file that all processes append to: a line
this short is appended in one piece, whoever else is writing.
"""

from __future__ import annotations

import os
from itertools import count

from whisperr import Whisperr


class Accounts:
    """Numbers the events of one role (``web``, ``pool``, ``script``) and writes the numbers down."""

    def __init__(self, client: Whisperr, role: str) -> None:
        self._client = client
        self._role = role
        self._file = os.open(os.environ["DEMO_ACCOUNTS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self._count = count(1)

    def track(self, event_type: str) -> None:
        process = f"{self._role} {os.getpid()}"
        number = f"{process} {next(self._count)}"
        self._client.track("user_42", event_type, {"n": number, "process": process})
        os.write(self._file, f"{number}\n".encode())


def read_accounts(path: str) -> dict[str, set[str]]:
    """What was tracked: the numbers by process."""
    numbers: dict[str, set[str]] = {}
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            number = line.strip()
            numbers.setdefault(number.rpartition(" ")[0], set()).add(number)
    return numbers


def client_from_environment() -> Whisperr:
    return Whisperr(os.environ["DEMO_KEY"], base_url=os.environ["DEMO_URL"])
