"""The jobs of ``rq_jobs.py``, imported by rq's horses, and the client that they share."""

from __future__ import annotations

import os
import time

from whisperr import Whisperr

client = Whisperr("wrk_benchmark", base_url=os.environ["SINK"])


def work(n: int, seconds: float) -> None:
    client.track("user_42", "payment_failed", {"n": n, "at": time.time()})
    time.sleep(seconds)


def nothing() -> None:
    """A job that tracks nothing."""
