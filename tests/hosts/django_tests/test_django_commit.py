"""``track_on_commit``: an event is as lasting as the transaction that it is tracked in."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from django.db import connection, transaction
from django.test.utils import override_settings

from support.apps import assert_arrived
from whisperr import WhisperrError
from whisperr.django import get_client, track_on_commit
from whisperr.sandbox import Sandbox

pytestmark = pytest.mark.usefixtures("django")


class Undo(Exception):
    pass


def track(number: int, **options: Any) -> None:
    track_on_commit("7", "ordered", {"n": number}, **options)


def pending() -> int:
    return int(get_client().stats()["pending"])


def arrived(server: Sandbox, key: str, *numbers: int) -> list[dict[str, Any]]:
    assert get_client().flush()
    assert_arrived(server, key, numbers)
    return server.events(key)


def test_committed(server: Sandbox, key: str) -> None:
    """The event leaves when the outermost transaction has committed, not before."""
    with transaction.atomic():
        with transaction.atomic():
            track(0)
        assert pending() == 0
    assert pending() == 1
    arrived(server, key, 0)


def test_rolled_back(server: Sandbox, key: str) -> None:
    """What is tracked in a transaction or savepoint that is rolled back is never sent."""
    with pytest.raises(Undo), transaction.atomic():
        track(-1)
        raise Undo
    with transaction.atomic():
        track(0)
        with pytest.raises(Undo), transaction.atomic():
            track(-2)
            raise Undo
        track(1)
    arrived(server, key, 0, 1)


def test_outside_a_transaction(server: Sandbox, key: str) -> None:
    """It is `track`, at once, and opens no connection to the database."""
    connection.close()
    track(0)
    assert connection.connection is None
    with connection.cursor():
        track(1)
    assert pending() == 2
    arrived(server, key, 0, 1)


def test_a_snapshot(server: Sandbox, key: str) -> None:
    """The event is what it was at the call, its time too."""
    lines = ["one"]
    with transaction.atomic():
        track_on_commit("7", "ordered", {"n": 0, "lines": lines}, {"x": lines}, message_id="mine")
        lines.append("two")
        get_client().track("7", "ordered", {"n": 1})
    direct, kept = arrived(server, key, 0, 1)
    assert kept["properties"]["lines"] == kept["context"]["x"] == ["one"]
    assert kept["context"]["$message_id"] == "mine"
    assert kept["occurred_at"] <= direct["occurred_at"]


def test_another_database(server: Sandbox, key: str) -> None:
    """`using` says whose transaction it is."""
    with pytest.raises(Undo), transaction.atomic(using="other"):
        track(0)
        track(-1, using="other")
        raise Undo
    arrived(server, key, 0)


def test_in_an_event_loop(server: Sandbox, key: str) -> None:
    """There Django has no transactions: it is `track`, at once."""

    async def go() -> None:
        track(0)
        assert pending() == 1

    asyncio.run(go())
    arrived(server, key, 0)


@pytest.mark.parametrize("using", ["default", "no_such_database"])
def test_what_cannot_be_followed(using: str, server: Sandbox, key: str) -> None:
    """A transaction without `atomic` tells nobody of its end: the event is lost, which is said;
    so is one of an unknown database. Nothing is raised."""
    reports: list[WhisperrError] = []
    connection.ensure_connection()
    transaction.set_autocommit(False)
    try:
        with override_settings(WHISPERR_ON_ERROR=reports.append):
            track(-1, using=using)
    finally:
        transaction.rollback()
        transaction.set_autocommit(True)
    arrived(server, key)
    assert [(report.type, report.count) for report in reports] == [("dropped", 1)]
