"""What uWSGI's first process tracked at import goes to one worker, whichever comes first.

Without a master the first process becomes a worker itself, and may come second. Which of them is
quicker can't be forced under the server, so its module is a double here; the fork is C's own.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from support.journal_programs import WITHOUT_HOOKS, run_journal_program
from whisperr.sandbox import Sandbox


@pytest.mark.parametrize("first", ["child", "importer"])
def test_one_of_two_workers_delivers_it(
    server: Sandbox, key: str, tmp_path: Path, first: str
) -> None:
    """Each event arrives once, and both ledgers close."""
    told = run_journal_program(
        server,
        key,
        tmp_path,
        f"""
{WITHOUT_HOOKS}
import types
worker = [0]
sys.modules["uwsgi"] = types.SimpleNamespace(worker_id=lambda: worker[0], mule_id=lambda: 0)
client = new_client()
track(client, range(5))
ready, go = os.pipe()

def work(number):
    worker[0] = number
    track(client, [10 * number])
    assert client.flush(100)
    tell(**closed(client.stats()))

def child():
    if {first!r} == "importer":
        os.read(ready, 1)
    work(2)
    os._exit(0)

pid = fork_without_hooks(child)
if {first!r} == "importer":
    work(1)
    os.write(go, b"!")
assert os.waitpid(pid, 0)[1] == 0
if {first!r} == "child":
    work(1)
os._exit(0)
""",
    )
    numbers = sorted(event["properties"]["n"] for event in server.events(key))
    assert numbers == [0, 1, 2, 3, 4, 10, 20]
    assert sum(stats["delivered"] for stats in told) == 7
