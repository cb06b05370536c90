"""Forks in the middle of track(), and in the hooks of others."""

from __future__ import annotations

from pathlib import Path

import pytest

from support import run_program
from support.apps import assert_arrived
from support.journal_programs import run_journal_program
from whisperr.sandbox import Sandbox

PROGRAM = """
import os, signal, sys
from whisperr import Whisperr

journal = {"journal_dir": "journal"} if sys.argv[4] else {}
client = Whisperr(sys.argv[2], base_url=sys.argv[1], flush_at=1, max_queue_size=1_000_000, **journal)
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


def _counts(tmp_path: Path, server: Sandbox, key: str, state: str, journal: str) -> None:
    run_program(PROGRAM, tmp_path, arguments=[server.url, key, state, journal])
    ledger = server.ledger(key)
    expected = 40 + (state == "used")  # each call once, in the parent; each child's own once
    assert (ledger["arrived"], ledger["numbers"], ledger["twice"]) == (expected, expected, 0)


with_journal_or_not = pytest.mark.parametrize("journal", ["", "journal"], ids=["memory", "journal"])


@with_journal_or_not
def test_a_call_that_forks_is_delivered_by_the_parent_alone(
    tmp_path: Path, server: Sandbox, key: str, journal: str
) -> None:
    """The call goes on in both processes; its event arrives once, the child's own events too."""
    _counts(tmp_path, server, key, "used", journal)


@with_journal_or_not
def test_the_first_call_of_a_process_may_fork(
    tmp_path: Path, server: Sandbox, key: str, journal: str
) -> None:
    """Likewise where there was no sender yet when the fork came."""
    _counts(tmp_path, server, key, "fresh", journal)


# Another process looks for what the dead left, and finds nothing.
STRANGER = """
def look():
    stranger = durable()
    assert stranger.flush()
    assert stranger.stats()["adopted"] == 0, stranger.stats()
    assert stranger.shutdown()

"""
# Forks when a method of ours is called for the first time, before it or behind it. The child
# goes on with the call when its parent has done so.
FORKS_INSIDE = """
children = []
gate, opened = os.pipe()

def fork_inside(kind, name, behind=False):
    method = getattr(kind, name)

    def forking(*arguments):
        result = method(*arguments) if behind else None
        setattr(kind, name, method)
        pid = os.fork()
        if pid:
            children.append(pid)
        else:
            track(client, [1])  # as a signal handler that forks and goes on
            os.read(gate, 1)
        return result if behind else method(*arguments)

    setattr(kind, name, forking)
"""
MOMENTS = {
    "a new engine": 'fork_inside(whisperr._delivery.engine.Engine, "__init__", behind=True)',
    "a new worker": 'fork_inside(whisperr._delivery.sender_thread.SenderThread, "__init__", behind=True)',
    "a new journal": 'fork_inside(whisperr._journal.journal.Journal, "__init__")',
    "a new chain": 'fork_inside(whisperr._journal.ownership.Chain, "new_segment")',
    "a first segment": 'fork_inside(whisperr._journal.log.Log, "_make")',
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_fork_inside_the_first_call(
    tmp_path: Path, server: Sandbox, key: str, moment: str
) -> None:
    """Parent and child each go on in their own journal, and nobody takes the living parent's."""
    source = f"""
{STRANGER}
{FORKS_INSIDE}
client = durable()
import whisperr._journal.journal, whisperr._delivery.sender_thread
{MOMENTS[moment]}
parent = os.getpid()
undelivered(client, [0])
if os.getpid() != parent:
    track(client, [2])
    assert client.shutdown(), client.stats()
    os._exit(0)
os.write(opened, b"!")
reap(children)
assert children
reap([fork(look)])
track(client, [3])
assert client.shutdown(), client.stats()
assert files() == [], files()
"""
    run_journal_program(server, key, tmp_path, source)
    assert_arrived(server, key, range(4))


@pytest.mark.parametrize("token", ["page", "pid"])
def test_a_hook_of_the_application_that_comes_first(
    tmp_path: Path, server: Sandbox, key: str, token: str
) -> None:
    """What it tracks in the child is the child's, and the child's journal stays open."""
    source = f"""
{STRANGER}
import logging  # before the hook, see the known limits of docs/explanation/concurrency.md

def first():
    if tracking:
        track(client, [tracking.pop()])

tracking = [1]

os.register_at_fork(after_in_child=first)
from whisperr._process import fork_token
if {token == "pid"}:
    fork_token._new = fork_token._ByPid
client = durable()
track(client, [0])

def child():
    ready.set()
    assert done.wait(20)
    track(client, [2])
    assert client.shutdown(), client.stats()

import multiprocessing
context = multiprocessing.get_context("fork")
ready, done = context.Event(), context.Event()
pid = fork(child)
tracking.clear()
assert ready.wait(20)
reap([fork(look)])
done.set()
reap([pid])
assert client.shutdown()
assert files() == [], files()
"""
    run_journal_program(server, key, tmp_path, source)
    assert_arrived(server, key, range(3))
