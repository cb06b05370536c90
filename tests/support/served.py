"""The application that the tests' servers run: it tracks, and keeps an account of its own.

Numbers its events (``properties.n``) and writes each number down whose ``track()`` returned; besides
what it is told of trouble, and whether gevent had patched when a sender was started. All processes
append to the same files, one line in one piece each.
"""

from __future__ import annotations

import faulthandler
import importlib
import itertools
import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Iterable
from typing import Any, Callable

SETUP = json.loads(os.environ["SERVED"])
TICK = 0.05  # seconds
SLOW = 1.0  # seconds
HANG = 60.0  # seconds; whoever asks for it is killed before

faulthandler.register(signal.SIGRTMIN, file=2, all_threads=True)


class Lines:
    """A file that this and other processes append to."""

    def __init__(self, name: str) -> None:
        path = os.path.join(SETUP["folder"], name)
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def add(self, **fields: Any) -> None:
        os.write(self._file, (json.dumps({"pid": os.getpid(), **fields}) + "\n").encode())


class Warnings(logging.Handler):
    """What the logger ``whisperr`` says of trouble."""

    def emit(self, record: logging.LogRecord) -> None:
        warnings.add(said=record.getMessage())


accounts, reports, warnings, senders = map(Lines, ("accounts", "reports", "warnings", "senders"))
logging.getLogger("whisperr").addHandler(Warnings(logging.WARNING))


def _watch_starts() -> None:
    start = threading.Thread.start

    def watched(thread: threading.Thread) -> None:
        if thread.name == "whisperr":
            monkey = sys.modules.get("gevent.monkey")
            senders.add(patched=bool(monkey and monkey.is_module_patched("threading")))
        start(thread)

    threading.Thread.start = watched  # type: ignore


_watch_starts()

from whisperr import Whisperr, WhisperrError  # noqa: E402  (the watch comes first)

for module in SETUP["imports"]:
    importlib.import_module(module)


def _heard(error: WhisperrError) -> None:
    reports.add(type=error.type, count=error.count, message=error.message)


client = Whisperr(SETUP["key"], base_url=SETUP["url"], on_error=_heard, **SETUP["options"])
_numbers = itertools.count(1)  # a fork copies it: the number of an event has the process in it


def note(where: str) -> None:
    n = f"{os.getpid()} {next(_numbers)}"
    client.track("user_42", "was_served", {"n": n, "where": where})
    accounts.add(n=n, where=where, time=time.time())


for _ in range(SETUP["at_import"]):
    note("import")


# --- requests


def _senders() -> str:
    """The process, its senders, and how many events it has tracked by now."""
    names = [thread.name for thread in threading.enumerate()]
    told = {"pid": os.getpid(), "senders": names.count("whisperr"), **_tracked()}
    return json.dumps(told)


def _tracked() -> dict[str, int]:
    return {"tracked": client.stats()["accepted"]}


def _tick() -> str:
    """Track from now on, in a thread, until the process ends."""

    def ticking() -> None:
        while True:
            note("tick")
            time.sleep(TICK)

    threading.Thread(target=ticking, daemon=True).start()
    return "ticking"


def _hang() -> str:
    time.sleep(HANG)
    return "woken"


def _slow() -> str:
    """Track, and once more much later."""
    note("slow")
    time.sleep(SLOW)
    note("slow")
    return "ok"


def _one() -> str:
    note("request")
    return "ok"


ANSWERS: dict[str, Callable[[], str]] = {
    "/": _one,
    "/senders": _senders,
    "/tick": _tick,
    "/hang": _hang,
    "/slow": _slow,
}


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """WSGI."""
    body = ANSWERS[environ["PATH_INFO"]]().encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


async def asgi(scope: Any, receive: Any, send: Any) -> None:
    """ASGI, and like many an application it knows no lifespan."""
    if scope["type"] != "http":
        raise ValueError(f"{scope['type']} is not supported")
    await answer(send, ANSWERS[scope["path"]]())


async def answer(send: Any, text: str) -> None:
    body = text.encode()
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
