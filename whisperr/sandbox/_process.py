"""The sandbox as a child process, with its controls as methods.

Guarantees:
    The server ends with stop(), with the end of the ``with`` block, and when this process dies,
    however it dies (the server watches a pipe that only this process and its forks hold open).
    A paused server is the exception: it can notice nothing until it is resumed or stopped.
    A fork of this process may use the controls; stop() and the end of the block do nothing there.
Assumes:
    start(), stop(), pause() and resume() are called by one thread. The controls hold no state
    and may be called by any.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

START_TIMEOUT = 30.0  # seconds until the server must listen
STOP_TIMEOUT = 5.0  # seconds until a server that does not stop is killed
CALL_TIMEOUT = 30.0  # seconds for one control call, on top of what it is told to wait


class Sandbox:
    """A server on loopback, running between ``start()`` and ``stop()`` or in a ``with`` block.

    port: 0 for any free one. keep_alive: seconds after which it closes an idle connection.
    Every method that takes a key looks at, or orders for, the requests made with that API key.
    """

    def __init__(self, *, port: int = 0, keep_alive: float = 75.0) -> None:
        self._options = ["--port", str(port), "--keep-alive", str(keep_alive)]
        self._child: subprocess.Popen[str] | None = None
        self._folder: str | None = None
        self._owner = os.getpid()
        self._url = ""

    def __enter__(self) -> Sandbox:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """``http://127.0.0.1:<port>``, to be used as ``base_url``."""
        return self._url

    @property
    def pid(self) -> int:
        """The server's process id. Raises RuntimeError when it was not started."""
        return self._running().pid

    # --- the process

    def start(self) -> Sandbox:
        """Start the server and wait until it listens. Raises RuntimeError with what it said."""
        if self._child is not None:
            raise RuntimeError("the sandbox is already started")
        self._owner = os.getpid()
        self._folder = tempfile.mkdtemp(prefix="whisperr-sandbox-")
        with open(self._complaints(), "wb") as complaints:
            self._child = subprocess.Popen(
                [sys.executable, "-m", "whisperr.sandbox", "--exit-with-parent", *self._options],
                cwd=self._folder,
                env=_environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=complaints,
                universal_newlines=True,
            )
        self._url = self._first_line(self._child)
        if not self._url:
            said = self._complaints().read_text(errors="replace").strip()
            self.stop()
            raise RuntimeError(f"the sandbox did not start: {said or 'it said nothing'}")
        # Removed under the server's feet, so that nothing stays if this process is killed.
        shutil.rmtree(self._folder, ignore_errors=True)
        return self

    def stop(self) -> None:
        """End the server, by force if it must be; what it counted is gone. May be repeated."""
        child, folder = self._child, self._folder
        if child is None or self._owner != os.getpid():
            return
        self._child = self._folder = None
        if child.poll() is None:
            if sys.platform != "win32":
                child.send_signal(signal.SIGCONT)  # a paused process would not see the next one
            child.terminate()
            try:
                child.wait(STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                pipe.close()
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)  # Windows keeps it while it is in use

    def pause(self) -> None:
        """Freeze the server: the kernel still accepts connections, but nothing is read.

        Returns once it is frozen. Raises NotImplementedError on Windows, as does resume().
        """
        child = self._running()
        if sys.platform == "win32":
            raise NotImplementedError("Windows cannot pause a process")
        else:
            child.send_signal(signal.SIGSTOP)
            if hasattr(os, "waitid"):  # macOS has it from Python 3.13 on
                with contextlib.suppress(ChildProcessError):  # called in a fork: not its child
                    os.waitid(os.P_PID, child.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def resume(self) -> None:
        """Let a paused server go on."""
        child = self._running()
        if sys.platform == "win32":
            raise NotImplementedError("Windows cannot pause a process")
        else:
            child.send_signal(signal.SIGCONT)

    # --- the controls

    def ledger(self, key: str) -> dict[str, Any]:
        """The counts; see ``whisperr.sandbox.store`` for their meaning."""
        return dict(self._call("GET", key, "ledger"))

    def events(self, key: str) -> list[dict[str, Any]]:
        """The first copy of every accepted event, in the order of arrival."""
        return list(self._call("GET", key, "events"))

    def identities(self, key: str) -> list[dict[str, Any]]:
        """Every accepted identity, in the order of arrival, without the resent ones."""
        return list(self._call("GET", key, "identities"))

    def requests(self, key: str) -> list[dict[str, Any]]:
        """Every request that was read: path, status (0: no answer), count, connection, time."""
        return list(self._call("GET", key, "requests"))

    def inject(self, key: str, *faults: dict[str, Any]) -> None:
        """Queue faults; see ``whisperr.sandbox.faults``. Raises ValueError for what is not one."""
        self._call("POST", key, "faults", json.dumps(faults))

    def faults(self, key: str) -> list[dict[str, Any]]:
        """The faults that still wait, each with the ``times`` it has left."""
        return list(self._call("GET", key, "faults"))

    def clear_faults(self, key: str) -> None:
        """Drop the faults that still wait."""
        self._call("DELETE", key, "faults")

    def forget(self, key: str) -> None:
        """Start this key anew: ledger, events, requests and faults."""
        self._call("DELETE", key, "forget")

    def killed(self, key: str) -> int:
        """Say that a client of this key was killed just now; returns the number of entries excused.

        A killed client may not have read its last answer, so the latest request of each
        connection may be repeated once as *resent*.
        """
        return int(self._call("POST", key, "killed")["excused"])

    def wait_for(
        self, key: str, count: int, timeout: float = 10.0, *, field: str = "arrived"
    ) -> dict[str, Any]:
        """The ledger, once its ``field`` is at least ``count``.

        Raises TimeoutError with the ledger after ``timeout`` seconds.
        """
        query = urlencode({field: count, "timeout": timeout})
        found = self._call("GET", key, f"wait?{query}", timeout=timeout)
        if not found["reached"]:
            raise TimeoutError(f"{field} < {count} after {timeout} s: {found['ledger']}")
        return dict(found["ledger"])

    # --- inside

    def _call(
        self, method: str, key: str, what: str, body: str | None = None, timeout: float = 0.0
    ) -> Any:
        # http.client knows no proxies: nothing in the environment can come between.
        host = urlsplit(self._url).netloc
        connection = http.client.HTTPConnection(host, timeout=timeout + CALL_TIMEOUT)
        try:
            connection.request(method, f"/sandbox/{quote(key, safe='')}/{what}", body)
            response = connection.getresponse()
            answer = json.loads(response.read())
        finally:
            connection.close()
        if response.status != 200:
            raise ValueError(answer["error"])
        return answer

    def _running(self) -> subprocess.Popen[str]:
        if self._child is None:
            raise RuntimeError("the sandbox is not started")
        return self._child

    def _complaints(self) -> Path:
        return Path(self._folder or "", "stderr")

    def _first_line(self, child: subprocess.Popen[str]) -> str:
        """What the child prints first, or nothing if it ends or keeps silent too long."""
        lines: list[str] = []

        def read() -> None:
            assert child.stdout is not None
            lines.append(child.stdout.readline().strip())

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        reader.join(START_TIMEOUT)
        if reader.is_alive():
            child.kill()  # which ends the reader as well
            reader.join()
        return lines[0] if lines else ""


def _environment() -> dict[str, str]:
    """The child's environment, in which it imports the same ``whisperr`` as this process."""
    environment = dict(os.environ)
    environment.pop("PYTHONWARNINGS", None)  # meant for the program under test
    root = str(Path(__file__).resolve().parents[2])
    entries = [
        os.path.abspath(entry)
        for entry in environment.get("PYTHONPATH", "").split(os.pathsep)
        if entry
    ]
    if os.path.basename(root) not in ("site-packages", "dist-packages"):
        entries.append(root)
    if entries:
        environment["PYTHONPATH"] = os.pathsep.join(entries)
    return environment
