"""Journals of many processes that tracked once and died, without so many processes."""

from __future__ import annotations

import os
import time
from pathlib import Path

from whisperr._journal import folder as folders
from whisperr._journal.format import encode_event
from whisperr._journal.log import SMALLEST, Log, Sizing
from whisperr._journal.ownership import Chain
from whisperr._process.fork_token import token_of_this_process


def unlimited(smallest: int = SMALLEST, largest: int = SMALLEST) -> Sizing:
    """Of a log that nobody else has to leave room for."""
    return Sizing(smallest, largest, lambda wanted, least, may_drop: wanted, lambda size: None)


def leave_short_lives(journal: Path, url: str, key: str, count: int, first: int = 0) -> Path:
    """A chain for each number, as a process leaves it that is killed; the destination's folder.

    Each has ids, a time and an application's version of its own: as many seconds ago, and as many
    in the version, as the number says.
    """
    where = folders.destination(url, key)
    folder = folders.open_folder(str(journal), where)
    now = time.time_ns()
    for n in range(first, first + count):
        prefix = os.urandom(10).hex().encode()
        environment = b'"sdk_name":"whisperr-python","sdk_version":"1","app_version":"%d"' % n
        log = Log(
            lambda prefix=prefix: Chain.create(folder, prefix),  # type: ignore[misc]
            where,
            environment,
            unlimited(),
            lambda error: None,
            token_of_this_process(),
        )
        call = b'"user_%d","event_type":"it_happened","properties":{"n":%d}' % (n, n)
        home = log.append(encode_event(0, now - n * 10**9, call, None))
        assert home is not None
        log.release()
    return Path(folder)
