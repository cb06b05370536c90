"""When and how long to wait between attempts: urllib3's Retry, made wakeable.

Policy only. It opens nothing and knows no session; whoever uses it says how to wait and
until when, in two callables, which is all that distinguishes it from a plain value.
"""

from __future__ import annotations

import os
import random
import time
from typing import Any, Callable

from urllib3 import Retry, Timeout
from urllib3.exceptions import InvalidHeader
from urllib3.response import BaseHTTPResponse

FIRST_BACKOFF = 0.5  # seconds before the first retry, doubled for each further one
LONGEST_BACKOFF = 30.0  # seconds
LONGEST_RETRY_AFTER = 60.0  # seconds; a server that asks for more is asked again after this
SHORTEST_TIMEOUT = 0.001  # seconds; zero would make a socket non-blocking

Pause = Callable[[float], bool]  # wait these seconds; False: don't go on


class Interrupted(Exception):
    """The wait between two attempts was ended, or there is no time left for another attempt."""


class WakeableRetry(Retry):
    """429, 5xx and network errors are worth another attempt, after a wait that can be ended.

    Differs from its base: POST is retried (ids make it idempotent), the back-off is jittered
    from a source of its own (a fork copies ``random``'s), ``Retry-After`` is capped, honoured
    only where it is a retry (the base retries a 413 too) and ignored where it can't be read
    (the base raises), and the wait is somebody else's.
    """

    RETRY_AFTER_STATUS_CODES = frozenset([429, *range(500, 1000)])

    _pause: Pause
    _random: random.Random

    @classmethod
    def policy(cls, max_retries: int, pause: Pause) -> WakeableRetry:
        retry = cls(
            total=max_retries,
            redirect=0,
            allowed_methods=None,  # any method
            status_forcelist=cls.RETRY_AFTER_STATUS_CODES,
            raise_on_redirect=False,
            raise_on_status=False,
        )
        retry._pause = pause
        # A number: to take bytes, random imports a module, in which a signal handler may find itself.
        retry._random = random.Random(int.from_bytes(os.urandom(16), "big"))
        return retry

    def new(self, **changes: Any) -> WakeableRetry:
        retry: WakeableRetry = super().new(**changes)
        retry._pause = self._pause
        retry._random = self._random
        return retry

    def sleep(self, response: BaseHTTPResponse | None = None) -> None:
        seconds = self.get_retry_after(response) if response is not None else None
        if seconds is None:
            seconds = self.get_backoff_time()
        if not self._pause(seconds):
            raise Interrupted

    def get_backoff_time(self) -> float:
        failures = len(self.history)
        longest: float = min(LONGEST_BACKOFF, FIRST_BACKOFF * 2.0 ** (failures - 1))
        return longest * self._random.uniform(0.5, 1.0)

    def get_retry_after(self, response: BaseHTTPResponse) -> float | None:
        try:
            seconds = super().get_retry_after(response)
        except (InvalidHeader, OverflowError, ValueError):
            return None
        return None if seconds is None else min(seconds, LONGEST_RETRY_AFTER)


class AttemptTimeout(Timeout):
    """The time-out of each attempt: ``seconds``, or what is left until the deadline, if less.

    urllib3 clones the time-out it is given once at the start of every attempt, so this is
    also where attempts are counted.
    """

    def __init__(
        self,
        seconds: float,
        deadline: Callable[[], float | None],
        on_attempt: Callable[[], None],
    ) -> None:
        super().__init__(connect=seconds, read=seconds)
        self._seconds = seconds
        self._deadline = deadline
        self._on_attempt = on_attempt

    def clone(self) -> Timeout:
        seconds = self._seconds
        deadline = self._deadline()
        if deadline is not None:
            left = deadline - time.monotonic()
            if left <= 0:
                raise Interrupted
            seconds = max(min(seconds, left), SHORTEST_TIMEOUT)
        self._on_attempt()
        return Timeout(total=seconds, connect=seconds, read=seconds)
