"""How often, and how long apart: urllib3's Retry counts the attempts, the waits are ours.

Policy only: it opens nothing and waits for nothing. What urllib3 does by itself with a Retry (sleep in
``time.sleep``, read all that a failed answer brings, say in the application's log that it retries) is
not asked of it: the transport makes each attempt, and asks here whether there shall be another.
"""

from __future__ import annotations

import os
import random
import re
import time
from email.utils import mktime_tz, parsedate_tz
from typing import Any

from urllib3.exceptions import MaxRetryError
from urllib3.util.retry import Retry

FIRST_BACKOFF = 0.5  # seconds before the first retry, doubled for each further one
LONGEST_BACKOFF = 30.0  # seconds
LONGEST_RETRY_AFTER = 60.0  # seconds; a server that asks for more is asked again after this

_SECONDS = re.compile(r"[0-9]+")


class RetryPolicy(Retry):
    """The attempts of one send. As its base it is never changed: each failure makes the next one.

    The back-off is jittered, from a source of its own: a fork copies ``random``'s, a test seeds it.
    """

    _random: random.Random

    @classmethod
    def allowing(cls, max_retries: int) -> RetryPolicy:
        """Before the first attempt."""
        policy = cls(total=max_retries)
        # A number: to take bytes, random imports a module, in which a signal handler may find itself.
        policy._random = random.Random(int.from_bytes(os.urandom(16), "big"))
        return policy

    def new(self, **changes: Any) -> RetryPolicy:
        policy: RetryPolicy = super().new(**changes)
        policy._random = self._random
        return policy

    def after_failure(self, path: str) -> RetryPolicy | None:
        """What holds after one more failed attempt; None: there shall be no other."""
        try:
            policy: RetryPolicy = self.increment("POST", path)
        except MaxRetryError:
            return None
        return policy

    def get_backoff_time(self) -> float:
        """Seconds to wait before the next attempt."""
        longest: float = min(LONGEST_BACKOFF, FIRST_BACKOFF * 2.0 ** (len(self.history) - 1))
        return longest * self._random.uniform(0.5, 1.0)


def retry_after(value: str | None, date: str | None = None) -> float | None:
    """The seconds that a ``Retry-After`` asks for, 0 to 60. None: there is none that can be read.

    ``date`` is the answer's ``Date``: by it the server has counted, and not by our clock, which
    may be wrong or an application's. Without one there is only ours.
    """
    if value is None:
        return None
    text = value.strip()
    if _SECONDS.fullmatch(text):
        return min(float(text), LONGEST_RETRY_AFTER)  # infinite is more, too
    try:
        due = _moment(text)
        if due is None:
            return None
        now = None if date is None else _moment(date)
        return min(max(0.0, due - (time.time() if now is None else now)), LONGEST_RETRY_AFTER)
    except Exception:  # whatever email.utils says of a date that is none: it differs by version
        return None


def _moment(date: str) -> float | None:
    parsed = parsedate_tz(date)
    if parsed is None:
        return None
    return mktime_tz((*parsed[:9], parsed[9] or 0))  # without a zone it is UTC, as all of HTTP
