"""Every row of docs/values.md: converted as it says, or refused by type and path."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.encoders import NAMES, using, using_encoder
from support.rows import same
from support.value_table import TABLE, Refused, Row, Section, evaluated, markdown, needed, run
from whisperr import Whisperr
from whisperr._encoding import values as rules
from whisperr._encoding.encoders import ENCODERS
from whisperr._encoding.values import Unencodable, encode
from whisperr.testing import recording

PAGE = Path(__file__).resolve().parents[2] / "docs" / "values.md"

ROWS = [
    pytest.param(section, row, id=f"{section.title}: {row.id}")
    for section in TABLE
    for row in section.rows
]


def value_of(section: Section, row: Row) -> Any:
    """The value of a row, or a skip that says which package is missing."""
    needed(*section.needs, oldest=section.oldest)
    return evaluated(section, row)


@pytest.fixture(params=NAMES)
def encoder(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each test that asks for it runs with every encoder."""
    with using(request.param):
        yield request.param


@pytest.mark.parametrize(("section", "row"), ROWS)
def test_a_row_is_true(encoder: str, section: Section, row: Row) -> None:
    """Alone, and where it stands inside others: what the page says, or the type and the way to it."""
    value = value_of(section, row)
    if isinstance(row.expected, Refused):
        with pytest.raises(Unencodable, match=rf"of type {row.expected.type_name}\b") as caught:
            encode({"cart": [1, {"owner": value}]})
        assert caught.value.path[:3] == ["cart", "1", "owner"]
    else:
        assert same(json.loads(encode(value)), row.expected)
        value = value_of(section, row)
        assert same(json.loads(encode([{"in": value}])), [{"in": row.expected}])


@pytest.mark.parametrize(("section", "row"), ROWS)
def test_a_row_is_true_of_a_call(encoder: str, section: Section, row: Row) -> None:
    """In properties, context and traits: it arrives, or the call is refused and the detail says where."""
    value = value_of(section, row)
    with recording(check=False) as events:
        client = Whisperr("wrk_k")
        client.track("user", "order_paid", {"flat": value})
        client.track("user", "order_paid", {"deep": [{"in": value}]})
        client.identify("user", traits={"flat": value})
    if isinstance(row.expected, Refused):
        ways = ("properties.flat", "properties.deep.0.in", "traits.flat")
        assert len(events.refused) == len(ways)
        for refused, way in zip(events.refused, ways):
            assert f"{refused.detail}.".startswith(f"{way}.")
        assert all(row.expected.type_name in refused.message for refused in events.refused)
    else:
        flat, deep = (event.properties for event in events.events)
        assert same(flat, {"flat": row.expected})
        assert same(deep, {"deep": [{"in": row.expected}]})


def test_the_page_has_the_table() -> None:
    """docs/values.md is what `python docs/generate_values.py` writes."""
    assert f"\n{markdown()}\n" in PAGE.read_text(encoding="utf-8")


def test_rows_have_names_of_their_own() -> None:
    """Two rows of one id would be one test."""
    assert len({row.id for row in ROWS}) == len(ROWS) > 100


WITHOUT = """
import json, sys
sys.modules.update(dict.fromkeys(sys.argv[1:]))
from whisperr._encoding.encoders import NAME
assert NAME not in sys.argv[1:]
from whisperr._encoding.values import encode
from support.value_table import TABLE, Refused, evaluated
for section in TABLE:
    if not section.needs:
        for row in section.rows:
            if not isinstance(row.expected, Refused):
                found = json.loads(encode(evaluated(section, row)))
                if json.dumps(found, sort_keys=True) != json.dumps(row.expected, sort_keys=True):
                    sys.exit(f"{section.title}: {row.id}: {found}")
                print(row.id)
"""


@pytest.mark.parametrize("missing", [["orjson"], ["orjson", "msgspec"]], ids="+".join)
def test_the_table_holds_where_an_encoder_cannot_be_had(missing: list[str]) -> None:
    """In an interpreter where its import fails."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", WITHOUT, *missing],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout
    assert len(done.stdout.splitlines()) > 30


# --- what the encoder is asked for


@pytest.fixture(params=["orjson", "msgspec"])
def asked(request: pytest.FixtureRequest) -> Iterator[list[Any]]:
    """Everything that the encoder was given."""
    encoder = ENCODERS[request.param]()
    given: list[Any] = []

    def dumps(value: Any, default: Any, options: int) -> bytes:
        given.append(value)
        assert default is None
        return encoder.dumps(value, default, options)

    def write(value: Any) -> bytes:
        given.append(value)
        return encoder.write(value)

    with using_encoder(encoder._replace(dumps=dumps, write=write)):
        yield given


# What an encoder takes by itself, or calls back for, beside what JSON has. Harmless values of each kind.
NATIVE = {
    "enum": "Plan.PRO",
    "int enum": "Level.LOW",
    "uuid": "uuid.UUID(int=1)",
    "datetime": "dt.datetime(2026, 1, 31)",
    "dataclass": "Order(1)",
    "own text": 'type("Own", (str,), {})("a")',
    "own int": 'type("Own", (int,), {})(1)',
    "own dict": 'type("Own", (dict,), {})(a=1)',
    "own list": 'type("Own", (list,), {})([1])',
    "decimal": 'Decimal("0.5")',
}


@pytest.mark.parametrize("around", ["alone", "nested"])
@pytest.mark.parametrize("name", sorted(NATIVE))
def test_the_encoder_sees_only_what_the_rules_have_passed(
    asked: list[Any], name: str, around: str
) -> None:
    """Through track() and identify(): nothing but exact built-in types, and no way to call back."""
    names: dict[str, Any] = {"__name__": "value_table"}
    for section in TABLE:
        if not section.needs:
            run(section.setup, names)
    value = eval(NATIVE[name], names)
    given = {"in": value} if around == "alone" else {"in": [1, {"deep": (value,)}]}
    with recording(check=False) as events:
        client = Whisperr("wrk_k")
        client.track("user", "order_paid", given, given)
        client.identify("user", traits=given)
    assert len(events.events) == 1
    assert not events.refused
    encoded = [value for value in asked if "in" in json.dumps(value, default=str)]
    assert encoded
    for value in asked:
        assert_plain(value, may_be_handed_back=name in ("datetime", "decimal"))


def assert_plain(value: Any, *, may_be_handed_back: bool) -> None:
    """Exact built-in types; in a flat mapping also what orjson can only hand back."""
    if type(value) is dict:
        assert all(type(key) is str for key in value)
        value = list(value.values())
    if type(value) in (list, tuple):
        for part in value:
            assert_plain(part, may_be_handed_back=may_be_handed_back)
    else:
        plain = type(value) in (str, int, float, bool, type(None))
        assert plain or (may_be_handed_back and not rules.is_tracked({"in": value}))
