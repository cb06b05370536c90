"""A Celery application: one event for each task, and one import. ``python tasks.py N`` sends N."""

from __future__ import annotations

import os
import sys
from functools import partial

from accounts import Accounts
from celery import Celery

import whisperr.integrations.celery  # noqa: F401
from whisperr import Whisperr

app = Celery("tasks", broker=os.environ["DEMO_BROKER"])
client = Whisperr()
accounts = Accounts("task")


@app.task(ignore_result=True)
def renew() -> None:
    accounts.track(partial(client.track, "user_42"), "renewal_succeeded")


if __name__ == "__main__":
    for _ in range(int(sys.argv[1])):
        app.send_task("tasks.renew")
