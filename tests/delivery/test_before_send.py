"""``before_send`` and ``redact``: what the application changes or leaves out, and what it costs others."""

from __future__ import annotations

import dataclasses
import multiprocessing
import re
import signal
import threading
from collections import OrderedDict
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType
from typing import Any, Callable

import pytest

from support import run_program
from support.child_calls import hook_of_a_child, track_in_child
from support.clients import Reports, assert_arrived, assert_closed, numbers_at, open_client
from support.forks import forks_beside_threads
from support.rows import named
from whisperr import Whisperr
from whisperr._delivery.intake import Intake
from whisperr.sandbox import Sandbox
from whisperr.testing import recording


def same(call: dict[str, Any]) -> dict[str, Any]:
    return call


def sent(before_send: Any = None, redact: Any = (), **given: Any) -> dict[str, Any]:
    """What becomes of the properties of one event."""
    client = Whisperr("wrk_k", before_send=before_send, redact=redact)
    with recording() as events:
        client.track("u", "order_paid", **given)
    return events[0].properties


# --- the hook


def test_it_sees_the_arguments_and_returns_what_is_sent(server: Sandbox, key: str) -> None:
    """Of events and identities, as dicts; a new dict will do as well."""
    seen: list[dict[str, Any]] = []

    def change(call: dict[str, Any]) -> dict[str, Any]:
        seen.append(dict(call))
        if "event_type" in call:
            call["properties"]["n"] = 1
            return {**call, "external_user_id": "other", "context": {"ip": "::1"}}
        return {"external_user_id": call["external_user_id"], "traits": {"plan": "free"}}

    with open_client(server.url, key, before_send=change) as client:
        client.track("u", "order_paid", {"n": 7}, message_id="mine")
        client.identify("v", traits={"plan": "pro"}, email="a@example.org")
        assert client.flush()
    (event,) = server.events(key)
    assert (event["external_user_id"], event["properties"]) == ("other", {"n": 1})
    assert (event["context"]["ip"], event["context"]["$message_id"]) == ("::1", "mine")
    (identity,) = server.identities(key)
    assert identity == {"external_user_id": "v", "traits": {"plan": "free"}}
    assert list(seen[0]) == [
        "external_user_id",
        "event_type",
        "properties",
        "context",
        "occurred_at",
        "message_id",
    ]
    assert (seen[1]["email"], seen[1]["traits"]) == ("a@example.org", {"plan": "pro"})


@pytest.mark.parametrize(
    "properties",
    named(
        {
            "flat": {"a": 1},
            "nested": {"a": {"b": [1, {"c": (2, {"d": 3})}]}},
            "mapping": MappingProxyType({"a": 1}),
            "subclass": OrderedDict(a=1),
            "none": None,
        }
    ),
)
def test_what_it_changes_stays_in_the_event(properties: Any) -> None:
    """The caller's own objects are never touched."""

    def spoil(call: dict[str, Any]) -> dict[str, Any]:
        call["context"]["x"] = 1
        walk(call["properties"])
        return call

    def walk(value: Any) -> None:
        if isinstance(value, dict):
            for item in list(value.values()):
                walk(item)
            value["spoilt"] = True
        elif isinstance(value, (list, tuple)):
            for item in value:
                walk(item)

    before = repr(properties)
    assert sent(spoil, properties=properties)["spoilt"] is True
    assert repr(properties) == before


def test_it_sees_the_values_as_they_were_given() -> None:
    """And what it puts in is encoded by the same rules as ever."""

    def add(call: dict[str, Any]) -> dict[str, Any]:
        assert call["properties"]["amount"] == Decimal("1.50")
        call["properties"]["more"] = {Decimal("2.5")}
        return call

    assert sent(add, properties={"amount": Decimal("1.50")}) == {"amount": 1.5, "more": [2.5]}


def test_none_leaves_the_call_out(server: Sandbox, key: str) -> None:
    """Counted, and no loss: nobody is called."""
    reports = Reports()
    with open_client(server.url, key, before_send=lambda call: None, on_error=reports) as client:
        client.track("u", "order_paid")
        client.identify("u", email="a@example.org")
        assert client.flush()
        assert client.stats()["dropped"] == {"before_send": 2}
        assert client.stats()["accepted"] == 2
    assert not reports.all and server.ledger(key)["requests"] == 0


def raising(call: dict[str, Any]) -> None:
    raise LookupError("ada@example.org")


BAD: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "raises": (raising, "before_send raised LookupError"),
    "returns a list": (lambda call: [call], "must return the dict, or None, not list"),
    "returns True": (lambda call: True, "must return the dict, or None, not bool"),
    "a field too many": (lambda call: {**call, "ada@example.org": 1}, "a field that there is not"),
    "an id of no kind": (
        lambda call: {**call, "external_user_id": 1.5},
        "external_user_id must be a string",
    ),
}


@pytest.mark.parametrize(("hook", "words"), named(BAD))
def test_what_can_not_be_told_drops_that_one(
    server: Sandbox,
    key: str,
    caplog: pytest.LogCaptureFixture,
    hook: Callable[[dict[str, Any]], Any],
    words: str,
) -> None:
    """Reported, alone; the others are sent, and no line holds a value."""
    reports = Reports()

    def sometimes(call: dict[str, Any]) -> Any:
        return hook(call) if call["external_user_id"] == "bad" else call

    with open_client(server.url, key, before_send=sometimes, on_error=reports) as client:
        client.track("good", "number_seen", {"n": 0})
        client.track("bad", "number_seen", {"n": 1})
        client.identify("bad", email="ada@example.org")
        client.track("good", "number_seen", {"n": 2})
        assert client.flush()
        assert client.stats()["dropped"] == {"refused": 2}
    assert numbers_at(server, key) == [0, 2]
    assert [words in error.message for error in reports.all] == [True, True]
    assert "ada@example.org" not in caplog.text


def test_a_call_that_becomes_empty_is_ignored() -> None:
    """As one that was empty."""
    client = Whisperr("wrk_k", before_send=lambda call: {**call, "external_user_id": None})
    with recording() as events:
        client.track("u", "order_paid")
        client.track("", "order_paid")
        client.identify("u")
        client.identify(None)  # type: ignore[arg-type]
        assert client.stats()["ignored"] == 3
        assert [refused.message for refused in events.refused] == [
            "refused a call: external_user_id must be a string, not NoneType"
        ]
        events.clear()


def test_after_a_shutdown_it_is_not_called(key: str) -> None:
    """Nothing would be sent anyway."""
    seen: list[Any] = []
    client = Whisperr(key, before_send=seen.append)
    client.shutdown(0)
    client.track("u", "order_paid")
    client.identify("u")
    assert client.stats()["dropped"] == {"closed": 2} and not seen


def test_a_hook_that_tracks_without_end_ends(key: str) -> None:
    """It is called again for that, until Python's limit; nothing is raised, each call is counted."""
    hooked: list[Whisperr] = []

    def again(call: dict[str, Any]) -> dict[str, Any]:
        hooked[0].track("u", "order_paid")
        return call

    hooked.append(Whisperr(key, before_send=again, on_error=lambda error: None))
    with recording(check=False) as events:
        hooked[0].track("u", "order_paid")
        assert events.refused
        assert_closed(hooked[0].stats())


# --- where it runs


@forks_beside_threads
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_children_have_it(server: Sandbox, key: str, method: str) -> None:
    """Forked, or given the pickled client."""
    context: Any = multiprocessing.get_context(method)
    client = Whisperr(key, base_url=server.url, before_send=hook_of_a_child)
    children = [context.Process(target=track_in_child, args=(client, n)) for n in range(2)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    assert_arrived(server, key, 2)
    pids = {event["properties"]["pid"] for event in server.events(key)}
    assert pids == {child.pid for child in children}


def test_threads_and_a_signal_handler(server: Sandbox, key: str) -> None:
    """Each call has a dict of its own, also one that interrupts another in the hook."""

    def count(call: dict[str, Any]) -> dict[str, Any]:
        call["properties"]["seen"] = call["properties"]["n"]
        if call["properties"]["n"] % 100 == 0 and threading.current_thread() is main:
            signal.raise_signal(signal.SIGUSR1)
        return call

    main = threading.current_thread()
    numbers = iter(range(100_001, 200_000, 2))
    with open_client(server.url, key, before_send=count) as client:

        def track(begin: int) -> None:
            for number in range(begin, begin + 1000):
                client.track("u", "number_seen", {"n": number})

        def interrupted(*_: object) -> None:
            client.track("u", "number_seen", {"n": next(numbers)})

        previous = signal.signal(signal.SIGUSR1, interrupted)
        try:
            threads = [threading.Thread(target=track, args=(n,)) for n in (1000, 2000, 3000)]
            for thread in threads:
                thread.start()
            track(0)
            for thread in threads:
                thread.join()
        finally:
            signal.signal(signal.SIGUSR1, previous)
        assert client.flush(60)
    assert_arrived(server, key, 4010)
    assert all(
        event["properties"]["seen"] == event["properties"]["n"] for event in server.events(key)
    )


def test_a_journal_and_a_disabled_client(server: Sandbox, key: str, tmp_path: Path) -> None:
    """What is on the disk went through the hook; a disabled client does not call it."""
    seen: list[Any] = []
    Whisperr(disabled=True, before_send=seen.append).track("u", "order_paid")
    assert not seen
    source = f"""
        import os
        from whisperr import Whisperr
        def hide(call):
            call["properties"]["card"] = "hidden"
            return call
        w = Whisperr({key!r}, base_url={server.url!r}, before_send=hide, redact=["name"],
                     journal_dir="journal", flush_at=1000)
        w.track("u", "number_seen", {{"n": 0, "card": "4111", "name": "Ada"}})
        os._exit(0)
    """
    run_program(source, tmp_path)
    held = b"".join(path.read_bytes() for path in tmp_path.rglob("*.seg"))
    assert b"hidden" in held and b"4111" not in held and b"Ada" not in held
    client = Whisperr(key, base_url=server.url, journal_dir=tmp_path / "journal")
    assert client.flush(60) and client.shutdown(60)
    assert_arrived(server, key, 1)


# --- redaction


@dataclasses.dataclass
class Form:
    password: str
    plan: str


class Model(dict):  # type: ignore[type-arg]
    """As a mapping of another package."""


@pytest.mark.parametrize(
    ("names", "properties", "expected"),
    [
        (["password"], {"password": "x", "n": 1}, {"password": "[redacted]", "n": 1}),
        (["password"], {"PassWord": {"a": [1]}}, {"PassWord": "[redacted]"}),
        (["password"], {"my_password": 1}, {"my_password": 1}),
        (["*token*"], {"my_TOKEN_2": 1, "a": [{"token": None}]}, None),
        (["p?n"], {"pin": 1, "pan": 2, "plan": 3}, {"pin": 0, "pan": 0, "plan": 3}),
        ([re.compile("^x-")], {"x-a": 1, "ax-": 2}, {"x-a": 0, "ax-": 2}),
        (["password"], {"form": Form("x", "pro")}, {"form": {"password": 0, "plan": "pro"}}),
        (["password"], {"m": Model(password=1)}, {"m": {"password": 0}}),
        (["7"], {7: 1, "a": {7: 2}}, {"7": 0, "a": {"7": 0}}),
        (["a.b"], {"a": {"b": 1}}, {"a": {"b": 1}}),
    ],
)
def test_values_under_a_name_are_not_sent(names: list[Any], properties: Any, expected: Any) -> None:
    """At any depth, in whatever becomes an object; all else is as it would be."""
    if expected is None:
        expected = {"my_TOKEN_2": 0, "a": [{"token": 0}]}

    def filled(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: filled(item) for key, item in value.items()}
        if isinstance(value, list):
            return [filled(item) for item in value]
        return "[redacted]" if value == 0 else value

    assert sent(redact=names, properties=properties) == filled(expected)


def test_context_and_traits_too_and_the_hook_goes_first() -> None:
    """The id and the channels are what they are for, and stay."""

    def add(call: dict[str, Any]) -> dict[str, Any]:
        call.get("properties", {})["email"] = "ada@example.org"
        return call

    client = Whisperr("wrk_k", before_send=add, redact=["email"])
    with recording() as events:
        client.track("email", "order_paid", {}, {"email": "ada@example.org", "ip": 1})
        client.identify("email", traits={"email": "ada@example.org"}, email="ada@example.org")
    assert events[0].properties == {"email": "[redacted]"}
    assert events[0].context["email"] == "[redacted]" and events[0].context["ip"] == 1
    (identity,) = events.identities
    assert identity.user == "email" and identity.traits == {"email": "[redacted]"}
    assert identity.channels[0]["address"] == "ada@example.org"


def test_a_value_without_a_form_is_refused_with_its_place() -> None:
    """As without redaction."""
    client = Whisperr("wrk_k", redact=["password"])
    with recording() as events:
        client.track("u", "order_paid", {"cart": [{"owner": object()}]})
        refused = events.assert_refused("a value of type object")
    assert refused.detail == "properties.cart.0.owner"
    assert_closed(client.stats())


def test_a_client_without_either_has_nothing_of_it(tmp_path: Path) -> None:
    """Its module is not even imported, and its common path knows the event types."""
    source = """
        import sys, whisperr
        w = whisperr.Whisperr("wrk_k", flush_at=1000)
        w.track("u", "order_paid")
        w.track("u", "order_paid")
        print("whisperr._encoding.call_filter" in sys.modules, list(w._engine.intake.event_types))
        v = whisperr.Whisperr("wrk_k", flush_at=1000, redact=["x"])
        print("whisperr._encoding.call_filter" in sys.modules)
        w.shutdown(0); v.shutdown(0)
    """
    out = run_program(source, tmp_path).stdout
    assert out == "False ['order_paid']\nTrue\n"
    assert "filter" in Intake.__slots__
