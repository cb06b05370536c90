"""The project of tests/django_site as a user runs it: copied, migrated, served by real servers."""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from support.deadlines import generous
from support.groups import Group, started
from whisperr.sandbox import Sandbox

SITE = Path(__file__).resolve().parent.parent / "hosts" / "django_site"
TIMEOUT = generous(30.0)  # seconds for one request, or one command
GUNICORN_CONFIGURATION = "control_socket_disable = True\n"  # older ones don't know it


@dataclass(frozen=True)
class Page:
    """One response, its headers in lower case."""

    status: int
    headers: dict[str, str]
    body: str

    @property
    def session(self) -> str:
        """The session that it opened, as a Cookie header."""
        return self.headers["set-cookie"].partition(";")[0]


class Project:
    """A copy of the project in a folder of its own, with a database that was migrated before."""

    def __init__(self, folder: Path, database: Path, server: Sandbox, key: str) -> None:
        self.folder = folder
        self.site = folder / "django_site"
        shutil.copytree(str(SITE), str(self.site), ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(str(SITE / "manage.py"), str(folder))
        shutil.copy(str(database), str(folder / "site.sqlite3"))
        (folder / "gunicorn.conf.py").write_text(GUNICORN_CONFIGURATION)
        self.environment = {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "django_site.settings",
            "SITE_DATABASE": str(folder / "site.sqlite3"),
            "SITE_KEY": key,
            "SITE_URL": server.url,
            "PYTHONDONTWRITEBYTECODE": "1",  # a module changed within a second is seen as changed
            "PYTHONWARNINGS": "default",  # a server's own are not what is tested
        }

    def configure(self, lines: str) -> None:
        """Add lines to the settings."""
        with open(self.site / "settings.py", "a") as settings:
            settings.write(lines)

    def manage(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """``manage.py``, to its end."""
        return subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=str(self.folder),
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
        )

    def gunicorn(self, *options: str) -> contextlib.AbstractContextManager[Served]:
        command = ["-m", "gunicorn", "django_site.wsgi", "--bind", "fd://{fd}", *options]
        return self._serve(command)

    def uvicorn(
        self, application: str = "asgi", *options: str
    ) -> contextlib.AbstractContextManager[Served]:
        command = ["-m", "uvicorn", f"django_site.{application}:application", "--fd", "{fd}"]
        return self._serve([*command, "--loop", "asyncio", *options])

    @contextlib.contextmanager
    def runserver(self, *options: str) -> Iterator[Served]:
        """It can't be handed a socket: it gets the number of a port that was free just now."""
        with socket.socket() as listening:
            listening.bind(("127.0.0.1", 0))
            port = listening.getsockname()[1]
        command = ["manage.py", "runserver", f"127.0.0.1:{port}", *options]
        with self._start(command, port) as served:
            served.await_page("/plain/")
            yield served

    @contextlib.contextmanager
    def _serve(self, command: list[str]) -> Iterator[Served]:
        with socket.socket() as listening:
            listening.bind(("127.0.0.1", 0))
            listening.listen(64)  # from now on a request waits for the server instead of failing
            fd, port = listening.fileno(), listening.getsockname()[1]
            with self._start([part.format(fd=fd) for part in command], port, fd) as served:
                yield served

    @contextlib.contextmanager
    def _start(self, command: list[str], port: int, *fds: int) -> Iterator[Served]:
        log = self.folder / "server.log"
        with open(log, "wb") as output, started(
            [sys.executable, *command],
            lambda: log.read_text(errors="replace"),
            cwd=str(self.folder),
            env=self.environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            pass_fds=fds,
        ) as group:
            yield Served(group, port, log)


class Served:
    """A server under way."""

    def __init__(self, group: Group, port: int, log: Path) -> None:
        self._group = group
        self._port = port
        self._log = log

    def get(self, path: str, session: str | None = None) -> Page:
        """One request on one connection. 500 is an answer too."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=TIMEOUT)
        try:
            connection.request("GET", path, headers={"Cookie": session} if session else {})
            response = connection.getresponse()
            body = response.read().decode()
        except OSError as error:
            raise AssertionError(f"{path}: {error}\n{self.said()}") from error
        finally:
            connection.close()
        headers = {name.lower(): value for name, value in response.getheaders()}
        return Page(response.status, headers, body)

    def await_page(self, path: str, ends_with: str = "") -> Page:
        """The page, once the server answers and the body ends so."""
        pages: list[Page] = []

        def is_there() -> bool:
            with contextlib.suppress(AssertionError):
                pages.append(self.get(path))
            return bool(pages) and pages[-1].body.endswith(ends_with)

        self._group.wait_for(is_there, f"no {path} that ends with {ends_with!r}")
        return pages[-1]

    def said(self) -> str:
        return self._log.read_text(errors="replace")

    def stop(self, number: signal.Signals, *, group: bool = False) -> int:
        """The exit status after this signal: to the server, or as the terminal's to the group."""
        self._group.send(number, to_all=group)
        return self._group.wait_for_end()
