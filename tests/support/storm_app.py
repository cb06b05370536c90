"""The application of the storms, under gunicorn (WSGI) and under Celery, with one ledger of its own.

Imported by real servers as ``app``, never by a test. Its environment is that of celery_app.py; the
habit ``own-ids`` gives each event an id of the application's.
"""

from __future__ import annotations

import json
import os
import random
import time
import uuid
from collections.abc import Iterable
from typing import Any, Callable

from celery import Celery, signals

import whisperr.integrations.celery  # noqa: F401  (starts the sender of each child)
from whisperr import Whisperr

BY_REQUEST = 4  # events
TURN = 1.0  # seconds of one task
PAUSE = 0.03  # seconds between two events of a task
STOP = "stop"  # a file: tasks don't follow each other any more
FILLERS = ["x" * size for size in (0, 100, 1_000, 5_000)]

ACCOUNTS = os.open(os.environ["APP_ACCOUNTS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
OWN_IDS = "own-ids" in os.environ["APP_HABITS"].split()

client = Whisperr(
    os.environ["APP_KEY"],
    base_url=os.environ["APP_URL"],
    **json.loads(os.environ["APP_OPTIONS"]),
)
app = Celery("app", broker=os.environ["APP_BROKER"])
app.conf.update(json.loads(os.environ["APP_CONF"]))


def note(where: str) -> None:
    """Track, then write down that it returned."""
    n = uuid.uuid4().hex
    more = {"message_id": f"own-{n}"} if OWN_IDS else {}
    filler = random.choices(FILLERS, (60, 30, 9, 1))[0]
    client.track("user_42", "in_the_storm", {"n": n, "filler": filler}, **more)  # type: ignore
    os.write(ACCOUNTS, f"{where} {n}\n".encode())


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    for _ in range(BY_REQUEST):
        note("web")
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]


@app.task(name="churn", acks_late=True, reject_on_worker_lost=True)
def churn() -> None:
    """A second of events, then the next task. One whose process is killed comes again."""
    end = time.monotonic() + TURN
    while time.monotonic() < end:
        note("task")
        time.sleep(PAUSE)
    if not os.path.exists(STOP):
        churn.delay()


@signals.worker_ready.connect
def send_all(**_: Any) -> None:
    for _ in range(json.loads(os.environ["APP_PLAN"]).get("churn", 0)):
        churn.delay()
