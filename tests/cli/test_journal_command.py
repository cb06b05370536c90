"""``whisperr journal``: what it shows, that it disturbs nobody, and what it does to the dead."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.clients import NEVER, assert_arrived
from support.deadlines import generous
from support.programs import run_program
from whisperr import Whisperr
from whisperr.sandbox import Sandbox

NOWHERE = "http://127.0.0.1:9"  # nobody listens there

# Tracks three events and an identity for a server that isn't there, and dies.
CRASH = """
    import os, signal, sys, threading
    from whisperr import Whisperr

    threading.Thread.start = lambda thread: None  # the sender gets no turn before the end
    key, url, folder = sys.argv[1:]
    client = Whisperr(key, base_url=url, journal_dir=folder, app_version="1.2", max_retries=0,
                      flush_at=1000, flush_interval=999)
    for n in range(3):
        client.track("u1", "number_seen", {"n": n}, message_id="own" if n == 2 else None)
    client.identify("u1", email="ada@example.org")
    os.kill(os.getpid(), signal.SIGKILL)
"""


class Command:
    """``whisperr journal`` in a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.journal = folder / "journal"

    def __call__(self, *arguments: str, status: int = 0, **environment: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "whisperr", "journal", *arguments],
            cwd=str(self.journal.parent),
            env={**os.environ, "WHISPERR_JOURNAL_DIR": str(self.journal), **environment},
            capture_output=True,
            text=True,
            timeout=generous(30),
            check=False,
        )
        assert done.returncode == status, (done.returncode, done.stdout, done.stderr)
        return done.stdout + done.stderr

    def rows(self) -> list[dict[str, Any]]:
        return list(json.loads(self("list", "--json")))

    def crash(self, key: str, url: str = NOWHERE) -> None:
        """A process that leaves four records behind."""
        arguments = (key, url, self.journal)
        run_program(CRASH, self.journal.parent, arguments=arguments, status=-signal.SIGKILL)


@pytest.fixture
def command(tmp_path: Path) -> Command:
    return Command(tmp_path)


@pytest.fixture
def owner(command: Command, key: str) -> Iterator[Whisperr]:
    """A living client with one record on disk, in this process."""
    client = Whisperr(
        key, base_url=NOWHERE, journal_dir=command.journal, max_retries=0, flush_interval=NEVER
    )
    client.track("u2", "number_seen", {"n": 7})
    client.flush(5.0)
    yield client
    client.shutdown(0)


def test_list_tells_the_living_from_the_dead(command: Command, key: str, owner: Whisperr) -> None:
    """One row for each chain: its owner (with the pid of a living one), records, bytes, age."""
    command.crash(f"{key}_crashed")
    alive, dead = sorted(command.rows(), key=lambda row: str(row["owner"]))
    assert alive["owner"] == f"alive {os.getpid()}"
    assert (alive["waiting"], alive["settled"]) == (1, 0)
    assert dead["owner"] == "dead"
    assert (dead["waiting"], dead["settled"], dead["segments"], dead["damaged"]) == (4, 0, 1, 0)
    assert 4 * 28 < dead["bytes"] < dead["reserved"]
    assert 0 <= dead["age"] < 60
    table = command("list")
    assert "alive" in table and "dead" in table


def test_list_counts_what_is_settled(command: Command, key: str, server: Sandbox) -> None:
    """What was delivered is listed as settled, as long as its segment is there."""
    client = Whisperr(key, base_url=server.url, journal_dir=command.journal)
    for n in range(5):
        client.track("u", "number_seen", {"n": n})
    assert client.flush()
    (row,) = command.rows()
    assert (row["waiting"], row["settled"]) == (0, 5)
    assert client.shutdown()
    assert command.rows() == []
    assert "nothing" in command("list")


def test_show_prints_records_as_they_would_be_sent(command: Command, key: str) -> None:
    """One JSON line for each record that waits, with the id and the context of its own process."""
    command.crash(key)
    *events, identity = map(json.loads, command("show").splitlines())
    assert [event["track"]["properties"]["n"] for event in events] == [0, 1, 2]
    contexts = [event["track"]["context"] for event in events]
    assert {context["app_version"] for context in contexts} == {"1.2"}
    assert contexts[2]["$message_id"] == "own"
    assert contexts[0]["$message_id"].startswith(events[0]["chain"][:20])
    assert identity["identify"]["channels"][0]["address"] == "ada@example.org"
    assert len(command("show", "--limit", "2").splitlines()) == 2
    assert len(command("show", events[0]["chain"][:6]).splitlines()) == 4
    assert "no chain no_such_chain" in command("show", "no_such_chain", status=1)


def test_reading_disturbs_no_owner(command: Command, key: str, owner: Whisperr) -> None:
    """While others list and show, the owner keeps its lock, its records and its files."""
    before = sorted(path.name for path in command.journal.rglob("*"))
    for _ in range(3):
        command("list")
        command("show")
    assert sorted(path.name for path in command.journal.rglob("*")) == before
    assert command.rows()[0]["owner"] == f"alive {os.getpid()}"
    owner.track("u2", "number_seen", {"n": 8})
    assert command.rows()[0]["waiting"] == 2


def test_deliver_sends_what_the_dead_left(command: Command, key: str, server: Sandbox) -> None:
    """``deliver`` says how many records it delivered, and leaves no file of them."""
    command.crash(key, server.url)
    assert command.rows()[0]["waiting"] == 4
    said = command("deliver", "--base-url", server.url, WHISPERR_API_KEY=key)
    assert "4 delivered, 0 dropped, 0 left" in said
    assert_arrived(server, key, 3)
    assert command.rows() == []


def test_deliver_takes_the_base_url_of_the_environment(
    command: Command, key: str, server: Sandbox
) -> None:
    """As the doctor does, and the applications that share it."""
    command.crash(key, server.url)
    said = command("deliver", WHISPERR_API_KEY=key, WHISPERR_BASE_URL=server.url)
    assert "4 delivered, 0 dropped, 0 left" in said


def test_deliver_with_a_wrong_key_says_what_waits_for_others(
    command: Command, key: str, server: Sandbox
) -> None:
    """Nothing for this destination and something for another is an exit status of 1, with the count."""
    command.crash(key, server.url)
    given = ("deliver", "--base-url", server.url)
    said = command(*given, status=1, WHISPERR_API_KEY=f"{key}_other")
    assert "0 delivered" in said and "4 records wait for another key or another base URL" in said
    assert command.rows()[0]["waiting"] == 4


def test_deliver_says_what_is_left(command: Command, key: str) -> None:
    """A server that isn't there: exit status 1, and the records stay."""
    command.crash(key)
    said = command(
        "deliver", "--base-url", NOWHERE, "--timeout", "1", status=1, WHISPERR_API_KEY=key
    )
    assert "0 delivered, 0 dropped, 4 left" in said
    assert command.rows()[0]["waiting"] == 4


def test_purge_deletes_the_dead_alone(command: Command, key: str, owner: Whisperr) -> None:
    """Without ``--yes`` it only says what it would delete; a living owner's chain stays."""
    command.crash(key)
    assert "1 chain of dead processes with 4 undelivered" in command("purge", status=1)
    assert len(command.rows()) == 2
    command("purge", "--yes")
    (left,) = command.rows()
    assert left["owner"] == f"alive {os.getpid()}"


def test_purge_deletes_what_was_set_aside_when_asked(command: Command, key: str) -> None:
    """``--damaged`` takes the files that were set aside, too."""
    command.crash(key)
    (folder,) = command.journal.iterdir()
    aside = folder / "0123456789abcdef0123-01234567-00000001.seg.damaged"
    aside.write_bytes(b"?")
    command("purge", "--yes")
    assert aside.exists()
    command("purge", "--yes", "--damaged")
    assert not aside.exists()


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["list", "--dir", "nowhere"], 1, "no folder nowhere"),
        (["list", "--dir", ""], 2, "name the folder"),
        (["deliver"], 2, "WHISPERR_API_KEY"),
        (["deliver", "--base-url", "ftp://x"], 2, "base_url must be"),
        (["deliver", "--timeout", "-1"], 2, "--timeout must be"),
        (["explode"], 2, "invalid choice"),
        ([], 2, "ACTION"),
    ],
)
def test_a_mistake_is_named(
    command: Command, arguments: list[str], status: int, words: str
) -> None:
    """A wrong command line ends with 2, a folder that isn't there with 1, and one line says why."""
    command.journal.mkdir()
    key = "wrk_key" if len(arguments) > 1 else ""
    assert words in command(*arguments, status=status, WHISPERR_API_KEY=key)


def test_a_foreign_folder_is_left_alone(command: Command) -> None:
    """What is no journal is neither listed nor purged."""
    (command.journal / "photos").mkdir(parents=True)
    (command.journal / "photos" / "cat.seg").write_text("meow")
    assert command.rows() == []
    command("purge", "--yes", "--damaged")
    assert (command.journal / "photos" / "cat.seg").read_text() == "meow"


# --- deliver --watch


def test_watch_shows_on_a_terminal_how_far_it_is(
    command: Command, key: str, server: Sandbox
) -> None:
    """In one line, written anew at each change; Ctrl-C ends it well."""
    pty = pytest.importorskip("pty")
    command.crash(key, server.url)
    here, there = pty.openpty()
    arguments = ["--watch", "--dir", str(command.journal), "--base-url", server.url]
    with subprocess.Popen(
        [sys.executable, "-m", "whisperr", "journal", "deliver", *arguments],
        env={**os.environ, "WHISPERR_API_KEY": key},
        stdin=subprocess.DEVNULL,
        stdout=there,
    ) as process:
        os.close(there)
        said = b""
        while b"4 delivered, 0 dropped, 0 left" not in said:
            said += os.read(here, 1000)
        process.send_signal(signal.SIGINT)
        assert process.wait(generous(20)) == 0
    os.close(here)
    first, *_ = said.split(b"\r")[1:]
    assert first.endswith(b"left\x1b[K") and b"\n" not in said
    assert command.rows() == []


@pytest.mark.parametrize("interval", ["-1", "nan"])
def test_watch_wants_an_interval(command: Command, key: str, interval: str) -> None:
    """One that is no number of seconds is an error of usage."""
    command.journal.mkdir()
    arguments = ("deliver", "--watch", "--interval", interval)
    assert "--interval" in command(*arguments, status=2, WHISPERR_API_KEY=key)
