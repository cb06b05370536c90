"""Journals on disk: made by a process that dies, read by their format alone, delivered by another.

The format is read here without the product's own reader, so that the two may disagree.
"""

from __future__ import annotations

import contextlib
import json
import os
import struct
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

from support.apps import run_app
from support.clients import NEVER, Reports
from support.deadlines import DEADLINE
from whisperr import Whisperr
from whisperr.sandbox import Sandbox

NOWHERE = "http://127.0.0.1:9"  # nobody listens
KILLED = -9  # the status of a process that ended by SIGKILL

# What a process does whose events are to be found: it hears of trouble, and dies by SIGKILL.
DYING = """\
import json
import signal

ACCOUNT = os.open("account", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def account(**line):
    os.write(ACCOUNT, json.dumps(line).encode() + b"\\n")


def new_journal(folder="journal", **options):
    patient = {"flush_at": 10**6, "flush_interval": 10**6}
    return new_client(journal_dir=folder, **{**patient, **options})


"""


# Of a program in which a hundred events fit into one segment.
LARGE_SEGMENTS = """
import whisperr._journal.journal

whisperr._journal.journal.SMALLEST = 64 * 1024  # bytes
"""


class Placed(NamedTuple):
    """A frame and where it lies."""

    kind: int  # 0 an event, 1 one with a context or an id of its own, 2 an identity, 3 what is settled
    number: int
    when: int
    payload: bytes
    start: int
    end: int


class Layout(NamedTuple):
    header_end: int
    frames: list[Placed]
    end: int  # of the last frame; zeros follow


def layout(data: bytes) -> Layout:
    """Of an undamaged segment, by docs/reference/journal-format.md; asserts every checksum."""
    assert data[:8] == b"\x89WHSPR\r\n"
    version, at = struct.unpack_from("<HH", data, 8)
    assert version == 1
    assert crc32(data[: at - 4]) == struct.unpack_from("<I", data, at - 4)[0]
    header_end, frames = at, []
    while data[at : at + 4] == b"\xf5Wj\xfa":
        size, number, when = struct.unpack_from("<IQq", data, at + 4)
        end = at + 24 + size + 4
        assert crc32(data[at : end - 4]) == struct.unpack_from("<I", data, end - 4)[0]
        kind, number = number >> 56, number & (1 << 56) - 1
        frames.append(Placed(kind, number, when, data[at + 24 : end - 4], at, end))
        at = end
    assert not data[at:].strip(b"\0")
    return Layout(header_end, frames, at)


def accounts(folder: Path) -> list[dict[str, Any]]:
    """What a program wrote by ``account()``."""
    return [json.loads(line) for line in (folder / "account").read_text().splitlines()]


def files(journal: Path, ending: str = ".seg") -> list[Path]:
    """Of all destinations of a journal folder, in order."""
    return sorted(journal.glob(f"*/*{ending}"))


def folder_of(journal: Path) -> Path:
    """The folder of the only destination."""
    (folder,) = journal.iterdir()
    return folder


def leave_dead(
    server: Sandbox, key: str, folder: Path, source: str, *, arguments: Iterable[object] = ()
) -> Path:
    """Run what ends by ``die()`` in ``folder``; its journal. The server is out of order meanwhile."""
    server.inject(key, {"do": "status", "status": 503, "times": -1})
    run_app(server, key, folder, DYING + source, arguments=arguments, status=KILLED)
    server.forget(key)
    return folder / "journal"


def adopter(url: str, key: str, journal: Path, **options: Any) -> Whisperr:
    """A client that delivers what it finds there, when it is asked to."""
    patient = {"base_url": url, "flush_at": NEVER, "flush_interval": NEVER}
    return Whisperr(key, **{**patient, "journal_dir": journal, **options})


def deliver(url: str, key: str, journal: Path, **options: Any) -> tuple[Reports, dict[str, Any]]:
    """By a client that comes after the dead: what it was told of, and its ledger, which closes."""
    reports = Reports()
    client = adopter(url, key, journal, on_error=reports, **options)
    assert client.flush(DEADLINE), client.stats()
    assert client.shutdown()
    stats = client.stats()
    assert_ledger(stats)
    assert (stats["pending"], stats["spilled"]) == (0, 0), stats
    return reports, stats


@contextlib.contextmanager
def watching_deliverer(url: str, key: str, journal: Path) -> Iterator[subprocess.Popen[str]]:
    """``whisperr journal deliver --watch`` on the folder, which is made here."""
    journal.mkdir(mode=0o700)
    command = [sys.executable, "-m", "whisperr", "journal", "deliver", "--watch"]
    process = subprocess.Popen(
        [*command, "--interval", "0.2", "--base-url", url, "--dir", str(journal)],
        cwd=str(journal.parent),
        env={**os.environ, "WHISPERR_API_KEY": key},
        stdout=subprocess.PIPE,
        universal_newlines=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def assert_ledger(stats: dict[str, Any]) -> None:
    """accepted + adopted = delivered + dropped + pending + spilled."""
    left = stats["pending"] + stats["spilled"]
    assert stats["accepted"] + stats["adopted"] == (
        stats["delivered"] + sum(stats["dropped"].values()) + left
    ), stats


def flip(data: bytes, bits: Iterable[int]) -> bytes:
    """With these bits the other way round."""
    changed = bytearray(data)
    for bit in bits:
        changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def modes(journal: Path) -> dict[str, int]:
    """Of every folder and file, by path."""
    found = [journal, *journal.rglob("*")]
    return {str(path.relative_to(journal)): os.lstat(path).st_mode & 0o7777 for path in found}
