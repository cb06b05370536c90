"""A journal that an earlier build left behind: commit 158e24d, killed with some of it delivered.

``made_by_158e24d`` holds its folder (small segments, without the zeros behind the last frame) and
what its own ``whisperr journal show --all`` printed.
"""

from __future__ import annotations

import json
import shutil
import struct
from pathlib import Path
from zlib import crc32

import pytest

from support.journals import deliver, files, folder_of
from support.sockets import Listener
from whisperr._encoding.bodies import IDENTIFY_PATH
from whisperr._journal import folder as folders
from whisperr.cli import main

MADE = Path(__file__).with_name("made_by_158e24d")
SHOWN = [json.loads(line) for line in (MADE / "shown.jsonl").read_text("utf-8").splitlines()]
HEADER = struct.Struct("<8sHH16s")  # up to the destination


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return Path(shutil.copytree(str(MADE / "journal"), str(tmp_path / "journal")))


def moved(journal: Path, where: bytes) -> None:
    """To another destination: the server of a test listens at a port of its own."""
    for path in files(journal):
        data = path.read_bytes()
        magic, version, size, _ = HEADER.unpack_from(data)
        head = HEADER.pack(magic, version, size, where) + data[HEADER.size : size - 4]
        path.write_bytes(head + struct.pack("<I", crc32(head)) + data[size:])
    folder_of(journal).rename(journal / where.hex())


def test_it_holds_what_it_should() -> None:
    """Two segments; records of every kind; some are settled, and some are not."""
    assert len(files(MADE / "journal")) == 2
    assert len(SHOWN) == 13
    assert [record["number"] for record in SHOWN if record["settled"]] == [0, 1, 2]
    assert sum("identify" in record for record in SHOWN) == 2


def test_it_is_shown_as_it_was(journal: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """``show`` prints the same records, settled ones with ``--all``, to the letter."""
    assert main(["journal", "show", "--all", "--dir", str(journal)]) == 0
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == SHOWN
    assert main(["journal", "show", "--dir", str(journal)]) == 0
    waiting = [record for record in SHOWN if not record["settled"]]
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == waiting


def test_it_is_adopted(journal: Path) -> None:
    """What was not delivered arrives, once, with the ids, the times and the context that the earlier
    build would have sent; nothing is reported, and no file is left.
    """
    with Listener() as server:  # the ingestion server would refuse what is so old by now
        moved(journal, folders.destination(server.url, "wrk_k"))
        reports, stats = deliver(server.url, "wrk_k", journal)
        assert (reports.all, stats["adopted"], stats["delivered"]) == ([], 10, 10)
    bodies = [json.loads(heard.body) for heard in server.heard]
    sent = [event for body in bodies for event in body.get("events", [])]
    waiting = [record for record in SHOWN if not record["settled"]]
    assert sent == [record["track"] for record in waiting if "track" in record]
    identities = [heard for heard in server.heard if heard.target == IDENTIFY_PATH]
    (expected,) = [record for record in waiting if "identify" in record]
    assert [json.loads(heard.body) for heard in identities] == [expected["identify"]]
    assert [heard.headers["idempotency-key"] for heard in identities] == [expected["id"]]
    assert list(folder_of(journal).iterdir()) == []
