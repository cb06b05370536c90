"""Clients whose ledger is checked at their end, and what their application is told."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any, Callable

from support.deadlines import DEADLINE, generous
from whisperr import Whisperr, WhisperrError
from whisperr.sandbox import Sandbox

NEVER = 1_000_000  # records, or seconds: no test gets there
SETTLED_BY = generous(5.0)  # seconds that a client may take to deliver what a test left queued


@contextlib.contextmanager
def open_client(url: str, key: str, **options: Any) -> Iterator[Whisperr]:
    """A client that delivers only when it is asked to, and whose ledger closes at its end."""
    patient: dict[str, Any] = {"base_url": url, "flush_at": NEVER, "flush_interval": NEVER}
    patient["request_timeout"] = SETTLED_BY
    client = Whisperr(key, **{**patient, **options})
    try:
        yield client
    except BaseException:
        client.shutdown(0)
        raise
    client.shutdown(SETTLED_BY)
    assert_closed(client.stats())
    assert client.stats()["pending"] == 0


def assert_closed(stats: dict[str, Any]) -> None:
    """accepted + adopted = delivered + dropped + pending + spilled; without a journal, two are 0."""
    settled = stats["delivered"] + sum(stats["dropped"].values()) + stats["pending"]
    assert stats["accepted"] == settled, stats
    assert stats["adopted"] == stats["spilled"] == 0, stats


def track(client: Whisperr, numbers: Iterable[int], **properties: Any) -> None:
    """One event for each number, in ``properties.n``."""
    for number in numbers:
        client.track(f"user_{number}", "number_seen", {"n": number, **properties})


def flush_until_settled(client: Whisperr, seconds: float = DEADLINE) -> None:
    """Repeat flush() until it says True."""
    deadline = time.monotonic() + seconds
    while not client.flush():
        assert time.monotonic() < deadline, client.stats()


def numbers_at(server: Sandbox, key: str) -> list[int]:
    """The numbers of the events that arrived, in the order of arrival."""
    return [event["properties"]["n"] for event in server.events(key)]


def assert_arrived(server: Sandbox, key: str, count: int) -> dict[str, Any]:
    """So many events are at the server, none of them twice. Returns its ledger."""
    ledger = server.ledger(key)
    assert (ledger["arrived"], ledger["numbers"]) == (count, count), ledger
    assert (ledger["twice"], ledger["identities_twice"]) == (0, 0), ledger
    return ledger


class Reports:
    """An ``on_error`` that keeps what it is told and then does as it is told itself."""

    def __init__(self, then: Callable[[WhisperrError], object] | None = None) -> None:
        self.all: list[WhisperrError] = []
        self.threads: list[str] = []
        self._then = then
        self._changed = threading.Condition()

    def __call__(self, error: WhisperrError) -> None:
        with self._changed:
            self.all.append(error)
            self.threads.append(threading.current_thread().name)
            self._changed.notify_all()
        if self._then is not None:
            self._then(error)

    def of(self, kind: str) -> list[WhisperrError]:
        return [error for error in self.all if error.type == kind]

    def counts(self, kind: str) -> list[int]:
        return [error.count for error in self.of(kind)]

    def brief(self) -> list[tuple[str, int | None, int]]:
        """Type, status and count of each."""
        return [(error.type, error.status, error.count) for error in self.all]

    def wait(self, count: int = 1) -> None:
        """Return when there are so many."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.all) >= count, DEADLINE), self.all
