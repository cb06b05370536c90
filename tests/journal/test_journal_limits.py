"""``max_journal_bytes``: how much of a disk the journal takes, and what goes when that is used up.

And the options themselves, the modes of the files, and what must stand in none of them.
"""

from __future__ import annotations

import base64
import hashlib
import os
import pickle
import threading
from pathlib import Path
from typing import Any

import pytest

from support import run_program
from support.apps import run_app
from support.clients import Reports, flush_until_settled
from support.deadlines import DEADLINE
from support.disks import FILLING
from support.journals import (
    DYING,
    NOWHERE,
    accounts,
    adopter,
    assert_ledger,
    deliver,
    files,
    leave_dead,
    modes,
)
from support.rows import named
from support.short_lives import leave_short_lives
from whisperr import Whisperr
from whisperr._journal.log import SMALLEST
from whisperr._journal.segment import OwnSegment
from whisperr.sandbox import Sandbox

MIB = 1024 * 1024
SEGMENT = MIB // 8  # bytes: the largest segment under the smallest limit
HEADER = 256  # bytes at most
OUT_OF_ORDER = {"do": "status", "status": 503, "times": -1}


def small(url: str, key: str, journal: Path, **options: Any) -> tuple[Whisperr, Reports]:
    """A client with the smallest limit and a short memory."""
    reports = Reports()
    options = {"max_journal_bytes": MIB, "max_queue_size": 100, "max_retries": 0, **options}
    return adopter(url, key, journal, on_error=reports, **options), reports


def track(client: Whisperr, numbers: range, size: int = 1000) -> None:
    for n in numbers:
        client.track("user", "number_seen", {"n": n, "text": "x" * size})


def used(journal: Path) -> int:
    return sum(path.stat().st_size for path in files(journal))


# --- the limit


def test_beyond_the_limit_the_oldest_go(server: Sandbox, key: str, tmp_path: Path) -> None:
    """Never more than the limit and a segment on disk; what is dropped is counted and reported to
    the record, is the oldest, and is exactly what never arrives."""
    server.inject(key, OUT_OF_ORDER)
    client, reports = small(server.url, key, tmp_path / "journal")
    for begin in range(0, 5000, 50):
        track(client, range(begin, begin + 50))
        assert used(tmp_path / "journal") <= MIB + SEGMENT + HEADER
    assert not client.flush()
    stats = client.stats()
    assert_ledger(stats)
    lost = sum(stats["dropped"].values())
    # Overflow: what was in flight came back to a full memory, and its file was gone already.
    assert set(stats["dropped"]) <= {"journal", "overflow"} and lost > 3000
    assert stats["pending"] + stats["spilled"] == 5000 - lost
    assert sum(reports.counts("dropped")) == lost
    server.clear_faults(key)
    flush_until_settled(client)
    assert client.shutdown()
    found = [event["properties"]["n"] for event in server.events(key)]
    assert len(set(found)) == len(found) == 5000 - lost
    assert set(found) >= set(range(lost + 100, 5000))  # memory may have held some older ones
    assert sum(reports.counts("dropped")) == sum(client.stats()["dropped"].values()) == lost
    assert_ledger(client.stats())
    assert files(tmp_path / "journal") == []


@pytest.mark.parametrize("limit", [MIB, 8 * MIB])
def test_within_the_limit_nothing_goes(
    server: Sandbox, key: str, tmp_path: Path, limit: int
) -> None:
    """Three quarters of it may be in use."""
    server.inject(key, OUT_OF_ORDER)
    client, reports = small(server.url, key, tmp_path / "journal", max_journal_bytes=limit)
    count = limit * 3 // 4 // 1100
    track(client, range(count))
    assert client.stats()["dropped"] == {}
    server.clear_faults(key)
    flush_until_settled(client)
    assert reports.of("dropped") == []
    assert client.shutdown()
    assert len(server.events(key)) == count


@pytest.mark.parametrize("size", [2 * SEGMENT - 500, 2 * SEGMENT + 1, 300_000])
def test_an_event_larger_than_a_segment(
    server: Sandbox, key: str, tmp_path: Path, size: int
) -> None:
    """Has one of its own, survives like any other, and the limit holds."""
    tracking = f"""
client = new_journal(max_journal_bytes={2 * MIB}, max_event_bytes=10**6)
for n in range(3):
    client.track("user", "number_seen", {{"n": n, "text": "x" * {size}}})
    payload(client, [10 + n])
die()
"""
    journal = leave_dead(server, key, tmp_path, FILLING + tracking)
    assert used(journal) <= 2 * MIB
    reports, stats = deliver(server.url, key, journal)
    assert (stats["adopted"], reports.all) == (6, [])
    found = {e["properties"]["n"]: len(e["properties"]["text"]) for e in server.events(key)}
    assert found == {0: size, 1: size, 2: size, 10: 250, 11: 250, 12: 250}


def test_events_of_which_each_is_over_the_limit(server: Sandbox, key: str, tmp_path: Path) -> None:
    """Only the newest is kept on disk; memory has the others."""
    client, reports = small(
        server.url, key, tmp_path / "journal", max_event_bytes=4 * MIB, max_batch_bytes=8 * MIB
    )
    track(client, range(3), 2 * MIB)
    assert len(files(tmp_path / "journal")) <= 2
    assert used(tmp_path / "journal") < 3 * MIB
    assert client.shutdown(20)
    assert len(server.events(key)) == 3
    assert reports.all == []


def test_several_processes_share_the_limit(server: Sandbox, key: str, tmp_path: Path) -> None:
    """Four at once in an outage: together near it; each counts what it dropped itself, and the
    counts are what never arrives."""
    server.inject(key, OUT_OF_ORDER)
    source = f"""
def work(begin):
    heard, most = Heard(), []
    client = new_journal(max_journal_bytes={MIB}, max_queue_size=100, max_retries=0, on_error=heard)
    for n in range(begin, begin + 2000, 50):
        for m in range(n, n + 50):
            client.track("user", "number_seen", {{"n": m, "text": "x" * 1000}})
        most.append(folders.usage(folder)[0])
    client.shutdown()
    account(reports=heard.reports, stats=client.stats(), most=max(most))

from whisperr._journal import folder as folders
folder = "journal/" + folders.destination(URL, KEY).hex()
reap([fork(work, begin) for begin in range(0, 8000, 2000)])
"""
    run_app(server, key, tmp_path, DYING + FILLING + source, timeout=50)
    server.forget(key)
    lines = accounts(tmp_path)
    assert len(lines) == 4
    for line in lines:
        assert_ledger(line["stats"])
        # Overflow, undelivered: from memory, and the file was gone already.
        assert set(line["stats"]["dropped"]) <= {"journal", "overflow", "undelivered"}
        told = sum(report[2] for report in line["reports"] if report[0] == "dropped")
        assert told == sum(line["stats"]["dropped"].values())
        assert line["most"] <= MIB + 4 * (SEGMENT + HEADER) * 2
    lost = sum(sum(line["stats"]["dropped"].values()) for line in lines)
    assert lost > 4000
    _, stats = deliver(server.url, key, tmp_path / "journal")
    found = {event["properties"]["n"] for event in server.events(key)}
    assert stats["adopted"] == len(found) == 8000 - lost


@pytest.mark.endurance
@pytest.mark.timeout(1800)
def test_64_living_processes_and_many_dead_share_the_limit(
    server: Sandbox, key: str, tmp_path: Path
) -> None:
    """All write for more than there is room, in a folder that was full of the dead: whoever looks
    finds it within the limit, each counts what it dropped, and the counts are what never arrives.
    """
    processes, dead, each = 64, 520, 300
    leave_short_lives(tmp_path / "journal", server.url, key, dead, first=processes * each)
    server.inject(key, OUT_OF_ORDER)
    source = f"""
from whisperr._journal import folder as folders
folder = "journal/" + folders.destination(URL, KEY).hex()

def work(begin):
    heard = Heard()
    client = new_journal(max_journal_bytes={2 * MIB}, max_queue_size=50, max_retries=0, on_error=heard)
    for n in range(begin, begin + {each}):
        client.track("user", "number_seen", {{"n": n, "text": "x" * 1000}})
    client.shutdown()
    account(reports=heard.reports, stats=client.stats())

before = folders.usage(folder)[0]
left = [fork(work, begin) for begin in range(0, {processes * each}, {each})]
looks, most = 0, 0
while left:
    looks, most = looks + 1, max(most, folders.usage(folder)[0])
    left = [pid for pid in left if os.waitpid(pid, os.WNOHANG) == (0, 0)]
print(before, looks, most)
"""
    said = run_app(server, key, tmp_path, DYING + FILLING + source, timeout=150).stdout
    server.forget(key)
    before, looks, most = map(int, said.split())
    print(f"{before} bytes of the dead, then at most {most} in {looks} looks")
    assert looks > 100 and before > 1.9 * MIB and most <= 2 * MIB
    lines = accounts(tmp_path)
    assert len(lines) == processes
    for line in lines:
        assert_ledger(line["stats"])
        told = sum(report[2] for report in line["reports"] if report[0] == "dropped")
        assert told == sum(line["stats"]["dropped"].values())
    assert any(report[0] == "journal" for line in lines for report in line["reports"])
    lost = sum(sum(line["stats"]["dropped"].values()) for line in lines)
    _, stats = deliver(server.url, key, tmp_path / "journal")
    found = {event["properties"]["n"] for event in server.events(key)}
    assert stats["adopted"] == len(found) == processes * each + dead - lost


# --- the modes of the files, and what stands in none of them


@pytest.mark.parametrize("umask", [0, 0o22, 0o77, 0o177, 0o277, 0o777], ids=oct)
@pytest.mark.parametrize("folder", ["journal", "deep/er/journal"])
def test_modes(server: Sandbox, key: str, tmp_path: Path, umask: int, folder: str) -> None:
    """0600 each file and 0700 each folder that is ours, whatever the umask adds or takes away."""
    if folder != "journal":
        (tmp_path / "deep" / "er").mkdir(parents=True)
    source = f"""
client = new_journal("{folder}", max_journal_bytes={MIB})
os.umask({umask})
payload(client, range(600))
die()
"""
    journal = leave_dead(server, key, tmp_path, FILLING + source).parent / folder
    found = modes(journal)
    assert {name.rpartition(".")[2] for name in found} >= {"seg", "lock"}
    for name, mode in found.items():
        assert mode == (0o600 if name.endswith((".seg", ".lock")) else 0o700), (name, oct(mode))


LESS = """
import encodings.idna, http.client, netrc, stringprep  # lazy, and later out of reach
heard = Heard()
client = new_journal("home/journal", on_error=heard, max_retries=0)
first = new_client(max_retries=0)
payload(first, [600])
first.flush()
os.setgroups([]), os.setgid(12345), os.setuid(12345)
os.umask(0o777)
"""


def test_any_umask_for_a_user_without_privilege(
    server: Sandbox, key: str, public_path: Path
) -> None:
    """Whom modes stop: what a process wrote under a umask that forbids all is adopted later."""
    for path in (public_path / "home", public_path / "home" / "journal"):
        path.mkdir()
        os.chown(str(path), 12345, 12345)
    writing = "payload(client, range(600))\naccount(reports=heard.reports)\ndie()\n"
    leave_dead(server, key, public_path, FILLING + LESS + writing)
    reading = "assert client.flush()\naccount(reports=heard.reports, stats=client.stats())\n"
    run_app(server, key, public_path, DYING + FILLING + LESS + reading)
    *_, line = accounts(public_path)
    assert line["stats"]["adopted"] == line["stats"]["delivered"] == 600, accounts(public_path)
    assert {event["properties"]["n"] for event in server.events(key)} == set(range(601))


def test_a_folder_that_was_there_keeps_its_mode(server: Sandbox, key: str, tmp_path: Path) -> None:
    """It is the operator's; what lies in it is not to be seen all the same."""
    (tmp_path / "journal").mkdir()
    (tmp_path / "journal").chmod(0o755)
    client = adopter(server.url, key, tmp_path / "journal")
    client.track("u", "order_paid", {"n": 1})
    found = modes(tmp_path / "journal")
    assert found.pop(".") == 0o755
    assert sorted(found.values()) == [0o600, 0o600, 0o700]
    assert client.shutdown()


def test_the_key_is_in_no_file(server: Sandbox, key: str, tmp_path: Path) -> None:
    """Nor is the URL: in no content and in no name, as text or in another common spelling."""
    journal = leave_dead(
        server,
        key,
        tmp_path,
        FILLING + "payload(new_journal(app_version='7'), range(600))\ndie()\n",
    )
    secrets = []
    for text in (key, server.url, f"{server.url}/"):
        plain = text.encode()
        secrets += [plain, plain.hex().encode(), base64.b64encode(plain).rstrip(b"=")[:-1]]
        secrets += [
            f(plain).hexdigest().encode() for f in (hashlib.md5, hashlib.sha1, hashlib.sha256)
        ]
        secrets += [plain[::-1], plain.decode().encode("utf-16-le")]
    content = b"".join(path.read_bytes() for path in journal.rglob("*") if path.is_file())
    names = b"\n".join(os.fsencode(str(path.relative_to(journal))) for path in journal.rglob("*"))
    assert b"it_happened" in content
    for secret in secrets:
        assert secret not in content and secret not in names


# --- the options


@pytest.mark.parametrize(
    "value",
    named(
        {
            "empty": "",
            "number": 123,
            "true": True,
            "bytes": b"journal",
            "null": "a\0b",
            "lone surrogate": "journal\ud800",
            "list": (["journal"],),
            "object": object(),
        }
    ),
)
@pytest.mark.parametrize("disabled", [False, True])
def test_an_unusable_folder_is_refused(value: Any, disabled: bool) -> None:
    """At construction, named, and without the value in the text."""
    with pytest.raises(ValueError, match=r"^journal_dir ") as caught:
        Whisperr("wrk_test", journal_dir=value, disabled=disabled)
    assert caught.type is ValueError


def test_a_relative_folder(server: Sandbox, key: str, tmp_path: Path) -> None:
    """Is meant from where the client is made; where its process goes later is no matter. From a
    folder that is gone, nothing can be meant: ValueError."""
    source = """
import pathlib
os.mkdir("elsewhere"), os.mkdir("gone")
texts = ["first/journal", pathlib.Path("second/journal"), os.path.abspath("third/journal")]
clients = [new_journal(text) for text in texts]
os.chdir("elsewhere")
for number, client in enumerate(clients):
    payload(client, [number])
os.chdir("../gone")
os.rmdir("../gone")
try:
    new_journal("journal")
except ValueError as error:
    assert str(error).startswith("journal_dir "), error
    die()
"""
    leave_dead(server, key, tmp_path, FILLING + source)
    for name in ("first", "second", "third"):
        _, stats = deliver(server.url, key, tmp_path / name / "journal")
        assert stats["adopted"] == 1
    assert sorted(event["properties"]["n"] for event in server.events(key)) == [0, 1, 2]


def test_a_client_with_a_journal_pickles(tmp_path: Path) -> None:
    """With its folder and its limit."""
    client = Whisperr("wrk_test", journal_dir=tmp_path / "journal", max_journal_bytes=2 * MIB)
    again = pickle.loads(pickle.dumps(client))
    assert again._settings == client._settings
    assert again._settings.journal_dir == str(tmp_path / "journal")
    assert again._settings.max_journal_bytes == 2 * MIB


@pytest.mark.parametrize("disabled", [False, True])
def test_what_touches_no_disk(server: Sandbox, key: str, tmp_path: Path, disabled: bool) -> None:
    """The constructor; and of a disabled client, nothing that it does."""
    journal = tmp_path / "journal"
    client = Whisperr(key, base_url=server.url, journal_dir=journal, disabled=disabled)
    client.stats()
    if disabled:
        client.track("u", "order_paid")
        client.identify("u")
        assert client.flush() and client.shutdown()
    assert not journal.exists()
    client.track("u", "order_paid")
    assert client.shutdown()
    assert journal.exists() is not disabled


def test_what_is_imported_without_a_journal(tmp_path: Path) -> None:
    """Nothing of it."""
    source = """
        import sys
        import whisperr
        whisperr.Whisperr("wrk_test", base_url="http://127.0.0.1:9")
        assert "whisperr._delivery.transport" in sys.modules
        def of_the_journal():
            return [name for name in sys.modules if name.startswith("whisperr._journal")]

        assert of_the_journal() == []
        whisperr.Whisperr("wrk_test", base_url="http://127.0.0.1:9", journal_dir="journal")
        assert of_the_journal()
    """
    run_program(source, tmp_path)


# --- starting


@pytest.mark.parametrize("own", [0, 1])
def test_what_the_dead_left_is_on_its_way_at_once(
    server: Sandbox, key: str, tmp_path: Path, own: int
) -> None:
    """At the first use, without a flush and far from any interval: 10,000 records."""
    count = 10_000
    journal = leave_dead(
        server, key, tmp_path, FILLING + f"payload(new_journal(), range({count}))\ndie()\n"
    )
    client = adopter(server.url, key, journal)
    if own:
        client.track("u", "order_paid", {"n": count})
    else:
        engine = client._own_engine()
        assert engine is not None
        engine.start()  # as lifecycle.start_all() does
    server.wait_for(key, count + own)
    assert client.shutdown()
    assert client.stats()["adopted"] == count
    assert len({event["properties"]["n"] for event in server.events(key)}) == count + own


def test_a_flush_waits_for_an_adoption_under_way(server: Sandbox, key: str, tmp_path: Path) -> None:
    """True means that what the dead left has arrived, also when the pass had begun by itself."""
    count = 5000
    journal = leave_dead(
        server, key, tmp_path, FILLING + f"payload(new_journal(), range({count}))\ndie()\n"
    )
    client = adopter(server.url, key, journal)
    engine = client._own_engine()
    assert engine is not None
    engine.start()
    while engine._senders["sender"]._passing_in is None and not client.stats()["adopted"]:
        os.sched_yield()
    assert client.flush()
    assert client.stats()["delivered"] == count
    assert client.shutdown()


# --- the size of a segment


def test_threads_that_rotate_at_once_agree_on_the_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many begin the journal together, the first segment is a small one."""
    threads = 4
    together = threading.Barrier(threads, timeout=DEADLINE)
    create = OwnSegment.create

    def create_together(*arguments: Any) -> OwnSegment:
        together.wait()
        return create(*arguments)

    monkeypatch.setattr(OwnSegment, "create", staticmethod(create_together))
    journal = tmp_path / "journal"
    client = adopter(NOWHERE, "wrk_k", journal, shutdown_timeout=0)
    calling = [threading.Thread(target=track, args=(client, range(1), 100)) for _ in range(threads)]
    for thread in calling:
        thread.start()
    for thread in calling:
        thread.join()
    (segment,) = files(journal)
    assert SMALLEST < segment.stat().st_size < SMALLEST + HEADER
    client.shutdown()


# --- long outages


def test_a_long_outage_takes_no_descriptors(tmp_path: Path) -> None:
    """However many segments wait on disk, a few are open; the others were closed when full."""
    source = """
        import os, sys
        import whisperr._journal.log
        from whisperr import Whisperr

        whisperr._journal.log._FAST = -1.0  # as when each segment takes a while to be filled
        client = Whisperr("wrk_k", base_url="http://127.0.0.1:9", journal_dir="journal",
                          max_queue_size=100, max_retries=0, flush_interval=1e6, shutdown_timeout=1)
        client.track("u", "number_seen", {})
        client.flush()

        def descriptors():
            return len(os.listdir("/proc/self/fd"))

        before = descriptors()
        for n in range(4000):
            client.track("u", "number_seen", {"text": "x" * 1000})
            if n % 500 == 499:
                client.flush()  # a pass, that fails
        made = [name for _, _, names in os.walk("journal") for name in names]
        with open("/proc/self/maps") as maps:
            mapped = maps.read().count(".seg")
        print(len(made), descriptors() - before, mapped, flush=True)
        os._exit(0)
        """
    said = run_program(source, tmp_path).stdout.split()
    segments, opened, mapped = map(int, said)
    assert segments > 50
    assert opened < 12 and mapped < 12


def test_a_crash_loop_stays_under_the_limit(tmp_path: Path) -> None:
    """What the dead left counts, too: whoever comes next adopts it, and drops the oldest of it."""
    source = """
        import os
        from whisperr import Whisperr
        import whisperr._delivery.transport  # once, not in each of these

        for _ in range(40):
            if os.fork() == 0:
                client = Whisperr("wrk_k", base_url="http://127.0.0.1:9", journal_dir="journal",
                                  max_journal_bytes=1 << 20, max_retries=0)
                client.track("u", "number_seen", {})
                client.flush(1)
                client.track("u", "number_seen", {"text": "x" * 60_000})
                client.track("u", "number_seen", {"text": "x" * 60_000})
                os._exit(9)
            os.wait()
        """
    run_program(source, tmp_path, timeout=50)
    assert used(tmp_path / "journal") <= MIB + 4 * 64 * 1024
