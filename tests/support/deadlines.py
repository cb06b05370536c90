"""How long the tests wait for what must happen: one factor for all of them.

A deadline ends a test that hangs. None of them judges speed: a machine may be twenty times slower
than a quiet one, and every test still passes. So each is written as on a quiet machine, and
multiplied here. ``TESTS_SLACK=1`` makes a test that hangs fail sooner.
"""

from __future__ import annotations

import os
import time
from typing import Callable

SLACK = float(os.environ.get("TESTS_SLACK", "10"))
POLL = 0.01  # seconds between two looks at what another process does


def generous(seconds: float) -> float:
    """What takes at most this on a quiet machine, and may take on any."""
    return seconds * SLACK


DEADLINE = generous(20.0)  # seconds after which a test has failed rather than waits


def wait_until(is_so: Callable[[], bool], seconds: float = DEADLINE, every: float = POLL) -> bool:
    """Look until it is so. False: not by the deadline."""
    deadline = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > deadline:
            return False
        time.sleep(every)  # what other processes do tells nobody
    return True
