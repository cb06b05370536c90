"""Nothing that a caller passes to track() or identify() raises out of it, or is lost in silence."""

from __future__ import annotations

import contextlib
import datetime
import enum
import logging
import os
import sys
import time
from collections import UserDict
from collections.abc import Iterator
from typing import Any, Callable

import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from support.clients import Reports, assert_closed, flush_until_settled, open_client
from support.deadlines import generous
from support.hostile import BASES, ODDITIES, SPECIAL, overdrawn, raising
from support.inputs import Values, objects, scalars, texts, values
from whisperr import Whisperr
from whisperr.sandbox import Sandbox

EXAMPLES = 2_100  # of each method
AT_ONCE = generous(5.0)  # seconds; what has no end or is huge takes far less to be refused
IN_MEMORY = 300  # records, before they are delivered

TRACK = ("external_user_id", "event_type", "properties", "context", "occurred_at", "message_id")
IDENTIFY = (
    *("external_user_id", "traits", "email", "phone", "push_token", "preferred_channel"),
    "channels",
)
PLACES = [("track", name) for name in TRACK] + [("identify", name) for name in IDENTIFY]
NEEDED = {
    "track": {"external_user_id": "u", "event_type": "order_paid"},
    "identify": {"external_user_id": "u"},
}


# Functions that make a value: hypothesis looks at what it draws, and these can't bear it.
Recipes = st.SearchStrategy[Callable[[], Any]]


class Call:
    """One call; shown without asking its arguments."""

    def __init__(self, method: str, given: dict[str, Any]) -> None:
        self.method = method
        self.given = given

    def __repr__(self) -> str:
        shown = (f"{name}={self._show(value)}" for name, value in self.given.items())
        return f"{self.method}({', '.join(shown)})"

    def _show(self, value: Any) -> str:
        try:
            return repr(value)
        except Exception:
            return f"<{type(value).__name__}>"


class Witness:
    """Makes calls, and holds the client to account for each, and for all of them at the server."""

    def __init__(self, client: Whisperr, reports: Reports, server: Sandbox, key: str) -> None:
        self._client = client
        self._reports = reports
        self._server = server
        self._key = key
        self.queued = 0

    def sees(self, call: Call) -> str:
        """What became of the call: queued, refused or ignored."""
        before, heard = self._client.stats(), len(self._reports.all)
        begun, raised = time.monotonic(), None
        try:
            getattr(self._client, call.method)(**call.given)
        except Exception as error:  # not passed on: what is hostile would break the report, too
            raised = type(error)
        assert raised is None, call.method
        assert time.monotonic() - begun < AT_ONCE
        after = self._client.stats()
        assert_closed(after)
        queued = after["pending"] - before["pending"]
        refused = after["dropped"].get("refused", 0) - before["dropped"].get("refused", 0)
        assert after["accepted"] - before["accepted"] == queued + refused <= 1
        told = [(error.type, error.count) for error in self._reports.all[heard:]]
        assert told == [("dropped", 1)] * refused
        self.queued += queued
        if after["pending"] >= IN_MEMORY:
            self.settles()
        return "queued" if queued else "refused" if refused else "ignored"

    def settles(self) -> None:
        flush_until_settled(self._client)

    def accounts_for_all(self) -> None:
        """What was queued is at the server, or was reported with the server's refusal."""
        self.settles()
        stats = self._client.stats()
        rejected = stats["dropped"].get("rejected", 0)
        assert stats["delivered"] + rejected == self.queued
        assert sum(self._reports.counts("dropped")) == sum(stats["dropped"].values())
        assert {error.type for error in self._reports.all} <= {"dropped"}
        requests = self._server.requests(self._key)
        taken = sum(request["count"] for request in requests if request["status"] < 300)
        assert taken == stats["delivered"]


@contextlib.contextmanager
def witness(server: Sandbox, key: str) -> Iterator[Witness]:
    reports = Reports()
    overdrawn.clear()
    with open_client(server.url, key, on_error=reports) as client:
        seen = Witness(client, reports, server, key)
        yield seen
        seen.accounts_for_all()
    assert overdrawn == []


# --- generated


def hostile() -> Recipes:
    alone = st.one_of(
        st.sampled_from([ODDITIES[name] for name in sorted(ODDITIES)]),
        st.builds(
            lambda base, names: lambda: raising(base, names),
            st.sampled_from(sorted(BASES)),
            st.frozensets(st.sampled_from(SPECIAL), min_size=1, max_size=4),
        ),
    )
    around: list[Callable[[Any], Any]] = [
        lambda value: {"a": [value]},
        lambda value: UserDict(a=value),
        lambda value: [{"type": value, "address": "a"}, {"channel": "fax", "address": value}],
        lambda value: [{"type": "fax", "address": "a", "verified": value}, value],
    ]
    inside = st.builds(lambda wrap, make: lambda: wrap(make()), st.sampled_from(around), alone)
    return st.one_of(alone, inside)


HOSTILE = hostile()


@st.composite
def mostly(draw: Any, legal: Values, any_other: Values) -> Callable[[], Any]:
    """Legal ones in the main, or few calls would get past their first argument."""
    dice = draw(st.integers(0, 15))
    if dice == 15:
        made: Callable[[], Any] = draw(HOSTILE)
        return made
    value = draw(any_other if dice > 12 else legal)
    return lambda: value


ANYTHING = values()
USERS = st.one_of(st.integers(), st.uuids(), st.just("u"))
TYPES = st.sampled_from(["order_paid", " a1 ", "x_1", "membership_started", "Order"])
TIMES = st.timedeltas(datetime.timedelta(days=-29), datetime.timedelta(minutes=4)).map(
    lambda ago: datetime.datetime.now(datetime.timezone.utc) + ago
)
TOO_OLD = st.just(datetime.datetime(2001, 1, 1, tzinfo=datetime.timezone.utc))  # for the server
ADDRESSES = st.one_of(st.none(), texts())
SIMPLE = st.dictionaries(texts(), scalars(), max_size=3)
CHANNELS = st.lists(
    st.fixed_dictionaries(
        {"type": texts(), "address": texts()},
        optional={"opted_in": st.booleans(), "verified": st.booleans()},
    ),
    max_size=3,
)
ARGUMENTS: dict[str, dict[str, Recipes]] = {
    "track": {
        "external_user_id": mostly(USERS, texts()),
        "event_type": mostly(TYPES, ANYTHING),
        "properties": mostly(SIMPLE, objects()),
        "context": mostly(SIMPLE, objects()),
        "occurred_at": mostly(TIMES, st.one_of(TOO_OLD, ANYTHING)),
        "message_id": mostly(st.uuids(), ANYTHING),
    },
    "identify": {
        "external_user_id": mostly(USERS, texts()),
        "traits": mostly(SIMPLE, objects()),
        "email": mostly(ADDRESSES, ANYTHING),
        "phone": mostly(ADDRESSES, ANYTHING),
        "push_token": mostly(ADDRESSES, ANYTHING),
        "preferred_channel": mostly(st.sampled_from([None, "email", "sms", "push"]), ANYTHING),
        "channels": mostly(st.one_of(st.none(), CHANNELS, CHANNELS.map(tuple)), ANYTHING),
    },
}


def recipes(method: str) -> Any:
    """For a call: of the arguments that are optional, half are left out."""
    arguments = ARGUMENTS[method]
    needed = {name: arguments[name] for name in NEEDED[method]}
    optional = {name: some for name, some in arguments.items() if name not in needed}
    return st.fixed_dictionaries(needed, optional=optional)


@pytest.mark.parametrize("method", ["track", "identify"])
def test_no_call_raises_whatever_it_is_given(server: Sandbox, key: str, method: str) -> None:
    """Every call returns at once and is queued, ignored, or reported once; the ledger stays
    closed; and what was queued arrives, or is reported with the refusal of the server."""
    seen: dict[str, int] = {"queued": 0, "refused": 0, "ignored": 0}

    with witness(server, key) as client:

        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(recipes=recipes(method))
        def every(recipes: dict[str, Callable[[], Any]]) -> None:
            call = Call(method, {name: make() for name, make in recipes.items()})
            try:
                seen[client.sees(call)] += 1
            except BaseException:
                note(repr(call))  # only now: looking at its arguments may take long
                raise

        every()
    assert sum(seen.values()) >= EXAMPLES
    assert min(seen["queued"], seen["refused"]) > EXAMPLES / 10, seen


# --- one by one


@pytest.mark.parametrize(("method", "place"), PLACES, ids=[".".join(place) for place in PLACES])
def test_no_argument_is_too_odd(server: Sandbox, key: str, method: str, place: str) -> None:
    """Each oddity as each argument, alone and inside."""
    with witness(server, key) as client:
        for make in ODDITIES.values():
            inside = [make()] if place == "channels" else {"a": [make()]}
            client.sees(Call(method, {**NEEDED[method], place: make()}))
            client.sees(Call(method, {**NEEDED[method], place: inside}))


@pytest.mark.parametrize(("method", "place"), PLACES, ids=[".".join(place) for place in PLACES])
def test_no_method_of_an_argument_may_raise(
    server: Sandbox, key: str, method: str, place: str
) -> None:
    """Each kind of object with each special method raising, as each argument."""
    with witness(server, key) as client:
        for base in BASES:
            for name in SPECIAL:
                call = Call(method, {**NEEDED[method], place: raising(base, [name])})
                client.sees(call)


def test_a_call_inside_a_call_is_one_more_call(server: Sandbox, key: str) -> None:
    """An argument whose methods track: both events arrive."""
    with open_client(server.url, key) as client:

        class Tracking(UserDict):  # type: ignore[type-arg]
            def items(self) -> Any:
                client.track("u", "inner_call", {"n": 2})
                return super().items()

        client.track("u", "outer_call", Tracking(n=1))
        assert client.stats()["accepted"] == 2
        assert client.flush()
    assert sorted(event["properties"]["n"] for event in server.events(key)) == [1, 2]


def test_a_refused_value_is_in_no_log(
    server: Sandbox, key: str, caplog: pytest.LogCaptureFixture
) -> None:
    """What a foreign exception says may be personal: only its type is shown."""

    class Talking:
        def __bool__(self) -> bool:
            raise ValueError("ada@example.org")

    reports = Reports()
    caplog.set_level(logging.DEBUG)
    with open_client(server.url, key, on_error=reports) as client:
        client.track("u", "order_paid", context=Talking())  # type: ignore[arg-type]
        client.track("u", "Ada Example")
        client.identify("u", preferred_channel="ada@example.org")
        assert "ValueError" in reports.all[0].message
        said = caplog.text + repr(reports.all) + str(client.stats())
    assert len(reports.all) == 3
    assert "ada" not in said.lower()


# --- reporting


class Loud(enum.Enum):
    LOGGING = 1
    CALLBACK = 2
    BOTH = 3


@pytest.mark.parametrize("loud", list(Loud))
@pytest.mark.parametrize("stderr", ["there", "gone", "closed"])
def test_a_report_that_fails_raises_nothing(
    server: Sandbox, key: str, monkeypatch: pytest.MonkeyPatch, loud: Loud, stderr: str
) -> None:
    """Neither of a logging handler nor of ``on_error``, nor where a daemon has no stderr; and
    a logging handler that raises does not keep ``on_error`` from being told."""

    class Broken(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise OSError("disk full")

    told: list[str] = []

    def on_error(error: Any) -> None:
        told.append(error.type)
        if loud is not Loud.LOGGING:
            raise ValueError("of the callback")

    handler = Broken()
    if loud is not Loud.CALLBACK:
        logging.getLogger("whisperr").addHandler(handler)
    if stderr != "there":
        monkeypatch.setattr(sys, "stderr", None if stderr == "gone" else _closed())
    try:
        with open_client(server.url, key, on_error=on_error) as client:
            client.track("u", "Not Legal")
            assert client.stats()["dropped"] == {"refused": 1}
    finally:
        logging.getLogger("whisperr").removeHandler(handler)
    assert told == ["dropped"]


def _closed() -> Any:
    stream = open(os.devnull, "w")  # noqa: SIM115  # closed at once
    stream.close()
    return stream
