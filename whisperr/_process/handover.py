"""What is queued in a process that will never send: a uWSGI master, at import of the application.

A thread that runs Python in a master at its C fork leaves the interpreter lock locked in every
worker, so there is none in the master, and what it queues goes to exactly one worker. All
workers inherit a copy of the queue, and the read end of a pipe that holds one byte: who reads
the byte owns the copy. A worker that is started later finds the pipe empty.

Guarantees:
    take() gives the records out once, in one process and one thread, whoever asks how often.
"""

from __future__ import annotations

import os
import sys
from typing import Any, Protocol

_TOKEN = b"!"


def can_send() -> bool:
    """False in a uWSGI master, and in a process that is about to become its own worker."""
    uwsgi = sys.modules.get("uwsgi")
    worker_id = getattr(uwsgi, "worker_id", None)
    if worker_id is None or worker_id() > 0:
        return True
    # A mule and a spooler are no workers, but are no masters either.
    return bool(_ask(uwsgi, "mule_id") or _ask(uwsgi, "i_am_the_spooler"))


def _ask(uwsgi: object, name: str) -> object:
    question = getattr(uwsgi, name, None)  # absent where uWSGI was built without it
    return question() if callable(question) else None


class Takeable(Protocol):
    """A queue that gives out all it holds, once."""

    def take_all(self) -> list[Any]: ...


class Handover:
    """A queue, and the right to it."""

    def __init__(self, queue: Takeable) -> None:
        self.queue = queue
        self.end = 0  # the number after the last one that is handed over
        self._read, write = os.pipe()
        os.write(write, _TOKEN)
        os.close(write)
        self._pipe = os.fstat(self._read)
        self._untaken = [self]

    def take(self) -> tuple[bool, list[Any]]:
        """Whether the queue is now this process's, and what was in it. Once; later, nothing."""
        try:
            self._untaken.pop()
        except IndexError:
            return False, []
        return self._has_token(), self.queue.take_all()

    def _has_token(self) -> bool:
        try:
            if not os.path.samestat(os.fstat(self._read), self._pipe):
                return False  # a daemon closed all it found, and the number serves another file
            token = os.read(self._read, 1)
            os.close(self._read)
        except OSError:  # closed likewise
            return False
        return token == _TOKEN
