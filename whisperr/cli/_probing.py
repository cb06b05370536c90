"""Run one of the doctor's probes: a script of ours in a fresh interpreter, with a deadline.

A probe imports what belongs to the user, which may print, patch, start threads, exit or hang.
None of that reaches the doctor, and nothing of whisperr is imported there before it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple, Sequence

_MAX_OUTPUT = 600  # characters of what a failed probe said


class ProbeResult(NamedTuple):
    """What a probe found; or why it found nothing, in a sentence."""

    found: dict[str, Any]
    problem: str = ""


def probe(script: str, arguments: Sequence[str], timeout: float) -> ProbeResult:
    """Run ``script``, a module beside this one. It writes JSON to the file it is given first."""
    source = Path(__file__).with_name(f"{script}.py").read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory(prefix="whisperr-doctor-") as folder:
        answer, printed = Path(folder, "answer"), Path(folder, "output")
        with open(printed, "wb") as output:
            # -c, as for a server: the current folder is on the path, that of the script is not.
            child = subprocess.Popen(
                [sys.executable, "-c", source, str(answer), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                status = child.wait(timeout)
            except subprocess.TimeoutExpired:
                _kill(child)
                return ProbeResult({}, f"it is not done after {timeout:g} s")
        if answer.exists():
            return ProbeResult(dict(json.loads(answer.read_text(encoding="utf-8"))))
        said = printed.read_text(errors="replace").strip()[-_MAX_OUTPUT:]
        return ProbeResult({}, f"it ends with status {status}" + (f": {said}" if said else ""))


def _kill(child: subprocess.Popen[bytes]) -> None:
    if os.name == "posix":
        import signal

        os.killpg(child.pid, signal.SIGKILL)  # what it has started, too
    else:
        child.kill()
    child.wait()
