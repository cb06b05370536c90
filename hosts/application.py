"""What every host runs: it tracks numbered events, and writes each number down whose ``track()`` has returned.

In the environment: HOSTS_URL, HOSTS_KEY, HOSTS_FOLDER, HOSTS_OPTIONS (of the client, as JSON), HOSTS_LINE
(Python that runs at import, after the client is made).
"""

from __future__ import annotations

import itertools
import json
import os
import time
from typing import Any, Callable, Iterable

from whisperr import Whisperr, lifecycle

WAIT = 300.0  # seconds; whoever waits is ended before

client = Whisperr(
    os.environ["HOSTS_KEY"],
    base_url=os.environ["HOSTS_URL"],
    **json.loads(os.environ["HOSTS_OPTIONS"]),
)
_numbers = itertools.count(1)  # a fork copies it: a number has the process in it
_accounts = os.path.join(os.environ["HOSTS_FOLDER"], "accounts")
_line = os.environ["HOSTS_LINE"]
if not _line.startswith("# flush"):
    exec(_line, {"lifecycle": lifecycle, "client": client})


def note(_: object = None) -> None:
    """One event."""
    n = f"{os.getpid()} {next(_numbers)}"
    client.track("user_42", "was_hosted", {"n": n})
    file = os.open(_accounts, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(file, f"{n}\n".encode())
    os.close(file)
    if _line.startswith("# flush"):  # the line belongs where the work is done
        client.flush(10)


def many(count: int = 5) -> None:
    """A task that tracks several."""
    for _ in range(count):
        note()


def wait() -> None:
    """What a program does until it is stopped."""
    time.sleep(WAIT)


def wsgi(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    note()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "2")])
    return [b"ok"]


async def asgi(scope: Any, receive: Any, send: Any) -> None:
    """It knows no lifespan."""
    if scope["type"] != "http":
        raise ValueError(f"{scope['type']} is not supported")
    note()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"ok"})
