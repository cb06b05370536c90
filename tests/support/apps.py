"""Small applications that track into the test's own server, and the count of what arrived.

An application gets its server, its key and five names:
    new_client(**options)     a client of that server; whisperr is imported by the first call
    track(client, numbers)    one event for each, the number in ``properties.n``
    fork(child, *arguments)   os.fork; the child calls ``child`` and goes on to a normal exit
    reap(pids)                wait for children; each must have ended with status 0
    inside_track(frame)       whether a stack has ``Whisperr.track`` in it
"""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from support.programs import Outcome, run_program
from whisperr.sandbox import Sandbox

PREAMBLE = """\
import os
import sys
import time

URL, KEY = os.environ["APP_URL"], os.environ["APP_KEY"]


def new_client(key=KEY, **options):
    from whisperr import Whisperr
    return Whisperr(key, base_url=URL, **options)


def track(client, numbers):
    for n in numbers:
        client.track("user_%d" % n, "it_happened", {"n": n})


def fork(child, *arguments):
    pid = os.fork()
    if pid == 0:
        child(*arguments)
        sys.exit(0)
    return pid


def reap(pids):
    for pid in pids:
        _, status = os.waitpid(pid, 0)
        assert status == 0, "child %d ended with %#x" % (pid, status)


def inside_track(frame):
    while frame is not None:
        code = frame.f_code
        if code.co_name == "track" and code.co_filename.endswith("_client.py"):
            return True
        frame = frame.f_back
    return False


"""


def run_app(
    server: Sandbox,
    key: str,
    folder: Path,
    source: str,
    *,
    arguments: Iterable[object] = (),
    timeout: float = 30.0,
    flags: Iterable[str] = (),
    status: int | None = 0,
    url: str | None = None,
) -> Outcome:
    """``run_program`` with the names above. ``url``: another destination than the server."""
    return run_program(
        PREAMBLE + textwrap.dedent(source),
        folder,
        arguments=arguments,
        timeout=timeout,
        flags=flags,
        environment={"APP_URL": url or server.url, "APP_KEY": key},
        status=status,
    )


def assert_arrived(server: Sandbox, key: str, numbers: Iterable[int]) -> None:
    """Exactly these numbers arrived, each once, and nothing was sent again."""
    expected = Counter(numbers)
    found = Counter(event["properties"]["n"] for event in server.events(key))
    lost, strange = expected - found, found - expected
    assert not lost, f"{sum(lost.values())} of {sum(expected.values())} lost: {sorted(lost)[:20]}"
    assert not strange, f"{sum(strange.values())} too many: {sorted(strange)[:20]}"
    ledger = server.ledger(key)
    assert (ledger["twice"], ledger["resent"], ledger["refused"]) == (0, 0, 0), ledger
