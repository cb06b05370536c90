"""Real servers (gunicorn, uvicorn, uWSGI), each with the application of ``served.py``.

A server runs in a process group of its own and listens on a Unix socket in the test's folder.
What it said is in the failure of one that does not do what a test waits for.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Callable

from support.deadlines import DEADLINE
from support.groups import Group, started
from support.lazy_imports import mode
from support.parts import find_uwsgi, need
from whisperr.sandbox import Sandbox

HERE = Path(__file__).resolve().parent
APPLICATIONS = ("served.py", "served_asgi.py")
SOCKET = "served.sock"
STATISTICS = "statistics.sock"  # uWSGI's
FLUSH_TIMEOUT = 20.0  # seconds that an ASGI application awaits its flush, if the test does not say
CALLERS = 4  # threads that send requests


class Served:
    """A server under way."""

    def __init__(self, folder: Path, group: Group) -> None:
        self._folder = folder
        self._group = group

    @property
    def pid(self) -> int:
        return self._group.pid

    # --- requests

    def get(self, path: str = "/", timeout: float = DEADLINE) -> str:
        """The body that one request gets. Raises OSError where there is no answer 200."""
        request = f"GET {path} HTTP/1.0\r\nHost: served\r\n\r\n".encode()
        answer = self._exchange(SOCKET, request, timeout)
        head, _, body = answer.partition(b"\r\n\r\n")
        if b" 200 " not in head.partition(b"\r\n")[0]:
            raise ConnectionError(answer)
        return body.decode()

    def ask(self, path: str = "/") -> str:
        """The same, repeated until the server listens and answers."""
        answers: list[str] = []
        self.wait_for(lambda: self._try(path, answers), f"no answer to {path}")
        return answers[0]

    def send(self, count: int) -> None:
        """So many requests that are answered, from several threads."""
        with ThreadPoolExecutor(CALLERS) as callers:
            list(callers.map(self.ask, ["/"] * count))

    def leave_hanging(self, path: str) -> None:
        """Have somebody ask for what is never answered; return when the request has been sent."""
        with contextlib.suppress(OSError):
            self.get(path, timeout=0.2)

    def _exchange(self, name: str, request: bytes, timeout: float = DEADLINE) -> bytes:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(timeout)
            connection.connect(str(self._folder / name))
            connection.sendall(request)
            return b"".join(iter(lambda: connection.recv(65536), b""))

    def _try(self, path: str, answers: list[str]) -> bool:
        with contextlib.suppress(OSError):
            answers.append(self.get(path))
        return bool(answers)

    # --- what its processes wrote

    def lines(self, name: str) -> list[dict[str, Any]]:
        """Of one of the files of served.py."""
        path = self._folder / name
        text = path.read_text() if path.exists() else ""
        return [json.loads(line) for line in text.splitlines()]

    def numbers(self) -> list[str]:
        """What was tracked, by the application's own account."""
        return [line["n"] for line in self.lines("accounts")]

    def said(self) -> str:
        return (self._folder / "said").read_text(errors="replace")

    def uwsgi_workers(self) -> list[dict[str, Any]]:
        """What uWSGI's statistics say of each worker; nothing while it does not answer."""
        with contextlib.suppress(OSError):
            return list(json.loads(self._exchange(STATISTICS, b""))["workers"])
        return []

    def wait_until_idle(self, workers: int) -> None:
        """uWSGI runs no exit handler in a worker that is busy, or that is still loading."""

        def is_idle() -> bool:
            found = self.uwsgi_workers()
            idle = [each for each in found if each["accepting"] and each["status"] == "idle"]
            return len(idle) == len(found) == workers

        self.wait_for(is_idle, f"no {workers} idle workers")

    # --- its life

    def wait_for(self, is_so: Callable[[], bool], complaint: str) -> None:
        self._group.wait_for(is_so, complaint)

    def wait_for_lines(self, name: str, count: int) -> None:
        self.wait_for(lambda: len(self.lines(name)) >= count, f"no {count} lines of {name}")

    def wait_until_said(self, words: str, times: int = 1) -> None:
        self.wait_for(lambda: self.said().count(words) >= times, f"never said {words}")

    def send_signal(self, number: signal.Signals) -> None:
        """To the server's first process alone, as a service manager does."""
        self._group.send(number)

    def stop(self, number: signal.Signals = signal.SIGTERM, *, to_all: bool = False) -> float:
        """Seconds that it took to end after this signal, with nothing of it left behind.

        ``to_all``: to each of its processes, as systemd does by default.
        """
        begun = time.monotonic()
        self._group.send(number, to_all=to_all)
        self._group.wait_for_end()
        return time.monotonic() - begun

    def lives(self) -> bool:
        """Whether any process of it is left."""
        return self._group.lives()

    def kill(self) -> None:
        """Whatever of it is still there."""
        self._group.kill()


class Setting:
    """Where a server of one test runs, for whom, and how its application is made."""

    def __init__(self, folder: Path, server: Sandbox, key: str) -> None:
        self._folder = folder
        self._url = server.url
        self._setup = {"folder": str(folder), "key": key}
        for name in APPLICATIONS:
            shutil.copy(str(HERE / name), str(folder))

    def gunicorn(
        self, application: str, configuration: str, **setup: Any
    ) -> contextlib.AbstractContextManager[Served]:
        """``configuration``: the text of gunicorn.conf.py."""
        (self._folder / "gunicorn.conf.py").write_text(
            f'{configuration}\nbind = "unix:{SOCKET}"\ncontrol_socket = "control.sock"\n'
        )
        return self._serve([sys.executable, "-m", "gunicorn", application], **setup)

    def uvicorn(
        self, application: str, *options: str, **setup: Any
    ) -> contextlib.AbstractContextManager[Served]:
        command = [sys.executable, "-m", "uvicorn", application, "--uds", SOCKET, *options]
        return self._serve(command, **setup)

    def uwsgi(
        self, application: str, *options: str, **setup: Any
    ) -> contextlib.AbstractContextManager[Served]:
        """``application``: of a module, or a file that uWSGI makes a module of."""
        need("uwsgi")
        kind = "--wsgi-file" if application.endswith(".py") else "--module"
        command = [str(find_uwsgi()), "--home", sys.prefix, kind, application]
        if "--master" in options:
            command += ["--stats", STATISTICS]  # without a master, it would bring one
        command += ["--http-socket", SOCKET, "--disable-logging", *options]
        return self._serve(command, **setup)

    def program(
        self, command: list[str], **setup: Any
    ) -> contextlib.AbstractContextManager[Served]:
        """Any other server. It is to listen at SOCKET, in the folder where it runs."""
        return self._serve([sys.executable, *command], **setup)

    @contextlib.contextmanager
    def _serve(
        self,
        command: list[str],
        *,
        at_import: int = 0,
        imports: Iterable[str] = (),
        options: dict[str, Any] | None = None,
        flush_timeout: float = FLUSH_TIMEOUT,
        url: str | None = None,
        environment: dict[str, str] | None = None,
    ) -> Iterator[Served]:
        """The application tracks ``at_import`` events and imports these modules when it is loaded.

        ``options``: of its client. ``flush_timeout``: seconds, of what an ASGI one awaits. ``url``:
        another destination than the server.
        """
        setup = {
            "at_import": at_import,
            "imports": list(imports),
            "options": options or {},
            "flush_timeout": flush_timeout,
            "url": url or self._url,
        }
        paths = [str(self._folder), os.environ.get("PYTHONPATH", "")]
        surroundings = {
            **os.environ,
            **mode(),
            **(environment or {}),
            "PYTHONPATH": os.pathsep.join(filter(None, paths)),
            "SERVED": json.dumps({**self._setup, **setup}),
        }
        words = self._folder / "said"
        with open(words, "wb") as said, started(
            command,
            lambda: words.read_text(errors="replace"),
            dump_by=signal.SIGRTMIN,  # SIGUSR1 has a meaning to servers
            cwd=str(self._folder),
            env=surroundings,
            stdout=said,
            stderr=subprocess.STDOUT,
        ) as group:
            yield Served(self._folder, group)


def assert_delivered(
    server: Sandbox, key: str, tracked: Iterable[str], *, or_more: bool = False
) -> None:
    """Each of these numbers arrived, once, and no other (``or_more``: perhaps others, once too)."""
    expected = Counter(tracked)
    found = Counter(event["properties"]["n"] for event in server.events(key))
    lost, strange = expected - found, found - expected
    ledger = server.ledger(key)
    assert expected, "nothing was tracked"
    assert not lost, f"{sum(lost.values())} of {sum(expected.values())} lost: {sorted(lost)[:20]}"
    assert or_more or not strange, f"{sum(strange.values())} unknown: {sorted(strange)[:20]}"
    assert (ledger["twice"], ledger["resent"], ledger["refused"]) == (0, 0, 0), ledger
