"""A relay and its lanes over a broker that this test plays."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Sequence
from typing import Any

import pytest

from support.deadlines import wait_until
from support.sandboxes import event
from whisperr._broker.errors import (
    BrokerAlarm,
    BrokerError,
    BrokerTimeout,
    BrokerUnreachable,
    ComesAgain,
)
from whisperr._relay import lane as lane_module
from whisperr._relay.interfaces import DeadLetter, Entry, Fields
from whisperr._relay.lane import Lane
from whisperr._relay.relay import GRACE, Relay, Times
from whisperr._settings import make_settings
from whisperr.sandbox import Sandbox


def message(*numbers: int) -> Fields:
    events = [event(n) for n in numbers]
    body = json.dumps({"events": events}, separators=(",", ":")).encode()
    fields = {b"v": b"1", b"app": b"shop", b"kind": b"events", b"body": body}
    return {**fields, b"n": b"%d" % len(numbers)}


class PlayedInbox:
    """One message, given anew over each connection. What ``breaks`` raises at the call that it names."""

    def __init__(self, fields: Fields, breaks: dict[str, list[BrokerError]]) -> None:
        self.connection = 1
        self.settled: list[bytes] = []
        self.letters: list[DeadLetter] = []
        self._fields = fields
        self._breaks = breaks
        self._is_given = False

    def _break(self, call: str) -> None:
        if self._breaks.get(call):
            raise self._breaks[call].pop(0)

    def read(self, count: int, seconds: float) -> list[Entry]:
        if self._is_given:
            threading.Event().wait(seconds)
            return []
        self._is_given = True
        return [(b"%d" % self.connection, self._fields)]

    def settle(self, ids: Sequence[bytes], dead: Iterable[DeadLetter]) -> None:
        if any(each != b"%d" % self.connection for each in ids):
            raise ComesAgain
        self.letters += dead
        self._break("settle")
        self.settled += ids

    def lose(self) -> None:
        self.connection += 1
        self._is_given = False

    def keep_alive(self) -> None:
        self._break("keep_alive")

    def leave(self) -> None:
        """Nothing is left."""


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lane_module, "HOLD", 0.05)
    monkeypatch.setattr(lane_module, "BROKER_PAUSE", 0.05)


def run_until_settled(inbox: PlayedInbox, server: Sandbox, key: str) -> Lane:
    settings = make_settings(key, {"base_url": server.url, "max_retries": 1})
    stop = threading.Event()
    lane = Lane(
        app="shop",
        inbox=inbox,
        broker="amqp://broker",
        settings=settings,
        relay="17-0a1b2c3d",
        linger=0.01,
        stop=stop,
        stop_at=lambda: 0.0 if stop.is_set() else None,
    )
    thread = threading.Thread(target=lane.run)
    thread.start()
    try:
        assert wait_until(lambda: bool(inbox.settled))
        assert wait_until(lambda: lane.held == 0)
    finally:
        stop.set()
        thread.join()
    return lane


def test_a_connection_that_breaks_between_two_attempts(
    quick: None, server: Sandbox, key: str
) -> None:
    """What was held comes again over the next one: once, alone, and it is settled there."""
    server.inject(key, {"do": "status", "status": 503, "times": 2})
    inbox = PlayedInbox(message(1, 2, 3), {"keep_alive": [BrokerUnreachable()]})
    lane = run_until_settled(inbox, server, key)
    ledger = server.ledger(key)
    assert (ledger["arrived"], ledger["twice"], ledger["resent"]) == (3, 0, 0)
    assert (inbox.settled, lane.delivered) == ([b"2"], 3)


def test_a_connection_that_breaks_at_an_acknowledgement(
    quick: None, server: Sandbox, key: str
) -> None:
    """Nobody knows whether it was heard: the message comes again, and is settled then."""
    inbox = PlayedInbox(message(1, 2, 3), {"settle": [BrokerUnreachable()]})
    run_until_settled(inbox, server, key)
    assert inbox.settled == [b"2"]
    assert server.ledger(key)["requests"] == 2


@pytest.mark.parametrize("strange", [False, True])
def test_an_alarm_while_a_letter_is_written(
    quick: None, server: Sandbox, key: str, strange: bool
) -> None:
    """The same letter is tried again, over the same connection, and nothing is posted a second time."""
    server.inject(key, {"do": "refuse", "where": {"properties.n": 2}})
    fields = {b"v": b"9", b"body": b"?"} if strange else message(1, 2, 3)
    inbox = PlayedInbox(fields, {"settle": [BrokerAlarm(), BrokerAlarm()]})
    lane = run_until_settled(inbox, server, key)
    assert (inbox.settled, lane.dead) == ([b"1"], 1)
    assert len(inbox.letters) == 3 and len({(each.id, each.at) for each in inbox.letters}) == 1
    assert lane.delivered == (0 if strange else 2)


class PlayedBroker:
    """One that says nothing, and that a relay is stopped in front of once its lane is busy."""

    def __init__(self) -> None:
        self.relay: Relay | None = None
        self.waits: list[float] = []  # seconds for its answers, after that
        self.begun, self.over = threading.Event(), threading.Event()

    def presence(self, consumer: str, claim_after: float) -> PlayedBroker:
        return self

    def inbox(self, app: str, consumer: str, presence: Any) -> BusyInbox:
        return BusyInbox(self.begun, self.over)

    def beat(self, seconds: float) -> None:
        assert self.relay is not None
        if self.relay.is_stopping:
            self.waits.append(seconds)
        elif self.begun.is_set():
            self.relay.stop()
        raise BrokerTimeout

    def unserved(self, served: Iterable[str]) -> list[str]:
        return []

    def leave(self, seconds: float) -> None:
        self.waits.append(seconds)


class BusyInbox(PlayedInbox):
    """Its lane is in the middle of something until the test is over."""

    def __init__(self, begun: threading.Event, over: threading.Event) -> None:
        super().__init__(message(1), {})
        self._begun, self._over = begun, over

    def read(self, count: int, seconds: float) -> list[Entry]:
        self._begun.set()
        self._over.wait()
        return []


def test_a_stop_while_the_broker_is_frozen(key: str) -> None:
    """Nothing that it is asked at the end has more time than the end itself."""
    broker: Any = PlayedBroker()
    settings = {"shop": make_settings(key, {})}
    broker.relay = Relay(broker, "amqp://broker", settings, Times(0.1, 1.0, 0.0))
    try:
        assert broker.relay.run()
    finally:
        broker.over.set()
    assert len(broker.waits) >= 2
    assert max(broker.waits) <= GRACE, broker.waits
