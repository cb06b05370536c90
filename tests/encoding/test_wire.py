"""What arrives at the server, field by field and header by header."""

from __future__ import annotations

import enum
import json
import re
import types
import uuid
from collections import UserDict
from datetime import datetime, timedelta, timezone
from typing import Any, Callable, Dict

import pytest

from support.clients import Reports, open_client
from support.rows import named, same
from support.sockets import Listener
from whisperr import SDK_NAME, BillingEvent, Whisperr, WhisperrError, __version__
from whisperr.sandbox import Sandbox

Json = Dict[str, Any]
Use = Callable[[Whisperr], object]

UTC = timezone.utc
OWN_ID = re.compile(r"[0-9a-f]{32}")
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
UUID = uuid.UUID("12345678-1234-5678-1234-567812345678")


class Text(str):
    """A string that shows itself as another: what it holds is what counts."""

    def __str__(self) -> str:
        return "another"


class Name(str, enum.Enum):
    USER = "user_7"
    PAID = "order_paid"
    EMAIL = "email"
    MESSAGE_ID = "$message_id"


class Plain(enum.Enum):
    MESSAGE_ID = "$message_id"


class Number(enum.IntEnum):
    SEVEN = 7


def events(server: Sandbox, key: str, *uses: Use, **options: Any) -> list[Json]:
    """The events at the server, once all that was tracked by these, in order, is settled."""
    with open_client(server.url, key, **options) as client:
        for use in uses:
            use(client)
        assert client.flush()
    return server.events(key)


def event(server: Sandbox, key: str, *uses: Use, **options: Any) -> Json:
    (only,) = events(server, key, *uses, **options)
    return only


def identity(server: Sandbox, key: str, **given: Any) -> Json:
    """The one identity at the server, of the user ``u`` if no other is given."""
    events(server, key, lambda client: client.identify(**{"external_user_id": "u", **given}))
    (only,) = server.identities(key)
    return only


def refusal(server: Sandbox, key: str, use: Use) -> WhisperrError:
    """The report of a call that is refused: one, at once, and nothing was queued or sent."""
    reports = Reports()
    with open_client(server.url, key, on_error=reports) as client:
        use(client)
        stats = client.stats()
        assert (stats["accepted"], stats["pending"], stats["dropped"]) == (1, 0, {"refused": 1})
        assert reports.brief() == [("dropped", None, 1)]
    assert server.ledger(key)["requests"] == 0
    return reports.all[0]


def rfc3339(moment: datetime) -> str:
    """The wire's text, worked out another way than by the product."""
    utc = moment.astimezone(UTC)
    return utc.strftime("%Y-%m-%dT%H:%M:%S.") + f"{utc.microsecond // 1000:03d}Z"


# --- an event


def test_an_event_has_these_fields_and_no_others(server: Sandbox, key: str) -> None:
    """The whole event as the contract says, what was given in it unchanged."""
    properties = {"amount": 12.5, "paid": True, "items": [1, {"a": None}], "n": 1}
    found = event(
        server, key, lambda client: client.track("u", "order_paid", properties, {"ip": 1})
    )
    occurred_at, message_id = found.pop("occurred_at"), found["context"].pop("$message_id")
    context = {"sdk_name": "whisperr-python", "sdk_version": __version__, "ip": 1}
    assert same(
        found,
        {
            "external_user_id": "u",
            "event_type": "order_paid",
            "properties": properties,
            "context": context,
        },
    )
    assert TIME.fullmatch(occurred_at)
    assert OWN_ID.fullmatch(message_id)


@pytest.mark.parametrize(
    "empty",
    named(
        {
            "none": None,
            "dict": {},
            "mapping": (UserDict(),),
            "read-only": types.MappingProxyType({}),
        }
    ),
)
def test_properties_and_context_may_be_empty(server: Sandbox, key: str, empty: Any) -> None:
    """Properties are ``{}`` then, and the context is ours alone."""
    found = event(server, key, lambda client: client.track("u", "order_paid", empty, empty))
    assert found["properties"] == {}
    assert sorted(found["context"]) == ["$message_id", "sdk_name", "sdk_version"]


@pytest.mark.parametrize(
    "bad", named({"list": ([("a", 1)],), "text": "a", "number": 7, "class": dict})
)
@pytest.mark.parametrize("place", ["properties", "context", "traits"])
def test_what_is_no_mapping_is_refused(server: Sandbox, key: str, place: str, bad: Any) -> None:
    """Properties, context and traits are mappings, and the report says which was not."""
    call: Use = lambda client: client.track("u", "order_paid", **{place: bad})  # noqa: E731
    if place == "traits":
        call = lambda client: client.identify("u", traits=bad)  # noqa: E731
    assert f"{place} must be a mapping" in refusal(server, key, call).message


# --- when


def test_an_event_occurs_when_it_is_tracked(server: Sandbox, key: str) -> None:
    """Not when it is sent; in UTC, milliseconds truncated."""
    before = datetime.now(UTC)
    client_times: list[datetime] = []

    def use(client: Whisperr) -> None:
        client.track("u", "order_paid")
        client_times.append(datetime.now(UTC))

    found = event(server, key, use)
    assert rfc3339(before) <= found["occurred_at"] <= rfc3339(client_times[0])


@pytest.mark.parametrize("microsecond", [0, 1, 999, 1000, 499_500, 999_499, 999_500, 999_999])
@pytest.mark.parametrize("minutes", [0, 330, -705, 840], ids=["UTC", "+05:30", "-11:45", "+14:00"])
def test_a_given_time_is_sent_in_utc_and_truncated(
    server: Sandbox, key: str, microsecond: int, minutes: int
) -> None:
    """To the millisecond, never rounded, whatever its zone."""
    zone = timezone(timedelta(minutes=minutes))
    moment = (datetime.now(UTC) - timedelta(days=2)).replace(microsecond=microsecond)
    local = moment.astimezone(zone)
    found = event(server, key, lambda client: client.track("u", "order_paid", occurred_at=local))
    assert found["occurred_at"] == rfc3339(moment)


def test_times_of_one_batch_keep_apart(server: Sandbox, key: str) -> None:
    """Each event has its own time, in whatever order they were tracked."""
    now = datetime.now(UTC)
    moments = [now - timedelta(milliseconds=step * 397 % 2000) for step in range(50)]

    def use(client: Whisperr) -> None:
        for moment in moments:
            client.track("u", "order_paid", occurred_at=moment)

    found = [event["occurred_at"] for event in events(server, key, use)]
    assert found == [rfc3339(moment) for moment in moments]


@pytest.mark.parametrize(
    ("moment", "text"),
    named(
        {
            "first": (datetime.min.replace(tzinfo=UTC), "0001-01-01T00:00:00.000Z"),
            "last": (datetime.max.replace(tzinfo=UTC), "9999-12-31T23:59:59.999Z"),
            "epoch": (datetime(1970, 1, 1, tzinfo=UTC), "1970-01-01T00:00:00.000Z"),
            "before": (
                datetime(1969, 12, 31, 23, 59, 59, 999_999, UTC),
                "1969-12-31T23:59:59.999Z",
            ),
        }
    ),
)
def test_the_ends_of_the_calendar(moment: datetime, text: str) -> None:
    """The text is right for every moment that has one; whether it is too old the service says."""
    with Listener() as listener, open_client(listener.url, "wrk_test") as client:
        client.track("u", "order_paid", occurred_at=moment)
        assert client.flush()
    (only,) = json.loads(listener.heard[0].body)["events"]
    assert only["occurred_at"] == text


@pytest.mark.parametrize(
    "moment",
    named(
        {
            "naive": datetime(2026, 1, 1),
            "before the first day in UTC": datetime.min.replace(
                tzinfo=timezone(timedelta(hours=1))
            ),
            "after the last day in UTC": datetime.max.replace(tzinfo=timezone(-timedelta(hours=1))),
            "date": datetime(2026, 1, 1).date(),
            "text": "2026-01-01T00:00:00Z",
            "number": 1_767_225_600,
            "false": False,
        }
    ),
)
def test_an_unusable_time_is_refused(server: Sandbox, key: str, moment: Any) -> None:
    """No zone is guessed, and nothing but a datetime is a time; the report says which it was."""
    error = refusal(server, key, lambda client: client.track("u", "order_paid", occurred_at=moment))
    if not isinstance(moment, datetime):
        assert "must be a datetime" in error.message
    elif moment.tzinfo is None:
        assert "must have a time zone" in error.message


def test_a_subclass_of_datetime_is_a_time_as_any(server: Sandbox, key: str) -> None:
    """What its own arithmetic returns does not matter (pendulum's is no plain timedelta)."""

    class Moment(datetime):
        def __sub__(self, other: Any) -> Any:
            return "a period"

    now = datetime.now(UTC)
    moment = Moment.fromtimestamp(now.timestamp(), UTC)
    found = event(server, key, lambda client: client.track("u", "order_paid", occurred_at=moment))
    assert found["occurred_at"] == rfc3339(moment)


# --- the idempotency id


def test_ids_are_unique_and_of_32_hex_digits(server: Sandbox, key: str) -> None:
    """Over all events of two clients."""
    for _ in range(2):
        found = events(server, key, *[lambda client: client.track("u", "order_paid")] * 700)
    ids = [event["context"]["$message_id"] for event in found]
    assert len(set(ids)) == len(ids) == 1400
    assert all(OWN_ID.fullmatch(message_id) for message_id in ids)


@pytest.mark.parametrize(
    ("given", "sent"),
    named(
        {
            "text": ("invoice-7", "invoice-7"),
            "escapes": ('naïve "\\\n', 'naïve "\\\n'),
            "uuid": (UUID, str(UUID)),
            "subclass": (Text("mine"), "mine"),
        }
    ),
)
def test_the_caller_may_bring_the_id(server: Sandbox, key: str, given: Any, sent: str) -> None:
    """It is sent as it is, with a context and without."""
    found = events(
        server,
        key,
        lambda client: client.track("u", "order_paid", message_id=given),
        lambda client: client.track("u", "order_paid", None, {"a": 1}, message_id=f"{sent}-2"),
    )
    assert [event["context"]["$message_id"] for event in found] == [sent, f"{sent}-2"]
    assert found[1]["context"]["a"] == 1


@pytest.mark.parametrize(
    "bad", named({"empty": "", "number": 7, "zero": 0, "bytes": b"a", "surrogate": "a\ud800"})
)
def test_an_unusable_id_is_refused(server: Sandbox, key: str, bad: Any) -> None:
    """Another id than the one that was meant would be worse than none."""
    refusal(server, key, lambda client: client.track("u", "order_paid", message_id=bad))


@pytest.mark.parametrize(
    "name",
    named(
        {
            "text": "$message_id",
            "subclass": (Text("$message_id"),),
            "enum": Plain.MESSAGE_ID,
            "enum of text": (Name.MESSAGE_ID,),
        }
    ),
)
@pytest.mark.parametrize("own", [None, "mine"])
@pytest.mark.parametrize("kind", [dict, UserDict])
def test_a_context_never_replaces_the_id(
    server: Sandbox, key: str, name: Any, own: str | None, kind: Any
) -> None:
    """However its key is written, and beside whatever else it holds."""
    context = kind({name: "theirs", "a": 1})
    found = event(
        server,
        key,
        lambda client: client.track("u", "order_paid", context=context, message_id=own),
    )
    message_id = found["context"]["$message_id"]
    assert message_id == own if own else OWN_ID.fullmatch(message_id)
    assert found["context"]["a"] == 1


# --- the context


@pytest.mark.parametrize("name", ["sdk_name", "sdk_version", "app_version"])
def test_a_callers_context_wins_over_ours(server: Sandbox, key: str, name: str) -> None:
    """Over one key of the three, the others stay."""
    ours = {"sdk_name": SDK_NAME, "sdk_version": __version__, "app_version": "7.1"}
    found = event(
        server,
        key,
        lambda client: client.track("u", "order_paid", None, {name: "theirs"}),
        app_version="7.1",
    )
    del found["context"]["$message_id"]
    assert found["context"] == {**ours, name: "theirs"}


@pytest.mark.parametrize(
    ("given", "sent"),
    named(
        {
            "text": ("1.2", "1.2"),
            "blanks around": (" 1.2\n", "1.2"),
            "unicode": ("1.2-ß", "1.2-ß"),
            "none": (None, None),
            "empty": ("", None),
            "blank": (" \t", None),
        }
    ),
)
def test_the_version_of_the_application(
    server: Sandbox, key: str, given: str | None, sent: str | None
) -> None:
    """On every event, with a context and without; stripped, and left out when there is none."""
    found = events(
        server,
        key,
        lambda client: client.track("u", "a"),
        lambda client: client.track("u", "b", None, {"c": 1}),
        app_version=given,
    )
    assert [event["context"].get("app_version") for event in found] == [sent, sent]
    assert all(("app_version" in event["context"]) == (sent is not None) for event in found)


# --- whose and what


@pytest.mark.parametrize(
    ("given", "sent"),
    named(
        {
            "text": ("u", "u"),
            "any text": (' ü\U0001f600"\\\x00', ' ü\U0001f600"\\\x00'),
            "subclass": (Text("mine"), "mine"),
            "enum of text": (Name.USER, "user_7"),
            "int": (7, "7"),
            "zero": (0, "0"),
            "negative": (-3, "-3"),
            "huge": (2**80, str(2**80)),
            "enum of numbers": (Number.SEVEN, "7"),
            "uuid": (UUID, str(UUID)),
        }
    ),
)
def test_a_user_id_is_sent_as_text(server: Sandbox, key: str, given: Any, sent: str) -> None:
    """The same for events and identities: integers in their digits, UUIDs in theirs."""
    found = event(
        server,
        key,
        lambda client: client.track(given, "order_paid"),
        lambda client: client.identify(given),
    )
    assert found["external_user_id"] == sent
    assert server.identities(key) == [{"external_user_id": sent}]


@pytest.mark.parametrize(
    "bad",
    named(
        {
            "true": True,
            "false": False,
            "float": 1.5,
            "zero": 0.0,
            "bytes": b"u",
            "list": (["u"],),
            "object": (object(),),
            "surrogate": "u\ud800",
            "too many digits": 10**5000,
        }
    ),
)
@pytest.mark.parametrize("method", ["track", "identify"])
def test_an_unusable_user_id_is_refused(server: Sandbox, key: str, method: str, bad: Any) -> None:
    """Another user than the one that was meant would be worse than none."""
    more = ["order_paid"] if method == "track" else []
    refusal(server, key, lambda client: getattr(client, method)(bad, *more))


@pytest.mark.parametrize("nobody", ["", None, Text("")], ids=repr)
def test_an_empty_user_is_ignored(server: Sandbox, key: str, nobody: Any) -> None:
    """Nothing is counted, nothing reported, nothing sent."""
    assert_ignored(server, key, lambda client: client.track(nobody, "order_paid"))
    assert_ignored(server, key, lambda client: client.identify(nobody, email="a@example.org"))


@pytest.mark.parametrize("nothing", ["", None, " ", "\t\r\n\u2003", Text(" ")], ids=repr)
def test_an_empty_event_type_is_ignored(server: Sandbox, key: str, nothing: Any) -> None:
    """So is one of nothing but white space."""
    assert_ignored(server, key, lambda client: client.track("u", nothing, {"a": object()}))


def assert_ignored(server: Sandbox, key: str, use: Use) -> None:
    reports = Reports()
    with open_client(server.url, key, on_error=reports) as client:
        use(client)
        stats = client.stats()
        assert (stats["accepted"], stats["pending"], stats["dropped"]) == (0, 0, {})
    assert reports.all == []
    assert server.ledger(key)["requests"] == 0


@pytest.mark.parametrize(
    ("given", "sent"),
    named(
        {
            "plain": ("order_paid", "order_paid"),
            "digits": ("2fa_done_4", "2fa_done_4"),
            "one letter": ("a", "a"),
            "white space around": ("\u2003order_paid \n", "order_paid"),
            "subclass": (Text(" order_paid"), "order_paid"),
            "enum of text": (Name.PAID, "order_paid"),
        }
    ),
)
def test_an_event_type_is_stripped(server: Sandbox, key: str, given: Any, sent: str) -> None:
    """Twice, since the second one comes from a cache."""
    found = events(server, key, *[lambda client: client.track("u", given)] * 2)
    assert [event["event_type"] for event in found] == [sent, sent]


@pytest.mark.parametrize(
    "bad",
    [
        *["Order", "order paid", "order-paid", "order__paid", "_order", "order_", "ordér", "٣"],
        *["order_paid\x00", "a\nb", "\ud800", 123, 1.5, True, b"order", ["a"], object()],
    ],
    ids=lambda bad: "object" if type(bad) is object else ascii(bad),
)
def test_an_invalid_event_type_is_reported_and_never_queued(
    server: Sandbox, key: str, bad: Any
) -> None:
    """As ``dropped``; what it was is in the detail only, which no ``repr`` shows."""
    error = refusal(server, key, lambda client: client.track("u", bad))
    assert "event_type" in error.message
    if isinstance(bad, str) and bad.isprintable():
        assert bad not in error.message.replace("event_type", "").split()
        assert error.detail is not None
        assert bad in error.detail
        assert "detail" not in repr(error)


def test_the_reserved_names_of_billing(server: Sandbox, key: str) -> None:
    """Eleven plain strings, each a legal event type."""
    reserved = [
        *["trial_started", "trial_converted", "trial_auto_renew_disabled", "membership_started"],
        *["renewal_succeeded", "auto_renew_disabled", "auto_renew_enabled", "membership_ended"],
        *["billing_issue_started", "billing_recovered", "refund_granted"],
    ]
    constants = {name: v for name, v in vars(BillingEvent).items() if not name.startswith("_")}
    assert constants == {name.upper(): name for name in reserved}

    def use(client: Whisperr) -> None:
        for name in constants.values():
            client.track("u", name)

    found = events(server, key, use)
    assert [event["event_type"] for event in found] == list(constants.values())


# --- a snapshot


def test_an_event_is_what_it_was_when_it_was_tracked(server: Sandbox, key: str) -> None:
    """Nothing that is changed between the call and its delivery changes the event."""
    inner = [1]
    properties: Json = {"inner": inner, "mapping": UserDict({"a": inner}), "n": 1}
    context: Json = {"deep": {"a": inner}}

    def use(client: Whisperr) -> None:
        client.track("u", "order_paid", properties, context)
        inner.append(2)
        properties.clear()
        context["more"] = context.pop("deep")["a"] = 3

    found = event(server, key, use)
    assert found["properties"] == {"inner": [1], "mapping": {"a": [1]}, "n": 1}
    assert found["context"]["deep"] == {"a": [1]}
    assert "more" not in found["context"]


def test_an_identity_is_what_it_was_when_it_was_given(server: Sandbox, key: str) -> None:
    """Traits and channels are copied too."""
    traits: Json = {"tags": ["a"]}
    channels = [{"type": "email", "address": "a@example.org"}]

    def use(client: Whisperr) -> None:
        client.identify("u", traits=traits, channels=channels)
        traits["tags"].append("b")
        channels[0]["address"] = "b@example.org"
        channels.append(channels[0])

    events(server, key, use)
    (found,) = server.identities(key)
    assert found["traits"] == {"tags": ["a"]}
    assert [channel["address"] for channel in found["channels"]] == ["a@example.org"]


# --- an identity


def channel(kind: str, address: str, opted_in: bool = True, **more: bool) -> Json:
    return {"channel": kind, "address": address, "opted_in": opted_in, **more}


IDENTITIES: dict[str, tuple[Json, Json]] = {
    "nothing but the user": ({}, {}),
    "traits": ({"traits": {"plan": "pro", "age": 7}}, {"traits": {"plan": "pro", "age": 7}}),
    "empty traits": ({"traits": {}}, {}),
    "empty mapping as traits": ({"traits": UserDict()}, {}),
    "no traits": ({"traits": None}, {}),
    "email": ({"email": "a@example.org"}, {"channels": [channel("email", "a@example.org")]}),
    "phone": ({"phone": "+1555"}, {"channels": [channel("sms", "+1555")]}),
    "push token": ({"push_token": "tok"}, {"channels": [channel("push", "tok")]}),
    "all three": (
        {"push_token": "t", "phone": "+1", "email": "e"},
        {"channels": [channel("email", "e"), channel("sms", "+1"), channel("push", "t")]},
    ),
    "empty shortcuts": ({"email": "", "phone": None, "push_token": ""}, {}),
    "preferred email": ({"preferred_channel": "email"}, {"preferred_channel": "email"}),
    "preferred sms": ({"preferred_channel": "sms"}, {"preferred_channel": "sms"}),
    "preferred push": ({"preferred_channel": "push"}, {"preferred_channel": "push"}),
    "preferred enum of text": ({"preferred_channel": Name.EMAIL}, {"preferred_channel": "email"}),
    "no preference": ({"preferred_channel": ""}, {}),
    "type": (
        {"channels": [{"type": "sms", "address": "+1"}]},
        {"channels": [channel("sms", "+1")]},
    ),
    "channel": (
        {"channels": [{"channel": "sms", "address": "+1"}]},
        {"channels": [channel("sms", "+1")]},
    ),
    "flags": (
        {"channels": [{"type": "fax", "address": "1", "opted_in": False, "verified": False}]},
        {"channels": [channel("fax", "1", opted_in=False, verified=False)]},
    ),
    "verified": (
        {"channels": [{"type": "email", "address": "a", "verified": True}]},
        {"channels": [channel("email", "a", verified=True)]},
    ),
    "more than the wire knows": (
        {"channels": [{"type": "email", "address": "a", "label": "home"}]},
        {"channels": [channel("email", "a")]},
    ),
    "any iterable": (
        {"channels": (UserDict({"type": kind, "address": "1"}) for kind in ("sms", "fax"))},
        {"channels": [channel("sms", "1"), channel("fax", "1")]},
    ),
    "explicit channels replace the shortcuts": (
        {"email": "a", "phone": "1", "channels": [{"type": "push", "address": "t"}]},
        {"channels": [channel("push", "t")]},
    ),
    "explicit channels may be none": ({"email": "a", "channels": []}, {}),
    "everything": (
        {
            "traits": {"app_language": "pt-BR"},
            "preferred_channel": "push",
            "channels": [{"type": "email", "address": "a"}, {"channel": "push", "address": "t"}],
        },
        {
            "traits": {"app_language": "pt-BR"},
            "preferred_channel": "push",
            "channels": [channel("email", "a"), channel("push", "t")],
        },
    ),
}


@pytest.mark.parametrize(("given", "sent"), list(IDENTITIES.values()), ids=list(IDENTITIES))
def test_an_identity_has_these_fields_and_no_others(
    server: Sandbox, key: str, given: Json, sent: Json
) -> None:
    """What is empty is left out, ``opted_in`` is there, ``verified`` only when it was given."""
    assert same(identity(server, key, **given), {"external_user_id": "u", **sent})


@pytest.mark.parametrize(
    "given",
    named(
        {
            "preference unknown": {"preferred_channel": "fax"},
            "preference no text": {"preferred_channel": 7},
            "email no text": {"email": 7},
            "phone bytes": {"phone": b"1"},
            "channels text": {"channels": "email"},
            "channels mapping": {"channels": {"type": "email", "address": "a"}},
            "channels number": {"channels": 7},
            "channel text": {"channels": ["email"]},
            "no kind": {"channels": [{"address": "a"}]},
            "kind no text": {"channels": [{"type": 7, "address": "a"}]},
            "no address": {"channels": [{"type": "email"}]},
            "empty address": {"channels": [{"type": "email", "address": ""}]},
            "address no text": {"channels": [{"type": "email", "address": 7}]},
            "opted_in no bool": {"channels": [{"type": "email", "address": "a", "opted_in": 1}]},
            "verified none": {"channels": [{"type": "email", "address": "a", "verified": None}]},
            "too many channels": {"channels": [{"type": "email", "address": "a"}] * 1001},
        }
    ),
)
def test_an_unusable_identity_is_refused(server: Sandbox, key: str, given: Json) -> None:
    """Reported, with all of it: half an identity is not sent."""
    refusal(server, key, lambda client: client.identify("u", **{"traits": {"a": 1}, **given}))


# --- requests


def test_headers_are_exact() -> None:
    """The key in its own header, no other credentials, and who is speaking."""
    with Listener() as listener, open_client(listener.url, "wrk_key 1") as client:
        client.track("u", "order_paid")
        client.identify("u")
        assert client.flush()
    assert [heard.target for heard in listener.heard] == ["/v1/identify", "/v1/events/batch"]
    for heard in listener.heard:
        assert heard.headers["x-api-key"] == "wrk_key 1"
        assert heard.headers["user-agent"] == f"whisperr-python/{__version__}"
        assert heard.headers["content-type"] == "application/json"
        assert int(heard.headers["content-length"]) == len(heard.body)
        assert not {"authorization", "cookie", "content-encoding"} & heard.headers.keys()


def test_bodies_are_exact() -> None:
    """One object with the list of events, one object for an identity: UTF-8, no white space."""
    with Listener() as listener, open_client(listener.url, "wrk_test") as client:
        client.identify("ü", email="a")
        for n in range(2):
            client.track("ü", "order_paid", {"n": n}, message_id=f"id-{n}", occurred_at=NOW)
        assert client.flush()
    identity, batch = (heard.body.decode() for heard in listener.heard)
    assert identity == (
        '{"external_user_id":"ü","channels":[{"channel":"email","address":"a","opted_in":true}]}'
    )
    each = (
        '{"external_user_id":"ü","event_type":"order_paid","properties":{"n":%d},'
        '"occurred_at":"2026-02-03T04:05:06.789Z","context":{"sdk_name":"whisperr-python",'
        '"sdk_version":"' + __version__ + '","$message_id":"id-%d"}}'
    )
    assert batch == '{"events":[' + ",".join(each % (n, n) for n in range(2)) + "]}"


NOW = datetime(2026, 2, 3, 4, 5, 6, 789_999, UTC)


def test_an_identity_carries_an_id_in_a_header(server: Sandbox, key: str) -> None:
    """Unique for each, the same on a repeat; a batch of events carries none."""
    again = {"do": "status", "status": 503, "headers": {"Retry-After": "0"}, "path": "/v1/identify"}
    server.inject(key, again)
    events(
        server,
        key,
        lambda client: client.identify("a"),
        lambda client: client.identify("b"),
        lambda client: client.track("a", "order_paid"),
    )
    keys = [request["headers"].get("Idempotency-Key") for request in server.requests(key)]
    first, repeat, second, of_events = keys
    assert OWN_ID.fullmatch(first)
    assert OWN_ID.fullmatch(second)
    assert first == repeat != second
    assert of_events is None


def test_events_are_sent_in_the_order_of_their_calls(server: Sandbox, key: str) -> None:
    """Across batches too."""

    def use(client: Whisperr) -> None:
        for n in range(25):
            client.track("u", "order_paid", {"n": n})

    found = events(server, key, use, max_batch_size=10)
    assert [event["properties"]["n"] for event in found] == list(range(25))
    assert [request["count"] for request in server.requests(key)] == [10, 10, 5]
