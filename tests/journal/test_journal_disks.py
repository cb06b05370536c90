"""The journal on folders and disks that are full, forbidden, taken away, or of another kind.

The disks are real and small, see support.disks: these tests need root.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from support.apps import run_app
from support.disks import DISKS, FILLING, ext4, overlay, remount, tmpfs
from support.journals import (
    DYING,
    KILLED,
    LARGE_SEGMENTS,
    accounts,
    assert_ledger,
    deliver,
    files,
    folder_of,
    layout,
    leave_dead,
)
from support.rows import named
from whisperr._journal import folder as folders
from whisperr._journal.file_system import can_map
from whisperr.sandbox import Sandbox

OFF = r"the journal can't be used \(.*\): memory only until it works again"


def run(
    server: Sandbox,
    key: str,
    folder: Path,
    source: str,
    *arguments: object,
    status: int = 0,
    timeout: float = 50.0,
) -> list[dict[str, Any]]:
    """Run a program with all the names of the support; what it accounted for."""
    program = DYING + FILLING + source
    run_app(server, key, folder, program, arguments=arguments, status=status, timeout=timeout)
    return accounts(folder)


def arrived(server: Sandbox, key: str) -> Counter[int]:
    return Counter(event["properties"]["n"] for event in server.events(key))


def assert_all_once(server: Sandbox, key: str, count: int, *, resent: int = 0) -> None:
    """Exactly the numbers below ``count``, each once, and so many were sent again."""
    found = arrived(server, key)
    missing = set(range(count)) - set(found)
    assert not missing, f"{len(missing)} of {count} lost, from {min(missing)} to {max(missing)}"
    assert len(found) == count and set(found.values()) == {1}
    ledger = server.ledger(key)
    assert (ledger["twice"], ledger["resent"], ledger["refused"]) == (0, resent, 0), ledger


def assert_told_once(line: dict[str, Any]) -> None:
    """One report of type ``journal`` and one WARNING, whatever the number of events."""
    (report,) = line["reports"]
    (warning,) = line["warnings"]
    assert (report[0], report[2]) == ("journal", 0)
    assert warning.startswith(f"whisperr: journal: {report[1]}")
    assert "memory only until it works again" in report[1]


# --- full disks

FULL_LATER = """
heard = Heard()
client = new_journal(sys.argv[1] + "/journal", on_error=heard)
payload(client, range(10))
filler = Filler(sys.argv[1])
for begin in range(10, 8010, 1000):
    payload(client, range(begin, begin + 1000))
    os.system("sync -f '%s'" % sys.argv[1])  # have what is mapped written to the full disk
    assert client.stats()["spilled"] == 0
for _ in range(3):
    payload(client, [8010 + _])
    assert client.flush()
assert client.stats()["delivered"] == 8013, client.stats()
heard.account(client)
filler.end()
payload(client, [8013])
assert client.flush()  # a pass: the disk is tried again
payload(client, range(8014, 8500))
heard.account(client)
die()
"""


@pytest.mark.parametrize("kind", DISKS)
def test_a_disk_that_fills_up(kind: str, server: Sandbox, key: str, tmp_path: Path) -> None:
    """To its last byte, while events are tracked: nobody dies (a map without blocks is a SIGBUS)
    and nobody is told twice; all is delivered from memory, and with room again what is tracked
    survives a SIGKILL, also the unmounting of its disk."""
    with DISKS[kind](tmp_path) as disk:
        assert can_map(os.stat(str(disk)).st_dev) is (kind != "overlay")
        full, after = run(server, key, tmp_path, FULL_LATER, disk, status=KILLED)
        assert_told_once(full)
        assert after["reports"] == full["reports"] and after["warnings"] == full["warnings"]
        assert_ledger(after["stats"])
        if kind != "ext4":  # what is in memory goes with its mount
            reports, stats = deliver(server.url, key, disk / "journal")
    if kind == "ext4":
        with ext4(tmp_path) as disk:
            reports, stats = deliver(server.url, key, disk / "journal")
    assert (stats["adopted"], reports.all) == (486, [])
    assert_all_once(server, key, 8500)


FULL_FIRST = """
heard = Heard()
filler = Filler(sys.argv[1])
client = new_journal(sys.argv[1] + "/journal", on_error=heard)
payload(client, range(500))
assert client.flush()
payload(client, range(500, 1000))
assert client.flush()
heard.account(client)
filler.end()
payload(client, [1000])
assert client.flush()
payload(client, range(1001, 1100))
account(files=len(os.listdir("/proc/self/fd")))
die()
"""


@pytest.mark.parametrize("kind", DISKS)
def test_a_disk_that_is_full_from_the_begin(
    kind: str, server: Sandbox, key: str, tmp_path: Path
) -> None:
    """As well; and what could not be made leaves nothing behind, neither files nor descriptors."""
    with DISKS[kind](tmp_path) as disk:
        full, _ = run(server, key, tmp_path, LARGE_SEGMENTS + FULL_FIRST, disk, status=KILLED)
        assert_told_once(full)
        assert len(files(disk / "journal")) == 1
        reports, stats = deliver(server.url, key, disk / "journal")
        assert (stats["adopted"], reports.all) == (99, [])
    assert_all_once(server, key, 1100)


FULL_FOR_AN_ADOPTER = """
heard = Heard()
filler = Filler(sys.argv[1])
client = new_journal(sys.argv[1] + "/journal", on_error=heard, max_batch_size=50, max_retries=0)
for _ in range(5):
    client.flush()  # some of what the dead left arrives, and no note of it can be made
heard.account(client)
filler.end()
"""


def test_a_full_disk_while_another_process_is_adopted(
    server: Sandbox, key: str, tmp_path: Path
) -> None:
    """That no note can be made is said once, however many passes find it."""
    with tmpfs(tmp_path) as disk:
        (tmp_path / "first").mkdir()
        tracking = FILLING + "payload(new_journal(sys.argv[1]), range(200))\ndie()\n"
        tracking = LARGE_SEGMENTS + tracking
        leave_dead(server, key, tmp_path / "first", tracking, arguments=[disk / "journal"])
        faults = [{"do": "delay", "seconds": 0}, {"do": "status", "status": 503}]
        server.inject(key, *(fault for _ in range(3) for fault in faults))
        (line,) = run(server, key, tmp_path, FULL_FOR_AN_ADOPTER, disk)
        told = [report for report in line["reports"] if report[0] == "journal"]
        assert len(told) == 1 and "no note can be made" in told[0][1], line["reports"]
        assert_ledger(line["stats"])
        found = arrived(server, key)
        assert set(found) == set(range(200))
        ledger = server.ledger(key)
        assert (ledger["arrived"], ledger["numbers"]) == (200, 200)


def test_a_disk_without_room_for_another_file(server: Sandbox, key: str, tmp_path: Path) -> None:
    """Full of names, not of bytes."""
    with tmpfs(
        tmp_path, options=",nr_inodes=5"
    ) as disk:  # its root, two folders, a lock, a segment
        source = """
heard = Heard()
client = new_journal(sys.argv[1] + "/journal", on_error=heard)
payload(client, range(1000))  # more than a first segment holds
assert client.flush()
payload(client, range(1000, 1100))
assert client.flush()
heard.account(client)
"""
        (line,) = run(server, key, tmp_path, LARGE_SEGMENTS + source, disk)
        assert_told_once(line)
        assert files(disk / "journal") == []
    assert_all_once(server, key, 1100)


FLAPPING = """
heard = Heard()
client = new_journal(sys.argv[1] + "/journal", on_error=heard, max_queue_size=10**6)
over = threading.Event()


def flap():
    while not over.is_set():
        filler = Filler(sys.argv[1])
        time.sleep(0.02)
        filler.end()


def work(begin):
    for n in range(begin, begin + 5000):
        payload(client, [n])
        if n % 500 == 0:
            client.flush()


flapping = threading.Thread(target=flap)
flapping.start()
workers = [threading.Thread(target=work, args=(begin,)) for begin in range(0, 20000, 5000)]
for worker in workers:
    worker.start()
for worker in workers:
    worker.join()
over.set()
flapping.join()
payload(client, [20000])
assert client.flush()
payload(client, [20001])
assert client.flush()
heard.account(client)
payload(client, range(20002, 20100))
die()
"""


@pytest.mark.parametrize("kind", DISKS)
def test_a_disk_that_is_full_now_and_then(
    kind: str, server: Sandbox, key: str, tmp_path: Path
) -> None:
    """Under four threads, rotations and deliveries: no death, no loss, nothing sent twice."""
    with DISKS[kind](tmp_path) as disk:
        (line,) = run(server, key, tmp_path, FLAPPING, disk, status=KILLED)
        assert {report[0] for report in line["reports"]} <= {"journal"}
        assert_ledger(line["stats"])
        reports, stats = deliver(server.url, key, disk / "journal")
        assert stats["adopted"] == 98
        assert {error.type for error in reports.all} <= {
            "journal"
        }  # frames torn at the end of a disk
    assert_all_once(server, key, 20100)


# --- folders that may not be used

# Memory only for two passes; then ``again()`` lets the folder work, and the process dies.
UNUSABLE = """
heard = Heard()
client = new_journal(sys.argv[1], on_error=heard)
prepare()
payload(client, range(500))
assert client.flush()
payload(client, range(500, 1000))
assert client.flush()
heard.account(client)
again()
payload(client, [1000])
assert client.flush()
payload(client, range(1001, 1100))
heard.account(client)
die()
"""


def refuse_then_work(
    server: Sandbox, key: str, tmp_path: Path, journal: Path, prepare: str, again: str
) -> None:
    """One report while the folder can't be used, none when it can be, and nothing lost."""
    source = "\n".join(["import shutil, subprocess", prepare, again, UNUSABLE])
    full, after = run(server, key, tmp_path, source, journal, status=KILLED)
    assert_told_once(full)
    assert after["reports"] == full["reports"] and after["warnings"] == full["warnings"]
    assert arrived(server, key) == Counter(range(1001))
    reports, stats = deliver(server.url, key, journal)
    assert (stats["adopted"], reports.all) == (99, [])
    assert_all_once(server, key, 1100)


# What stands in the place of the folder, and how it is made usable.
IN_ITS_PLACE = {
    "a file": ("open(sys.argv[1], 'w').close()", "os.unlink(sys.argv[1])"),
    "a link to a folder": (
        "os.mkdir('elsewhere'); os.symlink('elsewhere', sys.argv[1])",
        "assert os.listdir('elsewhere') == []; os.unlink(sys.argv[1])",
    ),
    "a dangling link": ("os.symlink('nowhere', sys.argv[1])", "os.unlink(sys.argv[1])"),
    "a pipe": ("os.mkfifo(sys.argv[1])", "os.unlink(sys.argv[1])"),
    "a folder of another user": (
        "os.mkdir(sys.argv[1]); os.chown(sys.argv[1], 12345, 12345)",
        "assert os.listdir(sys.argv[1]) == []; os.chown(sys.argv[1], 0, 0)",
    ),
}


@pytest.mark.parametrize(("prepare", "again"), named(IN_ITS_PLACE))
def test_what_stands_in_the_place_of_the_folder(
    server: Sandbox, key: str, tmp_path: Path, prepare: str, again: str
) -> None:
    """It is neither followed nor used: memory only, one report, and the disk when it is gone."""
    lines = f"def prepare(): {prepare}", f"def again(): {again}"
    refuse_then_work(server, key, tmp_path, tmp_path / "journal", *lines)


def test_a_link_in_the_place_of_the_folder_of_a_destination(
    server: Sandbox, key: str, tmp_path: Path
) -> None:
    """Nor there."""
    name = folders.destination(server.url, key).hex()
    prepare = (
        "def prepare(): os.mkdir('elsewhere'); os.mkdir(sys.argv[1], 0o700); "
        f"os.symlink('../elsewhere', sys.argv[1] + '/{name}')"
    )
    again = f"def again(): assert os.listdir('elsewhere') == []; os.unlink(sys.argv[1] + '/{name}')"
    refuse_then_work(server, key, tmp_path, tmp_path / "journal", prepare, again)


@pytest.mark.parametrize("had", [False, True], ids=["never used", "with a dead process's events"])
def test_a_read_only_disk(server: Sandbox, key: str, tmp_path: Path, had: bool) -> None:
    """A new folder can't be made there, nor can what lies in an old one be claimed: one report
    for all of it. Mounted for writing, it works."""
    with tmpfs(tmp_path) as disk:
        if had:
            (tmp_path / "first").mkdir()
            tracking = """
for _ in range(5):
    fork(lambda: (payload(new_journal(sys.argv[1]), [100000 + os.getpid()]), die()))
    os.wait()
die()
"""
            leave_dead(
                server, key, tmp_path / "first", FILLING + tracking, arguments=[disk / "journal"]
            )
            assert len(files(disk / "journal")) == 5
        remount(disk, "ro")
        again = f"def again(): subprocess.run(['mount', '-o', 'remount,rw', '{disk}'], check=True)"
        lines = "def prepare(): pass", again
        source = "\n".join(["import shutil, subprocess", *lines, UNUSABLE])
        full, after = run(server, key, tmp_path, source, disk / "journal", status=KILLED)
        assert after["reports"] == full["reports"]
        assert {report[0] for report in full["reports"]} == {"journal"}
        # With an old folder: that it can't be written, and that the dead can't be adopted.
        assert len(full["reports"]) == len(full["warnings"]) == 1 + had
        _, stats = deliver(server.url, key, disk / "journal")
        assert stats["adopted"] == 99 + 5 * had
        found = arrived(server, key)
        assert {n: found[n] for n in found if n < 100000} == dict.fromkeys(range(1100), 1)
        assert len(found) == 1100 + 5 * had


REMOVED = """
import shutil
heard = Heard()
client = new_journal(sys.argv[1], on_error=heard)
payload(client, range(100))
shutil.rmtree(sys.argv[1])
payload(client, range(100, 200))
assert client.flush()
heard.account(client)
payload(client, range(200, 300))
assert client.flush()
payload(client, range(300, 400))
heard.account(client)
die()
"""


def test_a_folder_that_is_removed(server: Sandbox, key: str, tmp_path: Path) -> None:
    """While it is in use: what is in memory is delivered, it is said once, and the folder is made
    anew, in which later events survive."""
    journal = tmp_path / "journal"
    lines = run(server, key, tmp_path, REMOVED, journal, status=KILLED)
    assert_told_once(lines[0])
    assert lines[1]["reports"] == lines[0]["reports"]
    assert lines[1]["stats"]["dropped"] == {}
    assert_ledger(lines[1]["stats"])
    reports, stats = deliver(server.url, key, journal)
    assert (stats["adopted"], reports.all) == (100, [])
    assert_all_once(server, key, 400)


def test_a_folder_that_is_removed_with_what_was_only_there(
    server: Sandbox, key: str, tmp_path: Path
) -> None:
    """What memory had no room for is lost, and counted, to the event, in one report."""
    source = """
import shutil
heard = Heard()
client = new_journal(sys.argv[1], on_error=heard, max_queue_size=100)
payload(client, [0])
assert client.flush()
payload(client, range(1, 1001))
assert client.stats()["spilled"] >= 700, client.stats()
shutil.rmtree(sys.argv[1])
assert client.flush()
payload(client, [1001])
assert client.flush()
heard.account(client)
"""
    # A pass that had begun by itself is still waiting for its answer when the folder goes.
    server.inject(key, {"do": "delay", "seconds": 1, "times": 2})
    (line,) = run(server, key, tmp_path, source, tmp_path / "journal")
    lost = line["stats"]["dropped"]["journal"]
    assert line["stats"]["dropped"] == {"journal": lost} and lost >= 700
    assert [report[2] for report in line["reports"] if report[0] == "dropped"] == [lost]
    assert {report[0] for report in line["reports"]} == {"dropped", "journal"}
    assert len(line["warnings"]) == len(line["reports"]) == 2
    assert_ledger(line["stats"])
    found = arrived(server, key)
    assert set(found.values()) == {1} and len(found) == 1002 - lost


def test_a_folder_that_another_user_made(server: Sandbox, key: str, public_path: Path) -> None:
    """A process without any privilege: it neither writes there nor into what it can't enter, and
    delivers from memory."""
    for name, mode in (("open", 0o777), ("shut", 0o700)):
        (public_path / name).mkdir()
        (public_path / name).chmod(mode)
    source = """
import encodings.idna, http.client, netrc, stringprep  # lazy, and later out of reach
folders = [sys.argv[1] + "/" + name for name in ("open", "shut", "shut/deep")]
heard = Heard()
clients = [new_journal(folder, on_error=heard) for folder in folders]
clients[0].track("u", "it_happened", {"n": 1000})
assert clients[0].flush()
clients[0].shutdown()
del heard.reports[:], heard.warnings[:]
os.setgroups([]), os.setgid(12345), os.setuid(12345)
for number, client in enumerate(clients[1:]):
    payload(client, range(number * 100, number * 100 + 100))
    assert client.flush()
mine = new_journal(sys.argv[1] + "/open", on_error=heard)
payload(mine, range(200, 300))
assert mine.flush()
heard.account(client)
"""
    (line,) = run(server, key, public_path, source, public_path)
    assert [report[0] for report in line["reports"]] == ["journal"] * 3  # one for each client
    assert list((public_path / "shut").iterdir()) == []
    assert files(public_path / "open") == []
    assert arrived(server, key) == Counter([*range(300), 1000])


# --- no descriptor to be had

EMFILE = """
import resource
heard = Heard()
client = new_journal("journal", on_error=heard, max_retries=0)
begin = int(sys.argv[1])
if begin:
    payload(client, [0])  # the first segment is there already
limits = resource.getrlimit(resource.RLIMIT_NOFILE)
lowest = os.dup(0)
os.close(lowest)
resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + int(sys.argv[2]), limits[1]))
payload(client, range(begin, 500))
client.flush()
payload(client, range(500, 1000))
client.flush()
resource.setrlimit(resource.RLIMIT_NOFILE, limits)
payload(client, [1000])
assert client.flush()
assert client.stats()["delivered"] == 1001, client.stats()
heard.account(client)
payload(client, range(1001, 1100))
die()
"""


@pytest.mark.parametrize("begin", [0, 1], ids=["from the begin", "later"])
@pytest.mark.parametrize("free", range(7))
def test_too_few_descriptors(
    server: Sandbox, key: str, tmp_path: Path, free: int, begin: int
) -> None:
    """However few there are, tracking goes on, and everything is delivered when there are more."""
    (line,) = run(server, key, tmp_path, EMFILE, begin, free, status=KILLED)
    journal = [report for report in line["reports"] if report[0] == "journal"]
    assert len(journal) <= 2, line["reports"]  # it can't be written; the dead can't be looked for
    assert not begin or {report[0] for report in line["reports"]} <= {"journal", "retry_exhausted"}
    assert_ledger(line["stats"])
    reports, stats = deliver(server.url, key, tmp_path / "journal")
    assert (stats["adopted"], reports.all) == (99, [])
    assert_all_once(server, key, 1100)


def test_reading_with_too_few_descriptors(server: Sandbox, key: str, tmp_path: Path) -> None:
    """What memory had no room for stays on disk until it can be read, and is not called lost."""
    source = """
import resource
heard = Heard()
client = new_journal("journal", on_error=heard, max_retries=0, max_queue_size=10)
payload(client, [0])
assert client.flush()  # the connection is there already
payload(client, range(1, 100))  # one segment: a full one would be closed, and free a descriptor
while client.stats()["requests"] < 2:  # before, the sender might have one that it is about to free
    time.sleep(0.005)
limits = resource.getrlimit(resource.RLIMIT_NOFILE)
lowest = os.dup(0)
os.close(lowest)
resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, limits[1]))
assert client.stats()["spilled"] > 50, client.stats()  # the sender waits for an answer
assert not client.flush()
assert not client.flush()
resource.setrlimit(resource.RLIMIT_NOFILE, limits)
assert client.flush()
heard.account(client)
assert client.shutdown()
"""
    at_once, late = ({"do": "delay", "seconds": seconds} for seconds in (0.0, 3.0))
    server.inject(key, at_once, late)
    (line,) = run(server, key, tmp_path, source)
    assert [report[0] for report in line["reports"]] == ["journal"], line["reports"]
    assert line["stats"]["delivered"] == 100 and not line["stats"]["dropped"]
    assert_all_once(server, key, 100)


@pytest.mark.parametrize("free", range(5))
def test_adoption_with_too_few_descriptors(
    server: Sandbox, key: str, tmp_path: Path, free: int
) -> None:
    """It is put off as a whole, and reported once; later all arrives, nothing of it twice."""
    tracking = """
for begin in range(0, 100, 20):
    def track_and_die():
        client = new_journal(flush_interval=10**6)
        payload(client, range(begin, begin + 20))
        die()
    fork(track_and_die)
    os.wait()
die()
"""
    leave_dead(server, key, tmp_path, FILLING + tracking)
    source = """
import resource
heard = Heard()
client = new_journal("journal", on_error=heard, max_retries=0)
limits = resource.getrlimit(resource.RLIMIT_NOFILE)
lowest = os.dup(0)
os.close(lowest)
resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + int(sys.argv[1]), limits[1]))
client.flush()
client.flush()
resource.setrlimit(resource.RLIMIT_NOFILE, limits)
client._engine._journal().adopt_at = 0.0  # as after a minute
assert client.flush()
heard.account(client)
assert client.shutdown()
"""
    line = run(server, key, tmp_path, source, free)[-1]
    assert line["stats"]["adopted"] == line["stats"]["delivered"] == 100
    assert len([report for report in line["reports"] if report[0] == "journal"]) <= 2
    assert not [warning for warning in line["warnings"] if "pass failed" in warning]
    assert list(folder_of(tmp_path / "journal").iterdir()) == []
    assert_all_once(server, key, 100)


# --- file systems that may not be mapped: by write(2)

WHOLE = b'"n":%d,"text":"' + b"x" * 5000 + b'"'
TORN = """
heard = Heard()
client = new_journal(sys.argv[1] + "/journal", on_error=heard, max_retries=0)
for n in range(1000):
    client.track("user", "it_happened", {"n": n, "text": "x" * 5000})
assert not client.flush()
account(reports=heard.reports)
die()
"""


def test_a_frame_torn_by_the_end_of_the_disk(server: Sandbox, key: str, tmp_path: Path) -> None:
    """A write(2) that found room for a part of it: what stands before arrives, in order and
    whole; the torn one is damage, and is set aside."""
    with overlay(tmp_path, 1024 * 1024 + 2048) as disk:
        server.inject(key, {"do": "status", "status": 503, "times": -1})
        (line,) = run(server, key, tmp_path, TORN, disk, status=KILLED)
        server.forget(key)
        assert [report[0] for report in line["reports"]].count("journal") == 1
        written = b"".join(path.read_bytes() for path in files(disk / "journal"))
        whole = [number for number in range(1000) if WHOLE % number in written]
        assert 100 < len(whole) < 250 and whole == list(range(len(whole)))
        assert written.count(b"\xf5Wj\xfa") == len(whole) + 1
        reports, stats = deliver(server.url, key, disk / "journal")
        assert {error.type for error in reports.all} == {"journal"}  # the disk is still full, too
        assert sum("damaged" in error.message for error in reports.all) == 1
        assert len(files(disk / "journal", ".damaged")) == 1
        assert stats["adopted"] == len(whole)
    assert_all_once(server, key, len(whole))


WRITTEN = """
heard = Heard()
client = new_journal(sys.argv[1] + "/journal", on_error=heard, max_retries=0, max_queue_size=200)


def work(begin):
    payload(client, range(begin, begin + 500))


workers = [threading.Thread(target=work, args=(begin,)) for begin in range(0, 2000, 500)]
for worker in workers:
    worker.start()
for worker in workers:
    worker.join()
die()
"""


def test_four_threads_by_write(server: Sandbox, key: str, tmp_path: Path) -> None:
    """Spilling, rotating and killed: all arrives, once, with no frame damaged."""
    with overlay(tmp_path) as disk:
        server.inject(key, {"do": "status", "status": 503, "times": -1})
        run_app(server, key, tmp_path, DYING + FILLING + WRITTEN, arguments=[disk], status=KILLED)
        server.forget(key)
        assert len(files(disk / "journal")) > 1
        for path in files(disk / "journal"):
            layout(path.read_bytes())
        reports, stats = deliver(server.url, key, disk / "journal")
        assert (stats["adopted"], reports.all) == (2000, [])
    assert_all_once(server, key, 2000)
