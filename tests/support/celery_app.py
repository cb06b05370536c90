"""The Celery application of the tests; imported by real workers and beats, never by a test.

What it does beside its tasks is in the environment:
    APP_URL, APP_KEY      the ingestion server
    APP_OPTIONS           of the client, as JSON
    APP_BROKER, APP_CONF  of Celery, the second as JSON
    APP_PLAN              the tasks that a worker sends itself when it is ready, as JSON
    APP_HABITS            words: ``lazy`` (the client is made by the first task of a process),
                          ``main`` (events at import and for each task that is sent), ``farewell``
                          (a receiver, connected after whisperr's, that tracks as a child ends),
                          ``abrupt`` (the main process ends without Python's exit handlers)
    APP_ACCOUNTS          a file: one line for each ``track()`` that returned
    APP_ERRORS            a file: one line for each ``on_error``
"""

from __future__ import annotations

import faulthandler
import functools
import json
import os
import signal
import threading
import time
from itertools import count
from typing import Any

from celery import Celery, signals

import whisperr.integrations.celery
from whisperr import Whisperr, WhisperrError

faulthandler.register(signal.SIGUSR2, file=2, all_threads=True)

HABITS = os.environ["APP_HABITS"].split()
APPEND = os.O_WRONLY | os.O_APPEND | os.O_CREAT
ACCOUNTS = os.open(os.environ["APP_ACCOUNTS"], APPEND)
ERRORS = os.open(os.environ["APP_ERRORS"], APPEND)
numbers = count()
making = threading.Lock()

app = Celery("app", broker=os.environ["APP_BROKER"])
app.conf.update(json.loads(os.environ["APP_CONF"]))


def tell(error: WhisperrError) -> None:
    os.write(ERRORS, b"%d %s %d\n" % (os.getpid(), error.type.encode(), error.count))


@functools.lru_cache(maxsize=None)
def make_client() -> Whisperr:
    options = json.loads(os.environ["APP_OPTIONS"])
    return Whisperr(os.environ["APP_KEY"], base_url=os.environ["APP_URL"], on_error=tell, **options)


def client() -> Whisperr:
    with making:
        return make_client()


def note(kind: str) -> None:
    """Track, then write down that it returned."""
    number = f"{kind} {os.getpid()} {next(numbers)}"
    client().track("user_42", "task_ran", {"n": number})
    os.write(ACCOUNTS, f"{number} {time.monotonic()}\n".encode())


if "lazy" not in HABITS:
    client()
if "main" in HABITS:
    note("import")


# --- tasks


@app.task(name="work")
def work() -> None:
    note("work")


@app.task(name="stay")
def stay() -> None:
    """Until it is told to go; it has its say then, too."""
    note("stay")
    try:
        while True:  # a signal just before one long sleep would be looked at after it
            time.sleep(0.05)
    finally:
        note("left")


@app.task(name="tick")
def tick() -> None:
    while True:
        note("tick")
        time.sleep(0.02)


@app.task(name="stubborn")
def stubborn() -> None:
    """Goes on when it is told to go, so that only SIGKILL ends it, and no receiver runs."""
    try:
        tick()
    except SystemExit:
        tick()


@app.task(name="look")
def look() -> None:
    """Whether the sender of this process runs, before the first event of it."""
    running = {thread.name: thread.is_alive() for thread in threading.enumerate()}
    note("running" if running.get("whisperr") else "absent")


@app.task(name="revoke")
def revoke() -> None:
    """End all tasks that stay, once all of them do."""
    with open(os.environ["APP_ACCOUNTS"], encoding="ascii") as accounts:
        while sum(line.startswith("stay ") for line in accounts) < PLAN["stay"]:
            accounts.seek(0)
            time.sleep(0.02)
    app.control.revoke([f"stay-{n}" for n in range(PLAN["stay"])], terminate=True)
    note("revoked")


# --- signals

PLAN: dict[str, int] = json.loads(os.environ["APP_PLAN"])


@signals.worker_ready.connect
def send_all(**_: Any) -> None:
    for name, times in PLAN.items():
        for n in range(times):
            app.tasks[name].apply_async(task_id=f"{name}-{n}")


@signals.before_task_publish.connect
def published(**_: Any) -> None:
    if "main" in HABITS:
        note("published")


@signals.worker_process_shutdown.connect
def farewell(**_: Any) -> None:
    if "farewell" in HABITS:
        note("farewell")


@signals.worker_shutdown.connect
def leave(**_: Any) -> None:
    if "abrupt" in HABITS:
        os._exit(0)


__all__ = ["app", "whisperr"]
