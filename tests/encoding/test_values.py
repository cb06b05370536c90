"""The conversion rules of docs/values.md, the same with every encoder."""

from __future__ import annotations

import datetime
import decimal
import fractions
import json
import tracemalloc
import types
import uuid
from collections import OrderedDict, UserDict, UserList, deque
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any, Callable

import pytest
from hypothesis import HealthCheck, given, settings

from support.clients import Reports, open_client
from support.encoders import NAMES, using
from support.inputs import (
    PLUS_0530,
    WRAPPERS,
    Bits,
    Choice,
    Colour,
    Kind,
    Level,
    OwnDict,
    OwnFloat,
    OwnInt,
    OwnList,
    OwnSet,
    OwnText,
    OwnTuple,
    Pair,
    Point,
    TextChoice,
    nested,
    values,
)
from support.rows import named, same
from whisperr import Whisperr
from whisperr._encoding.values import MAX_DEPTH, MAX_ITEMS, Unencodable, encode
from whisperr.sandbox import Sandbox
from whisperr.testing import recording

EXAMPLES = 2_100
FLOATS_DIGITS = decimal.Decimal("0.1000000000000000055511151231257827")
MOMENT = datetime.datetime(2026, 1, 31, 23, 59, 58, 123456)

# A value, and what it is in JSON.
RULES: dict[str, Any] = {
    "text": ("naïve \U0001f600 \u2028 \x00 \"\\", "naïve \U0001f600 \u2028 \x00 \"\\"),
    "true": (True, True),
    "none": (None, None),
    "list": ([1, [2]], [1, [2]]),
    "tuple": ((1, (2,)), [1, [2]]),
    "named tuple": (Pair(1, 2), [1, 2]),
    "dict": ({"a": {"b": 1}}, {"a": {"b": 1}}),
    "empty containers": ([[], {}, (), set()], [[], {}, [], []]),
    "zero": (0, 0),
    "the largest number": (2**64 - 1, 2**64 - 1),
    "over the largest": (2**64, "18446744073709551616"),
    "the smallest number": (-(2**63), -(2**63)),
    "under the smallest": (-(2**63) - 1, "-9223372036854775809"),
    "float": (0.1, 0.1),
    "negative zero": (-0.0, -0.0),
    "largest double": (1.7976931348623157e308, 1.7976931348623157e308),
    "nan": (float("nan"), None),
    "infinities": ([float("inf"), float("-inf")], [None, None]),
    "decimal": (decimal.Decimal("12.50"), 12.5),
    "decimal of many digits": (FLOATS_DIGITS, 0.1),
    "decimal beyond a double": (decimal.Decimal("-1e400"), None),
    "decimal nans": ([decimal.Decimal("NaN"), decimal.Decimal("sNaN")], [None, None]),
    "naive datetime": (MOMENT, "2026-01-31T23:59:58.123456"),
    "aware datetime": (MOMENT.replace(tzinfo=PLUS_0530), "2026-01-31T23:59:58.123456+05:30"),
    "utc": (MOMENT.replace(microsecond=0, tzinfo=datetime.timezone.utc), "2026-01-31T23:59:58+00:00"),
    "date": (datetime.date(2026, 1, 31), "2026-01-31"),
    "time": (datetime.time(1, 2, 3), "01:02:03"),
    "timedelta": (datetime.timedelta(minutes=1, microseconds=500_000), 60.5),
    "uuid": (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
    "path": (PurePosixPath("a/b"), "a/b"),
    "enum": (Colour.RED, "red"),
    "enum of a tuple": (Colour.PAIR, [1, 2]),
    "enum of a dict": (Colour.TABLE, {"a": 1}),
    "enum of a huge number": (Colour.BIG, str(2**80)),
    "enum of text": (Kind.SMS, "sms"),
    "enum of numbers": (Level.LOW, 1),
    "enum of another metaclass": ([Choice.OPEN, TextChoice.DONE], ["open", "done"]),
    "flag": (Bits.ONE, 1),
    "dataclass": (Point(1, [Point()]), {"x": 1, "y": [{"x": 1, "y": 2}]}),
    "ordered dict": (OrderedDict([("b", 1), ("a", 2)]), {"b": 1, "a": 2}),
    "mapping": (UserDict({"a": {1}}), {"a": [1]}),
    "read-only mapping": (types.MappingProxyType({"a": 1}), {"a": 1}),
    "set": ({"a"}, ["a"]),
    "frozenset": (frozenset([1]), [1]),
    "keys of a dict": ({"a": 1}.keys(), ["a"]),
    "deque": (deque([1, 2]), [1, 2]),
    "sequence": (UserList([1, {2}]), [1, [2]]),
    "range": (range(3), [0, 1, 2]),
    "utf-8": ("é".encode(), "é"),
    "bytes": (b"\xff\x00", "/wA="),
    "bytearray": (bytearray(b"ok"), "ok"),
    "memoryview": (memoryview(b"ok"), "ok"),
    "fraction": (fractions.Fraction(1, 4), 0.25),
    "fraction beyond a double": (fractions.Fraction(10**400), None),
    "lone surrogate": ("a\ud800b\udfff", "a\ufffdb\ufffd"),
    "a subclass shows what it holds": ([OwnText("a"), OwnInt(7), OwnFloat(0.5)], ["a", 7, 0.5]),
    "so does one of list": ([OwnList([1]), OwnTuple((2,)), OwnSet({3})], [[1], [2], [3]]),
    "so does one of dict": (OwnDict({"a": 1}), {"a": 1}),
}  # fmt: skip

# A key, and its text.
KEYS: dict[str, Any] = {
    "text": ("a", "a"),
    "empty": ("", ""),
    "own text": (OwnText("a"), "a"),
    "lone surrogate": ("a\udc00", "a\ufffd"),
    "int": (-7, "-7"),
    "huge int": (2**80, str(2**80)),
    "own int": (OwnInt(7), "7"),
    "float": (0.5, "0.5"),
    "own float": (OwnFloat(0.5), "0.5"),
    "nan": (float("nan"), "null"),
    "inf": (float("inf"), "null"),
    "true": (True, "true"),
    "false": (False, "false"),
    "none": (None, "null"),
    "enum": (Colour.RED, "red"),
    "enum of text": (Kind.SMS, "sms"),
    "enum of numbers": (Level.LOW, "1"),
    "enum of another metaclass": (Choice.OPEN, "open"),
    "uuid": (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
    "decimal": (decimal.Decimal("1.50"), "1.50"),
    "date": (datetime.date(2026, 1, 31), "2026-01-31"),
    "datetime": (MOMENT, "2026-01-31T23:59:58.123456"),
}

NO_RULE: dict[str, Any] = {
    "object": object(),
    "class": Point,
    "enum class": Colour,
    "function": len,
    "complex": 1j,
    "ellipsis": ...,
    "generator": (n for n in [1]),
    "iterator": iter([1]),
    "exception": ValueError("x"),
    "module": json,
    "key tuple": {("a", "b"): 1},
    "key bytes": {b"a": 1},
    "key object": {object(): 1},
    "key time": {datetime.time(1): 1},
    "deep inside": [{"a": ({"b": [object()]},)}],
}


@pytest.fixture(params=NAMES)
def encoder(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each test that asks for it runs with every encoder."""
    with using(request.param):
        yield request.param


def strict(text: bytes) -> str:
    """Equal only for equal JSON: the order of members, 1, 1.0, true and "1" are told apart."""
    return repr(json.loads(text, object_pairs_hook=list))


# --- the table


@pytest.mark.parametrize(("value", "expected"), named(RULES))
def test_a_value_becomes_json_by_its_rule(encoder: str, value: Any, expected: Any) -> None:
    """Each row of the table, alone and inside a list and an object."""
    assert strict(encode(value)) == strict(json.dumps(expected).encode())
    assert same(json.loads(encode([{"in": value}])), [{"in": expected}])


@pytest.mark.parametrize(("key", "expected"), named(KEYS))
def test_a_key_becomes_text_by_its_rule(encoder: str, key: Any, expected: str) -> None:
    """Each kind of key, with a member of plain text beside it."""
    assert same(json.loads(encode({key: 1, "other": 2})), {expected: 1, "other": 2})


@pytest.mark.parametrize("value", named(NO_RULE))
def test_what_has_no_rule_is_refused(encoder: str, value: Any) -> None:
    """Anything else is Unencodable, and the text of that names types, never values."""
    with pytest.raises(Unencodable, match=r"a (value|key) of type"):
        encode(value)


def test_two_keys_of_one_text_are_one_member(encoder: str) -> None:
    """1 and "1" are one member in JSON, the later one: a name never occurs twice."""
    assert encode({1: "a", "1": "b"}) == b'{"1":"b"}'
    high, low = "a\ud800", "a\udfff"
    assert encode({high: 1, low: 2}) == '{"a\ufffd":2}'.encode()


def test_an_integer_of_too_many_digits_is_refused(encoder: str) -> None:
    """The interpreter converts only so many, and says so: that value is Unencodable."""
    with pytest.raises(Unencodable, match="digits"):
        encode([10**5000])
    with pytest.raises(Unencodable, match="digits"):
        encode({10**5000: 1})


@pytest.mark.parametrize("wrap", list(WRAPPERS.values()), ids=list(WRAPPERS))
@pytest.mark.parametrize(
    "core", [None, ']}[{\\"', [], {}], ids=["none", "brackets", "list", "dict"]
)
def test_nesting_ends_at_100_levels(encoder: str, wrap: Callable[[Any], Any], core: Any) -> None:
    """100 levels of whatever makes a level are fine, 101 are not; brackets in a text are none."""
    own = 1 if core in ([], {}) else 0
    assert encode(nested(MAX_DEPTH - own, wrap, core))
    with pytest.raises(Unencodable, match="nested"):
        encode(nested(MAX_DEPTH - own + 1, wrap, core))


def test_a_structure_that_holds_itself_is_refused(encoder: str) -> None:
    """A cycle is nesting without an end."""
    loop: list[Any] = []
    loop += [loop, loop]
    ring: dict[str, Any] = {}
    ring["in"] = [ring]
    point = Point()
    point.x = point
    for value in (loop, ring, point, deque([loop]), {"a": {"b": point}}):
        with pytest.raises(Unencodable, match="nested"):
            encode(value)


def test_a_lazy_sequence_has_a_limit(encoder: str) -> None:
    """``range(10**12)`` is refused before it is a list, up to 2**20 items are written."""
    assert encode(range(MAX_ITEMS)).endswith(b",%d]" % (MAX_ITEMS - 1))
    for value in (range(MAX_ITEMS + 1), range(10**12), [{"a": range(2**62)}]):
        with pytest.raises(Unencodable, match=f"over {MAX_ITEMS} items"):
            encode(value)


def test_long_texts_cost_little_beside_many_brackets(encoder: str) -> None:
    """The look for too deep nesting reads a long text in one step: no memory for each letter."""
    value = {"many": [[1]] * MAX_DEPTH * 2, "long": 'ab"c' * 2**18}
    encode(value)
    tracemalloc.start()
    try:
        encode(value)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 24 * 2**20  # bytes, for a text of 1 MiB


# --- both encoders


def verdict(value: Any) -> str:
    try:
        return strict(encode(value))
    except Exception as error:
        return type(error).__name__


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(value=values())
def test_all_encoders_agree(value: Any) -> None:
    """Whole structures of everything: equal parsed JSON, or refused by all."""
    verdicts = []
    for name in NAMES:
        with using(name):
            verdicts.append(verdict(value))
    assert verdicts[0] == verdicts[1] == verdicts[2]


# --- at the server


def test_the_server_takes_every_converted_value(server: Sandbox, key: str, encoder: str) -> None:
    """Every row of the tables, as properties, context and traits, arrives as the table says."""
    given = {name: row[0] for name, row in RULES.items()}
    expected = {name: row[1] for name, row in RULES.items()}
    with open_client(server.url, key) as client:
        client.track("user", "all_of_it", given, given)
        client.identify("user", traits=given)
        for odd, _ in KEYS.values():
            client.track("user", "one_key", {odd: 1}, {odd: 1})
        assert client.flush()
    (event, *of_keys) = server.events(key)
    (identity,) = server.identities(key)
    assert same(event["properties"], expected)
    assert same({name: event["context"][name] for name in expected}, expected)
    assert same(identity["traits"], expected)
    texts = [text for _, text in KEYS.values()]
    assert [list(event["properties"]) for event in of_keys] == [[text] for text in texts]
    assert all(event["context"][text] == 1 for event, text in zip(of_keys, texts))


@pytest.mark.parametrize("value", named(NO_RULE))
@pytest.mark.parametrize("place", ["properties", "context", "traits"])
def test_a_call_that_has_no_json_form_is_reported_and_not_queued(
    server: Sandbox, key: str, value: Any, place: str
) -> None:
    """One ``dropped``, without the value in its message; nothing is sent."""
    reports = Reports()
    with open_client(server.url, key, on_error=reports) as client:
        if place == "traits":
            client.identify("user", traits={"a": value})
        else:
            given: Any = {place: {"a": value}}
            client.track("user", "it_happened", **given)
        assert client.stats()["dropped"] == {"refused": 1}
        assert client.stats()["pending"] == 0
    assert reports.brief() == [("dropped", None, 1)]
    assert server.ledger(key)["requests"] == 0


@pytest.mark.parametrize("place", ["properties", "context", "traits"])
def test_each_object_of_a_call_has_its_own_100_levels(
    server: Sandbox, key: str, place: str, encoder: str
) -> None:
    """The object itself is the first level; what we put around it doesn't count."""
    reports = Reports()
    with open_client(server.url, key, on_error=reports) as client:
        for levels in (MAX_DEPTH, MAX_DEPTH + 1):
            value = nested(levels, lambda inner: {"in": inner})
            if place == "traits":
                client.identify("user", traits=value)
            else:
                given: Any = {place: value}
                client.track("user", "it_happened", **given)
        assert client.flush()
        assert client.stats()["delivered"] == 1
    assert reports.counts("dropped") == [1]


@pytest.mark.parametrize(
    ("properties", "where"),
    [
        ({"owner": object()}, "properties.owner"),
        ({"cart": [1, 2, {"owner": object()}]}, "properties.cart.2.owner"),
        ({"when": {1: {uuid.UUID(int=7): object()}}}, f"properties.when.1.{uuid.UUID(int=7)}"),
        ({object(): 1}, "properties"),
    ],
)
def test_what_cannot_be_sent_is_found(properties: Any, where: str) -> None:
    """The detail for on_error says where in the call the value stands; the message names its type."""
    with recording(check=False) as events:
        Whisperr("wrk_k").track("u", "order_paid", properties)
    (refused,) = events.refused
    assert refused.detail == where
    assert "of type object" in refused.message
