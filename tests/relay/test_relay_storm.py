"""Eight preloaded gunicorn workers, a broker, three relays and an API that fails at random, while somebody
kills the relays, one after the other, and once the broker.

``WHISPERR_STORM_SECONDS`` says how much is tracked: 400 events for each, so 100,000 for 250.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from signal import SIGKILL
from typing import Any, Callable

import pytest

from support.deadlines import generous, wait_until
from support.journals import files
from support.rabbits import OwnRabbit
from support.relays import RunningRelay, running_relay
from support.servers import Setting
from support.storms import seconds_of_storm
from whisperr import Whisperr
from whisperr.sandbox import Sandbox

pytestmark = [pytest.mark.endurance, pytest.mark.timeout(3600)]

WORKERS, RELAYS = 8, 3
A_REQUEST = 20  # events
REQUESTS = int(seconds_of_storm() * 400 / A_REQUEST)
FAILING = {"do": "status", "status": 503, "share": 0.05}
BETWEEN_KILLS = 1.0  # seconds
FULL = 500  # events of a request to the API
TO_RECOVER = generous(120.0)  # seconds for what waits in the journal at the end

# Each request tracks as much as a client sends at once.
APPLICATION = f"""
import served

def application(environ, start_response):
    for _ in range({A_REQUEST}):
        served.note("request")
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]
"""
GUNICORN = f"""
from whisperr.integrations.gunicorn import post_fork, post_worker_init, worker_abort, worker_exit
workers, preload_app, max_requests, max_requests_jitter = {WORKERS}, True, {REQUESTS // 40}, 10
graceful_timeout = timeout = 120
"""


class Relays:
    """So many of them, of which one is killed, and another begun in its place, at each step."""

    def __init__(
        self, start: Callable[[], contextlib.AbstractContextManager[RunningRelay]]
    ) -> None:
        self._start = start
        self._stack = contextlib.ExitStack()
        self.killed = 0
        self.running = [self._begin() for _ in range(RELAYS)]

    def _begin(self) -> RunningRelay:
        return self._stack.enter_context(self._start())

    def kill_one(self) -> None:
        self.running.pop(0).group.send(SIGKILL)
        self.killed += 1
        self.running.append(self._begin())

    def close(self) -> None:
        self._stack.close()


@pytest.fixture(params=["classic", "quorum", "redis"])
def kind(request: pytest.FixtureRequest) -> str:
    """Of a queue."""
    return str(request.param)


@pytest.fixture
def broker(request: pytest.FixtureRequest, kind: str) -> Any:
    return request.getfixturevalue("mortal_redis" if kind == "redis" else "mortal_rabbit")


@pytest.fixture
def relays(broker: Any, kind: str, server: Sandbox, key: str, tmp_path: Path) -> Iterator[Relays]:
    declare = () if kind == "redis" else ("--declare", kind)
    made = Relays(lambda: running_relay(tmp_path, broker.url, server.url, *declare, shop=key))
    if isinstance(broker, OwnRabbit):
        assert wait_until(lambda: broker.has("whisperr.dead-letters"))
        broker.write_down()
    with contextlib.closing(made):
        yield made


def test_kills_of_relays_and_of_the_broker_lose_nothing(
    broker: Any, relays: Relays, kind: str, server: Sandbox, key: str, tmp_path: Path
) -> None:
    """All arrives whose track() has returned, each under one id. What comes again is what a relay
    had sent at its kill, and not acknowledged: a full request for each, and one of each when the
    broker was killed.
    """
    server.inject(key, FAILING)
    journal = {"app": "shop", "broker_url": broker.url, "journal_dir": str(tmp_path / "journal")}
    often = {"flush_at": A_REQUEST, "flush_interval": 0.5, "max_retries": 1}
    setting = Setting(tmp_path, server, key)
    (tmp_path / "burst.py").write_text(APPLICATION)
    with setting.gunicorn(
        "burst:application", GUNICORN, options={**journal, **often}
    ) as served, ThreadPoolExecutor(1) as caller:
        for half in range(2):
            sending = caller.submit(served.send, REQUESTS // 2)
            if half:
                broker.kill()
                broker.start()
            while wait([sending], BETWEEN_KILLS).not_done:
                relays.kill_one()
            sending.result()
        workers = {line["pid"] for line in served.lines("senders")}
        served.stop()
        tracked = served.numbers()
    with Whisperr(
        key, base_url=server.url, **journal
    ) as last:  # what an exit had no time for, or no broker
        assert last.flush(TO_RECOVER), last.stats()
    assert files(tmp_path / "journal") == []
    ledger = server.wait_for(key, len(tracked))
    found = Counter(event["properties"]["n"] for event in server.events(key))
    copies = ledger["twice"] + ledger["resent"]
    print(
        f"{kind}: {len(tracked)} tracked by {len(workers)} processes, {relays.killed} relays killed, "
        f"{100 * copies / len(tracked):.1f} % came again: {ledger}"
    )
    assert len(tracked) >= REQUESTS * A_REQUEST and found == Counter(tracked)
    assert len(workers) > WORKERS and relays.killed > 0
    assert copies <= (relays.killed + RELAYS) * FULL, ledger
