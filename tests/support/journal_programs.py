"""Programs on one journal folder: the names that their sources have beside those of ``apps.py``.

FOLDER                      the journal's folder
durable(key, **options)     a client with a journal there, that delivers only when it is asked to
undelivered(client, ns)     track, without the sender having a chance to deliver
die()                       SIGKILL
files()                     names of the files in the folder, at any depth
closed(stats)               the stats, if the equation of the ledger holds
"""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import Any

from support.apps import PREAMBLE, run_app
from whisperr.sandbox import Sandbox

NAMES = """
import json
import signal
import threading

FOLDER = os.environ.get("APP_JOURNAL") or os.path.join(os.getcwd(), "journal")
NEVER = 1_000_000


def durable(key=KEY, **options):
    patient = {"flush_at": NEVER, "flush_interval": NEVER, "max_retries": 0}
    return new_client(key, journal_dir=FOLDER, **{**patient, **options})


def undelivered(client, numbers):
    start = threading.Thread.start

    def no_thread(thread):
        raise RuntimeError("can't start new thread")

    threading.Thread.start = no_thread
    try:
        track(client, numbers)
    finally:
        threading.Thread.start = start


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def dead(child, *arguments):
    # A child that does this and is killed then.
    pid = fork(lambda: (child(*arguments), die()))
    _, status = os.waitpid(pid, 0)
    assert status == signal.SIGKILL, hex(status)


def files():
    return sorted(name for _, _, names in os.walk(FOLDER) for name in names)


def closed(stats):
    left = stats["delivered"] + sum(stats["dropped"].values()) + stats["pending"] + stats["spilled"]
    assert stats["accepted"] + stats["adopted"] == left, stats
    return stats


def tell(**what):
    os.write(1, json.dumps(what).encode() + b"\\n")  # whole, whoever writes beside


"""

# PyDLL keeps the interpreter's lock, so the child has it: CDLL would leave it to nobody.
WITHOUT_HOOKS = """
def fork_without_hooks(child):
    import ctypes
    pid = ctypes.PyDLL(None).fork()
    if pid == 0:
        try:
            child()
        finally:
            os._exit(1)
    return pid

"""


def run_journal_program(
    server: Sandbox, key: str, folder: Path, source: str, **options: Any
) -> list[dict[str, Any]]:
    """``run_app`` with the names above. Returns what the program told."""
    outcome = run_app(server, key, folder, NAMES + textwrap.dedent(source), **options)
    return [json.loads(line) for line in outcome.stdout.splitlines()]


def source_of(program: str) -> str:
    """The whole text of such a program, for whoever runs it otherwise."""
    return PREAMBLE + NAMES + textwrap.dedent(program)
