"""The server as a child process: started, stopped, paused.

Guarantees:
    The server ends with stop() and when this process dies, however it dies (the server watches a
    pipe that only this process and its forks hold open). A paused server is the exception: it can
    notice nothing until it is resumed or stopped. In a fork of this process stop() does nothing.
Assumes:
    One thread calls the methods.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

START_TIMEOUT = 30.0  # seconds until the server must listen
STOP_TIMEOUT = 5.0  # seconds until a server that does not stop is killed


class ServerProcess:
    """``python -m whisperr.sandbox`` with these options, in a folder of its own."""

    def __init__(self, options: list[str]) -> None:
        self.url = ""
        self._options = options
        self._child: subprocess.Popen[str] | None = None
        self._folder: str | None = None
        self._owner = os.getpid()

    @property
    def pid(self) -> int:
        """Raises RuntimeError when it was not started."""
        return self._running().pid

    def start(self) -> None:
        """Start the server and wait until it listens. Raises RuntimeError with what it said."""
        if self._child is not None:
            raise RuntimeError("the sandbox is already started")
        self._owner = os.getpid()
        self._folder = tempfile.mkdtemp(prefix="whisperr-sandbox-")
        with open(self._stderr_file(), "wb") as stderr:
            self._child = subprocess.Popen(
                [sys.executable, "-m", "whisperr.sandbox", "--exit-with-parent", *self._options],
                cwd=self._folder,
                env=_environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                universal_newlines=True,
            )
        self.url = self._first_line(self._child)
        if not self.url:
            said = self._stderr_file().read_text(errors="replace").strip()
            self.stop()
            raise RuntimeError(f"the sandbox did not start: {said or 'it said nothing'}")
        # Removed under the server's feet, so that nothing stays if this process is killed.
        shutil.rmtree(self._folder, ignore_errors=True)

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

    def _running(self) -> subprocess.Popen[str]:
        if self._child is None:
            raise RuntimeError("the sandbox is not started")
        return self._child

    def _stderr_file(self) -> Path:
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
    root = str(Path(__file__).resolve().parents[3])
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
