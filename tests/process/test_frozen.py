"""A process that is frozen and thawed, as serverless hosts do between two requests."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from support import run_program
from support.clients import DEADLINE, assert_arrived
from support.freezing import freeze, thaw
from support.sockets import await_peer_close
from whisperr.sandbox import Sandbox

SHORT = 3.0  # seconds frozen, more than the server keeps an idle connection
LONG = 60.0  # seconds
WORK_TIME = 30.0  # seconds for all that a program does while it is not frozen

PROGRAM = """
import os, signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})  # before there is any other thread
from whisperr import Whisperr

url, key = sys.argv[1:]
errors = []
client = Whisperr(key, base_url=url, on_error=errors.append)

def track(n):
    client.track("user", "number_seen", {"n": n})

def be_frozen():
    with open("ready", "w") as pipe:
        pipe.write(str(os.getpid()))

def go_on():
    signal.sigwait({signal.SIGUSR2})
"""


@pytest.fixture
def hasty() -> Iterator[Sandbox]:
    """A server that closes a connection after a second without a request."""
    with Sandbox(keep_alive=1, numbers=True) as sandbox:
        yield sandbox


@contextlib.contextmanager
def running(server: Sandbox, key: str, folder: Path, body: str, pause: float) -> Iterator[int]:
    """A program in the background: its process id once it wants to be frozen. At the end of the
    block, no sooner than after the pause, it goes on, and must come to its own end."""
    os.mkfifo(folder / "ready")
    ready = os.open(folder / "ready", os.O_RDONLY | os.O_NONBLOCK)
    with ThreadPoolExecutor(1) as pool:
        arguments, limit = (server.url, key), WORK_TIME + pause
        program = pool.submit(
            run_program, PROGRAM + body, folder, arguments=arguments, timeout=limit
        )
        try:
            assert select.select([ready], [], [], DEADLINE)[0], "the program does not come up"
            pid, begun = int(os.read(ready, 100)), time.monotonic()
            yield pid
            time.sleep(max(0.0, begun + pause - time.monotonic()))
            os.kill(pid, signal.SIGUSR2)  # kept until it runs again
            thaw(pid)
        finally:
            os.close(ready)
            program.result()  # at its deadline the program is killed


def deliver_after(server: Sandbox, key: str, folder: Path, pause: float) -> None:
    body = """
track(0)
assert client.flush()
track(1)  # waits in the queue while the process is frozen
be_frozen()
go_on()
track(2)
assert client.flush(), client.stats()
assert not errors, errors
"""
    with running(server, key, folder, body, pause) as pid:
        freeze(pid)
        await_peer_close(server.url)
        assert_arrived(server, key, 1)
    ledger = assert_arrived(server, key, 3)
    assert (ledger["connections"], ledger["resent"]) == (2, 0)


def test_a_frozen_process_delivers_on_its_next_flush(
    hasty: Sandbox, key: str, tmp_path: Path
) -> None:
    """A process frozen for longer than the server keeps its idle connection delivers, on the next
    flush(), what was queued before and after, over a new connection."""
    deliver_after(hasty, key, tmp_path, SHORT)


@pytest.mark.storm
def test_a_process_frozen_for_a_minute_delivers_on_its_next_flush(
    hasty: Sandbox, key: str, tmp_path: Path
) -> None:
    """The same after a minute, by when the interval of the queued event is long over."""
    deliver_after(hasty, key, tmp_path, LONG)


def test_a_request_that_is_out_survives_a_freeze(hasty: Sandbox, key: str, tmp_path: Path) -> None:
    """A process frozen while its request is out finds the answer when it goes on, and sends nothing
    again, though the server has closed the connection meanwhile."""
    body = """
be_frozen()
track(0)
assert client.flush()
go_on()
track(1)
assert client.flush()
assert client.stats()["retries"] == 0
assert not errors, errors
"""
    hasty.inject(key, {"do": "delay", "seconds": 1})
    with running(hasty, key, tmp_path, body, SHORT) as pid:
        hasty.wait_for(key, 1)
        freeze(pid)
        await_peer_close(hasty.url)
    ledger = assert_arrived(hasty, key, 2)
    assert (ledger["requests"], ledger["resent"], ledger["hung_up"]) == (2, 0, 0)


def test_a_retry_survives_a_freeze(hasty: Sandbox, key: str, tmp_path: Path) -> None:
    """A process frozen in a back-off goes on with it, over a new connection, and loses nothing."""
    body = """
track(0)
track(1)
assert not client.flush(1)  # by now in the back-off
be_frozen()
go_on()
assert client.flush(), client.stats()
assert client.stats()["retries"] == 1
assert not errors, errors
"""
    hasty.inject(key, {"do": "status", "status": 429, "headers": {"Retry-After": "2"}})
    with running(hasty, key, tmp_path, body, SHORT) as pid:
        freeze(pid)
        assert_arrived(hasty, key, 0)
        await_peer_close(hasty.url)
    ledger = assert_arrived(hasty, key, 2)
    assert (ledger["requests"], ledger["connections"]) == (2, 2)
