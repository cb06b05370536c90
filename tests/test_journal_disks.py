"""The journal on folders and disks that are full, forbidden, taken away, or of another kind.

The disks are real and small, see support.disks: these tests need root.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from support.apps import run_app
from support.disks import DISKS, FILLING, SMALL, ext4, overlay, remount, tmpfs
from support.journals import (
    DYING,
    KILLED,
    accounts,
    assert_ledger,
    deliver,
    files,
    folder_of,
    layout,
    leave_dead,
    modes,
)
from support.rows import named
from whisperr import _chains
from whisperr._segments import can_map
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
    assert warning == f"journal: {report[1]}"
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
        full, _ = run(server, key, tmp_path, FULL_FIRST, disk, status=KILLED)
        assert_told_once(full)
        assert len(files(disk / "journal")) == 1
        reports, stats = deliver(server.url, key, disk / "journal")
        assert (stats["adopted"], reports.all) == (99, [])
    assert_all_once(server, key, 1100)


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
        (line,) = run(server, key, tmp_path, source, disk)
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
