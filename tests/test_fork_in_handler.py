"""A signal handler that forks in the middle of track()."""

from __future__ import annotations

from pathlib import Path

from support import run_program
from whisperr.sandbox import Sandbox

PROGRAM = """
import os, signal, sys
from whisperr import Whisperr

client = Whisperr(sys.argv[2], base_url=sys.argv[1], flush_at=1, max_queue_size=1_000_000)
parent = os.getpid()
children = []

class Forks:
    # Its conversion runs inside track(), after the client looked at the process id.
    def __init__(self, number):
        self.number = number

    def __fspath__(self):
        pid = os.fork()
        if pid:
            children.append(pid)
        else:
            client.track("u", "made_in_the_child", {"n": f"child {self.number}"})
        return str(self.number)

os.PathLike.register(Forks)

if sys.argv[3] == "used":
    client.track("u", "first", {"n": "first"})
for number in range(20):
    client.track("u", "forks_inside", {"n": f"call {number}", "path": Forks(number)})
    if os.getpid() != parent:
        sys.exit(0)
for pid in children:
    assert os.waitpid(pid, 0)[1] == 0
"""


def _counts(tmp_path: Path, server: Sandbox, key: str, state: str) -> None:
    run_program(PROGRAM, tmp_path, arguments=[server.url, key, state])
    ledger = server.ledger(key)
    expected = 40 + (state == "used")  # each call once, in the parent; each child's own once
    assert (ledger["arrived"], ledger["numbers"], ledger["twice"]) == (expected, expected, 0)


def test_a_call_that_forks_is_delivered_by_the_parent_alone(
    tmp_path: Path, server: Sandbox, key: str
) -> None:
    """The call goes on in both processes; its event arrives once, the child's own events too."""
    _counts(tmp_path, server, key, "used")


def test_the_first_call_of_a_process_may_fork(tmp_path: Path, server: Sandbox, key: str) -> None:
    """Likewise where there was no sender yet when the fork came."""
    _counts(tmp_path, server, key, "fresh")
