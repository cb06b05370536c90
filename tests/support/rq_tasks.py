"""The jobs of the tests of rq, and the client that they share; imported by the horses.

In the environment: APP_URL, APP_KEY, APP_OPTIONS (of the client, as JSON), APP_ACCOUNTS (a file: the
number of each event whose ``track()`` has returned).
"""

from __future__ import annotations

import json
import os
import signal
import time

from whisperr import Whisperr

ACCOUNTS = os.open(os.environ["APP_ACCOUNTS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
HANG = 600.0  # seconds; whoever asks for it is ended before
NAP = 0.05  # seconds: a signal just before one long sleep would be looked at after it

client = Whisperr(
    os.environ["APP_KEY"],
    base_url=os.environ["APP_URL"],
    **json.loads(os.environ["APP_OPTIONS"]),
)


def work(n: int, seconds: float = 0.05) -> None:
    client.track("user_42", "job_done", {"n": n})
    os.write(ACCOUNTS, b"%d\n" % n)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(NAP)


def nothing() -> None:
    """A job that tracks nothing."""


def fail(n: int) -> None:
    work(n, 0)
    raise ValueError("the job fails")


def hang(n: int) -> None:
    work(n, HANG)


def timed_out(n: int) -> None:
    """As rq's own alarm does it, without the wait for it."""
    work(n, 0)
    os.kill(os.getpid(), signal.SIGALRM)
    time.sleep(HANG)


def killed(n: int) -> None:
    work(n, 0)
    os.kill(os.getpid(), signal.SIGKILL)
