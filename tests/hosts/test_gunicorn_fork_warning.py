"""A preloaded gunicorn forks without a thread of ours, so without a warning about threads."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from gunicorn.config import KNOWN_SETTINGS

from support.apps import assert_arrived
from support.deadlines import generous
from whisperr.sandbox import Sandbox

WARNS = sys.version_info >= (3, 12)  # of a fork in a process with several threads
TIMEOUT = generous(20.0)  # seconds for each step

APP = """
import os
from whisperr import Whisperr

client = Whisperr(os.environ["APP_KEY"], base_url=os.environ["APP_URL"])
{at_import}

def app(environ, start_response):
    client.track("user", "was_served", {{"n": 1}})
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]
"""


class Master:
    """A running gunicorn, and what it wrote so far."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.said = ""

    def read_until(self, pattern: str, times: int = 1) -> str:
        """The first group of the pattern, once it was written so often."""
        assert self.process.stderr is not None
        while len(re.findall(pattern, self.said)) < times:
            line = self.process.stderr.readline()
            assert line, f"ended without {pattern}\n{self.said}"
            self.said += line
        return str(re.findall(pattern, self.said)[0])

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.said += self.process.communicate(timeout=TIMEOUT)[1]
        assert self.process.returncode == 0, self.said


@contextlib.contextmanager
def gunicorn(folder: Path, environment: dict[str, str]) -> Iterator[Master]:
    """A preloaded gunicorn with two workers, every warning of its Python shown."""
    command = [sys.executable, "-W", "always", "-m", "gunicorn", "--preload", "--workers", "2"]
    command += ["--bind", "127.0.0.1:0", "--pythonpath", str(folder), "app:app"]
    if any("--no-control-socket" in (setting.cli or ()) for setting in KNOWN_SETTINGS):
        command.append("--no-control-socket")  # it needs a thread in the master
    process = subprocess.Popen(
        command,
        cwd=str(folder),
        env={**os.environ, **environment, "PYTHONWARNINGS": "always"},
        stderr=subprocess.PIPE,
        universal_newlines=True,
        start_new_session=True,
    )
    try:
        yield Master(process)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@pytest.mark.parametrize(
    "at_import, warns",
    [("", False), ('client.track("user", "was_imported", {"n": 0})', WARNS)],
    ids=["only-constructed", "tracked"],
)
def test_a_preloaded_master_is_warned_of_its_threads_only_if_it_tracked(
    server: Sandbox, key: str, tmp_path: Path, at_import: str, warns: bool
) -> None:
    """A master that only constructs the client forks its workers without Python's warning about
    threads; one that has tracked before (the control) does not. Both deliver everything.
    """
    (tmp_path / "app.py").write_text(APP.format(at_import=at_import))
    with gunicorn(tmp_path, {"APP_KEY": key, "APP_URL": server.url}) as master:
        url = master.read_until(r"Listening at: (\S+)")
        master.read_until(r"Booting worker", times=2)
        with urllib.request.urlopen(url, timeout=TIMEOUT) as answer:
            assert answer.read() == b"ok"
        master.stop()
    warned = re.search(r"DeprecationWarning: .*multi-threaded, use of fork", master.said)
    assert bool(warned) is warns, master.said
    assert_arrived(server, key, [0, 1] if at_import else [1])
