"""Waits are of real time, whatever clock an application's tests freeze, replace or move.

The first answer of every server here is a 503, so that each delivery has a back-off in it: with
a wait that asked a clock of others it would come to no end, and the test would fail with a flush
that says False at its deadline.
"""

from __future__ import annotations

import ast
import contextlib
import datetime
import itertools
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable, ContextManager
from unittest import mock

import freezegun
import pytest
import time_machine

import whisperr
from support.clients import (
    DEADLINE,
    NEVER,
    assert_arrived,
    flush_until_settled,
    open_client,
    track,
)
from support.programs import run_program
from support.sockets import Answer, Heard, Listener
from whisperr import Whisperr, _clock, lifecycle
from whisperr._delivery.retry import retry_after
from whisperr.sandbox import Sandbox

THEN = "2020-05-17T12:00:00.123456"
STAMP = "2020-05-17T12:00:00.123Z"
MOMENT = datetime.datetime(2020, 5, 17, 12, 0, 0, 123456, tzinfo=datetime.timezone.utc)
HOUR = 3600  # seconds


@contextlib.contextmanager
def a_stepping_clock(step: float) -> Iterator[None]:
    """Wall clock and monotonic clock go on by so much whenever somebody looks."""
    seconds = itertools.count(1e9, step)
    with contextlib.ExitStack() as stack:
        for name in ("time", "monotonic", "perf_counter"):
            stack.enter_context(mock.patch(f"time.{name}", side_effect=lambda: next(seconds)))
        yield


# How a clock may look to an application.
CLOCKS: dict[str, Callable[[], ContextManager[Any]]] = {
    "frozen by freezegun": lambda: freezegun.freeze_time(THEN),
    "ticking by freezegun": lambda: freezegun.freeze_time(THEN, tick=True),
    "an hour for each look": lambda: freezegun.freeze_time(THEN, auto_tick_seconds=HOUR),
    "frozen by time-machine": lambda: time_machine.travel(MOMENT, tick=False),
    "ticking by time-machine": lambda: time_machine.travel(MOMENT, tick=True),
    "a monotonic that stands": lambda: mock.patch("time.monotonic", return_value=7.0),
    "a monotonic that is a mock": lambda: mock.patch("time.monotonic"),
    "a monotonic of before": lambda: mock.patch("time.monotonic", return_value=-1e9),
    "an infinite monotonic": lambda: mock.patch("time.monotonic", return_value=float("inf")),
    "a sleep that is a mock": lambda: mock.patch("time.sleep"),
    "a sleep that raises": lambda: mock.patch("time.sleep", side_effect=AssertionError),
    "no clock_gettime": lambda: mock.patch("time.clock_gettime", side_effect=AssertionError),
    "an hour forward at each look": lambda: a_stepping_clock(HOUR),
    "an hour back at each look": lambda: a_stepping_clock(-HOUR),
}


def troubled() -> Callable[[Heard], Answer]:
    """A 503 at first."""
    statuses = iter([503])
    return lambda heard: Answer(next(statuses, 202))


@pytest.mark.parametrize("name", CLOCKS)
def test_a_back_off_ends(key: str, name: str) -> None:
    """The retry comes after real time, once, in a client that was made before."""
    with Listener(troubled()) as listener, open_client(listener.url, key) as client:
        with CLOCKS[name]():
            track(client, range(3))
            assert client.flush(DEADLINE)
            assert len(listener.heard) == 2
            assert client.stats()["retries"] == 1
        track(client, range(3, 6))
        assert client.flush(DEADLINE)


@pytest.mark.parametrize("name", CLOCKS)
def test_a_back_off_that_has_begun_ends(key: str, name: str) -> None:
    """Also one in which the clock was replaced, and one in which it is put back."""
    failed, changed = threading.Event(), threading.Event()

    def respond(heard: Heard) -> Answer:
        if failed.is_set():
            return Answer()
        failed.set()
        assert changed.wait(DEADLINE)
        return Answer(503)

    with Listener(respond) as listener, open_client(listener.url, key) as client:
        for before, after in (
            (CLOCKS[name], contextlib.nullcontext),
            (contextlib.nullcontext, CLOCKS[name]),
        ):
            failed.clear()
            changed.clear()
            with before():
                track(client, range(3))
                client._own_engine().request_pass()  # type: ignore[union-attr]
                assert failed.wait(DEADLINE)
            with after():
                changed.set()
                assert client.flush(DEADLINE)
    assert len(listener.heard) == 4


@pytest.mark.parametrize("name", CLOCKS)
def test_deadlines_are_real(key: str, name: str) -> None:
    """flush(), flush_all(), a request and an exit end in their time where the server says nothing,
    and an interval ends by itself."""
    silent, asked = threading.Event(), threading.Event()

    def respond(heard: Heard) -> Answer:
        asked.set()
        silent.wait(DEADLINE)
        return Answer()

    with Listener(respond) as listener, open_client(
        listener.url, key, flush_interval=0.1, request_timeout=0.5, max_retries=0
    ) as client, CLOCKS[name]():
        track(client, [0])
        assert asked.wait(DEADLINE)  # by the interval
        assert not client.flush(0.1)
        assert not lifecycle.flush_all(0.1)
        assert not client.flush()  # by request_timeout
        silent.set()
        flush_until_settled(client)  # an answer may take longer than request_timeout
        track(client, [1])
        assert client.shutdown(DEADLINE)


def test_the_sender_asks_no_wall_clock(server: Sandbox, key: str) -> None:
    """What an application put in its place may count its calls, or have an answer for some only."""
    server.inject(key, {"do": "status", "status": 503, "headers": {"Set-Cookie": "a=b"}})
    with open_client(server.url, key) as client:
        with mock.patch("time.time", side_effect=AssertionError) as wall_clock:
            track(client, range(3))
            client.identify("user", email="a@example.org")
            assert client.flush(DEADLINE)
        assert wall_clock.call_count == 0
    assert_arrived(server, key, 3)


@pytest.mark.parametrize("shift", [HOUR, -HOUR])
def test_a_wall_clock_that_jumps_during_a_back_off(key: str, shift: int) -> None:
    """An hour either way, and the retry comes when it would have come."""
    with time_machine.travel(datetime.datetime.now(datetime.timezone.utc)) as traveller:
        statuses = iter([503, 429])

        def respond(heard: Heard) -> Answer:
            traveller.shift(shift)
            return Answer(next(statuses, 202), {"Retry-After": "1"})

        with Listener(respond) as listener, open_client(listener.url, key) as client:
            track(client, range(3))
            assert client.flush(DEADLINE)
    assert len(listener.heard) == 3


@pytest.mark.parametrize("name", ["frozen by freezegun", "frozen by time-machine"])
def test_a_date_in_retry_after_is_the_servers(name: str) -> None:
    """It is counted from the server's own ``Date``."""
    with CLOCKS[name]():
        wait = retry_after("Fri, 27 Nov 2026 12:00:09 GMT", "Fri, 27 Nov 2026 12:00:00 GMT")
    assert wait == 9


# --- the application's time is that of its events


@pytest.mark.parametrize(
    "clock",
    [
        lambda: freezegun.freeze_time(THEN),
        lambda: time_machine.travel(MOMENT, tick=False),
        lambda: mock.patch(
            "time.time_ns", return_value=int(MOMENT.timestamp()) * 10**9 + 123456789
        ),
    ],
    ids=["freezegun", "time-machine", "mock"],
)
def test_events_are_dated_by_the_applications_clock(
    key: str, clock: Callable[[], ContextManager[Any]]
) -> None:
    """To the millisecond, also when they are sent after it."""
    with Listener() as listener, open_client(listener.url, key) as client:
        with clock():
            track(client, [0, 1])
        track(client, [2])
        assert client.flush()
    events = json.loads(listener.heard[0].body)["events"]
    assert [event["occurred_at"] for event in events[:2]] == [STAMP, STAMP]
    now = datetime.datetime.now(datetime.timezone.utc)
    assert events[2]["occurred_at"][:4] == str(now.year)


# --- there before us


FROZEN_BEFORE = """
    import http.server
    import sys
    import threading
    {imports}

    class Handler(http.server.BaseHTTPRequestHandler):
        statuses = [202, 503, 202, 503]

        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(self.statuses.pop())
            self.end_headers()

        def log_message(self, *args):
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    url = "http://127.0.0.1:%d" % server.server_port
    assert "whisperr" not in sys.modules
    with {clock}:
        import whisperr
        client = whisperr.Whisperr("wrk_test", base_url=url, flush_interval=999)
        client.track("u", "order_paid")
        assert client.flush(20), client.stats()
    client.track("u", "order_paid")
    assert client.flush(20), client.stats()
    assert Handler.statuses == []
    assert client.shutdown(20)
    server.shutdown()
    server.server_close()
"""


@pytest.mark.parametrize(
    ("imports", "clock"),
    [
        ("import freezegun", "freezegun.freeze_time('2020-01-01')"),
        ("import freezegun", "freezegun.freeze_time('2020-01-01', tick=True)"),
        ("import freezegun", "freezegun.freeze_time('2020-01-01', auto_tick_seconds=3600)"),
        ("import time_machine", "time_machine.travel(0, tick=False)"),
        ("from unittest import mock", "mock.patch('time.monotonic', return_value=7.0)"),
    ],
)
def test_imported_while_the_time_stands(tmp_path: Path, imports: str, clock: str) -> None:
    """Right there, and right afterwards."""
    run_program(FROZEN_BEFORE.format(imports=imports, clock=clock), tmp_path)


def test_the_clock_is_right_whatever_it_was_imported_among() -> None:
    """A second copy of the module, made while everything is replaced, reads the real clock."""
    if sys.version_info < (3, 9):
        replaced: dict[str, Any] = {"monotonic": lambda: 7.0}  # 3.8 has no second module `time`
    else:
        replaced = {"monotonic": lambda: 7.0, "clock_gettime": lambda which: 7.0}
    namespace: dict[str, Any] = {"__name__": "copy"}
    source = Path(_clock.__file__).read_text(encoding="utf-8")
    with mock.patch.multiple(time, **replaced):
        exec(compile(source, _clock.__file__, "exec"), namespace)
        assert time.monotonic() == 7.0  # the stand-ins are still there
        before, between, after = _clock.monotonic(), namespace["monotonic"](), _clock.monotonic()
    assert before <= between <= after


# --- stopped for a while


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="no SIGSTOP")
def test_a_process_that_was_stopped_in_a_back_off_goes_on(tmp_path: Path) -> None:
    """It delivers when it is continued."""
    source = """
        import sys
        import whisperr
        client = whisperr.Whisperr("wrk_test", base_url=sys.argv[1], flush_interval=999)
        client.track("u", "order_paid")
        assert client.flush(20), client.stats()
    """
    program = tmp_path / "program.py"
    program.write_text(textwrap.dedent(source))
    failed = threading.Event()
    statuses = iter([503])

    def respond(heard: Heard) -> Answer:
        failed.set()
        return Answer(next(statuses, 202), {"Retry-After": "1"})

    with Listener(respond) as listener:
        child = subprocess.Popen([sys.executable, str(program), listener.url])
        try:
            assert failed.wait(DEADLINE)
            os.kill(child.pid, signal.SIGSTOP)
            assert os.WIFSTOPPED(os.waitpid(child.pid, os.WUNTRACED)[1])
            os.kill(child.pid, signal.SIGCONT)
            assert child.wait(DEADLINE) == 0
        finally:
            child.kill()
            child.wait()
    assert len(listener.heard) == 2


# --- no other clock in the house


SERVER_SIDE = {"sandbox"}  # a process of its own, in which nobody replaces anything


def test_nobody_asks_another_clock() -> None:
    """Of all that ships, one module reads a clock for waits, and none sleeps."""
    top = Path(whisperr.__file__).parent
    files = [
        path for path in top.rglob("*.py") if path.relative_to(top).parts[0] not in SERVER_SIDE
    ]
    found = []
    for path in files:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute):
                name = f"{getattr(node.value, 'id', '')}.{node.attr}"
            elif isinstance(node, ast.ImportFrom) and node.module == "time":
                name = f"time.{node.names[0].name}"
            else:
                continue
            if name in {"time.monotonic", "time.perf_counter", "time.sleep", "time.monotonic_ns"}:
                found.append(str(path.relative_to(top)))
    assert set(found) == {"_clock.py"}
    assert len(files) > 50


def test_an_unused_client_costs_no_wait() -> None:
    """A disabled one neither."""
    with freezegun.freeze_time(THEN):
        for options in ({"disabled": True}, {"flush_interval": NEVER}):
            assert Whisperr("wrk_x", base_url="http://127.0.0.1:9", **options).shutdown(0)
