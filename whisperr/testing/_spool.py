"""A file that a process and its forks append to, one line for each record.

Guarantees:
    A record is in the file when add() returns, so when the call that was recorded returns,
    whatever ends the process after that. Records of all processes are in one order.
    No descriptor is kept: a child may close all of its files.
Assumes:
    a write with O_APPEND to a file of this machine is not divided by others.
"""

from __future__ import annotations

import contextlib
import os
import tempfile

from whisperr.testing._records import Record, from_line, to_line


class Spool:
    """Made by the process that reads; it also removes the file."""

    def __init__(self) -> None:
        handle, self._path = tempfile.mkstemp(prefix="whisperr-recording-")
        os.close(handle)
        self._owner = os.getpid()
        self._read = 0  # bytes

    def add(self, record: Record) -> None:
        """Append. After remove() it goes nowhere: the child has outlived its test."""
        with contextlib.suppress(FileNotFoundError):
            handle = os.open(self._path, os.O_WRONLY | os.O_APPEND)
            try:
                os.write(handle, to_line(record))
            finally:
                os.close(handle)

    def take(self) -> list[Record]:
        """What was added since the last time this process asked."""
        with open(self._path, "rb") as spool:
            spool.seek(self._read)
            fresh = spool.read()
        whole = fresh[: fresh.rfind(b"\n") + 1]
        self._read += len(whole)
        return [from_line(line) for line in whole.splitlines()]

    def remove(self) -> None:
        if self._owner == os.getpid():
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._path)
