"""The table of docs/values.md: Python text, and the JSON that its value becomes.

One copy of it. The page is written from here (docs/generate_values.py), and each row is evaluated and
encoded by tests/encoding/test_value_table.py.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from typing import Any, NamedTuple

import pytest


class Refused(NamedTuple):
    """The type that a refusal names."""

    type_name: str


class Row(NamedTuple):
    """One value. ``id`` is unique in its section."""

    id: str
    code: str
    expected: Any


class Section(NamedTuple):
    """Rows under one rule."""

    title: str
    rule: str
    setup: str  # run before the rows, shown above them
    rows: tuple[Row, ...]
    needs: tuple[str, ...] = ()  # packages to import, beside the standard library
    oldest: tuple[int, int] = (
        3,
        8,
    )  # the first Python that has a release of them that is meant here


TABLE = (
    Section(
        "What JSON has",
        "As it is. A subclass of a built-in type is what it holds, whatever its own `__str__` or `__iter__` "
        "says. An integer below -2⁶³ or above 2⁶⁴-1 becomes its decimal digits, as text; NaN and the "
        "infinities become `null`; a lone surrogate in a text becomes U+FFFD.",
        "",
        (
            Row("text", '"naïve"', "naïve"),
            Row("flags", "[True, False, None]", [True, False, None]),
            Row("numbers", "[7, 0.5]", [7, 0.5]),
            Row("large", "2**64", "18446744073709551616"),
            Row("nan", '[float("nan"), float("inf")]', [None, None]),
            Row("tuple", "(1, [2])", [1, [2]]),
            Row("surrogate", r'"a\ud800"', "a\ufffd"),
        ),
    ),
    Section(
        "Numbers",
        "The nearest double; `null` where there is none.",
        "from decimal import Decimal\nfrom fractions import Fraction\n",
        (
            Row("decimal", 'Decimal("12.50")', 12.5),
            Row("decimal nan", '[Decimal("NaN"), Decimal("sNaN"), Decimal("1e400")]', [None, None, None]),
            Row("fraction", "Fraction(1, 4)", 0.25),
            Row("complex", "1j", Refused("complex")),
        ),
    ),
    Section(
        "Times",
        "ISO 8601 text, with the offset if it has one; a length of time is its seconds. A zone that fails "
        "when it is asked for its offset, or answers with no offset, is refused.",
        "import datetime as dt\n\n"
        "MOMENT = dt.datetime(2026, 1, 31, 23, 59, 58, 123456)\n"
        "HALF_PAST_FIVE = dt.timezone(dt.timedelta(hours=5, minutes=30))\n\n\n"
        "class Failing(dt.tzinfo):\n"
        "    def utcoffset(self, moment):\n"
        "        raise LookupError\n\n\n"
        "class Odd(dt.tzinfo):\n"
        "    def utcoffset(self, moment):\n"
        "        return 3600\n\n\n"
        "class TwoDays(dt.tzinfo):\n"
        "    def utcoffset(self, moment):\n"
        "        return dt.timedelta(days=2)\n",
        (
            Row("naive", "MOMENT", "2026-01-31T23:59:58.123456"),
            Row("utc", "MOMENT.replace(tzinfo=dt.timezone.utc)", "2026-01-31T23:59:58.123456+00:00"),
            Row("fixed", "MOMENT.replace(tzinfo=HALF_PAST_FIVE)", "2026-01-31T23:59:58.123456+05:30"),
            Row("failing zone", "MOMENT.replace(tzinfo=Failing())", Refused("datetime")),
            Row("odd zone", "MOMENT.replace(tzinfo=Odd())", Refused("datetime")),
            Row("zone of days", "MOMENT.replace(tzinfo=TwoDays())", Refused("datetime")),
            Row("abstract zone", "MOMENT.replace(tzinfo=dt.tzinfo())", Refused("datetime")),
            Row("failing time", "dt.time(1, tzinfo=Failing())", Refused("time")),
            Row("date", "MOMENT.date()", "2026-01-31"),
            Row("time", "dt.time(1, 2, 3, tzinfo=HALF_PAST_FIVE)", "01:02:03+05:30"),
            Row("timedelta", "dt.timedelta(minutes=1, milliseconds=500)", 60.5),
        ),
    ),
    Section(
        "zoneinfo",
        "A time of the day in such a zone has no offset: the zone does not know the day.",
        "from zoneinfo import ZoneInfo\n\nimport datetime as dt\n",
        (
            Row("winter", 'dt.datetime(2026, 1, 31, tzinfo=ZoneInfo("Europe/Paris"))', "2026-01-31T00:00:00+01:00"),
            Row("summer", 'dt.datetime(2026, 7, 31, tzinfo=ZoneInfo("Europe/Paris"))', "2026-07-31T00:00:00+02:00"),
            Row("time", 'dt.time(1, tzinfo=ZoneInfo("Europe/Paris"))', "01:00:00"),
        ),
        needs=("zoneinfo", "tzdata"),
        oldest=(3, 9),
    ),
    Section(
        "pytz and dateutil",
        "As their zones say, also where they say what nobody meant: a pytz zone that is handed to a "
        "`datetime` instead of its `localize()`.",
        "import dateutil.tz\nimport pytz\n\nimport datetime as dt\n",
        (
            Row("pytz", 'pytz.timezone("Europe/Paris").localize(dt.datetime(2026, 1, 31))', "2026-01-31T00:00:00+01:00"),
            Row("pytz handed over", 'dt.datetime(2026, 1, 31, tzinfo=pytz.timezone("Europe/Paris"))', "2026-01-31T00:00:00+00:09"),
            Row("pytz fixed", "dt.datetime(2026, 1, 31, tzinfo=pytz.FixedOffset(330))", "2026-01-31T00:00:00+05:30"),
            Row("dateutil", 'dt.datetime(2026, 1, 31, tzinfo=dateutil.tz.gettz("Europe/Paris"))', "2026-01-31T00:00:00+01:00"),
            Row("dateutil fixed", 'dt.datetime(2026, 1, 31, tzinfo=dateutil.tz.tzoffset(None, 19800))', "2026-01-31T00:00:00+05:30"),
        ),
        needs=("pytz", "dateutil"),
    ),
    Section(
        "pendulum and arrow",
        "As the times of the standard library.",
        "import arrow\nimport pendulum\n",
        (
            Row("pendulum", 'pendulum.datetime(2026, 1, 31, tz="Europe/Paris")', "2026-01-31T00:00:00+01:00"),
            Row("pendulum date", "pendulum.date(2026, 1, 31)", "2026-01-31"),
            Row("pendulum time", "pendulum.time(1, 2, 3)", "01:02:03"),
            Row("duration", "pendulum.duration(minutes=1, seconds=30)", 90.0),
            Row("difference", "pendulum.datetime(2026, 1, 2) - pendulum.datetime(2026, 1, 1)", 86400.0),
            Row("arrow", 'arrow.get("2026-01-31T00:00:00+01:00")', "2026-01-31T00:00:00+01:00"),
            Row("key", '{pendulum.date(2026, 1, 31): 1}', {"2026-01-31": 1}),
            Row("arrow key", '{arrow.get("2026-01-31T00:00:00+01:00"): 1}', {"2026-01-31T00:00:00+01:00": 1}),
        ),
        needs=("arrow", "pendulum"),
    ),
    Section(
        "whenever",
        "ISO 8601 text as it writes it, without the name of the zone. A delta of months or years is an "
        "object of its parts.",
        "import whenever\n\n"
        "INSTANT = whenever.Instant.from_utc(2026, 1, 31, 23, 59, 58, nanosecond=123456789)\n",
        (
            Row("instant", "INSTANT", "2026-01-31T23:59:58.123456789Z"),
            Row("zoned", 'INSTANT.to_tz("Europe/Paris")', "2026-02-01T00:59:58.123456789+01:00"),
            Row("plain", 'INSTANT.to_tz("Europe/Paris").to_plain()', "2026-02-01T00:59:58.123456789"),
            Row("date", 'INSTANT.to_tz("Europe/Paris").date()', "2026-02-01"),
            Row("time", 'INSTANT.to_tz("Europe/Paris").time()', "00:59:58.123456789"),
            Row("delta", "whenever.TimeDelta(minutes=1, milliseconds=500)", 60.5),
            Row("months", "whenever.ItemizedDateDelta(months=1)", {"months": 1}),
            Row("key", "{INSTANT: 1}", {"2026-01-31T23:59:58.123456789Z": 1}),
        ),
        needs=("whenever",),
        oldest=(3, 10),
    ),
    Section(
        "numpy",
        "A scalar is what it holds: a flag, a number (the nearest double), text. A time is ISO 8601 text as "
        "precise as its unit, a length of time is its seconds; a month, a year and no unit have no fixed "
        "length. `NaT` is `null`. An array is refused: write `.tolist()`.",
        "import numpy as np\n",
        (
            Row("bool", "[np.bool_(True), np.bool_(False)]", [True, False]),
            Row("int", "[np.int8(-1), np.uint64(2**64 - 1), np.longlong(3)]", [-1, 2**64 - 1, 3]),
            Row("float", "[np.float64(0.1), np.float32(0.5), np.float16(0.5), np.longdouble(0.5)]", [0.1, 0.5, 0.5, 0.5]),
            Row("float32", "np.float32(0.1)", 0.10000000149011612),
            Row("nan", '[np.float64("nan"), np.float32("nan"), np.float16("inf"), np.longdouble("nan")]', [None] * 4),
            Row("text", '[np.str_("pro"), np.bytes_(b"pro")]', ["pro", "pro"]),
            Row("seconds", '[np.timedelta64(90, "s"), np.timedelta64(90 * 10**9, "ns"), np.timedelta64(3, "25s")]', [90.0, 90.0, 75.0]),
            Row("units", '[np.timedelta64(1, unit) for unit in "W D h m s ms us ns ps fs as".split()]',
                [604800.0, 86400.0, 3600.0, 60.0, 1.0, 1e-3, 1e-6, 1e-9, 1e-12, 1e-15, 1e-18]),
            Row("months", 'np.timedelta64(1, "M")', Refused("timedelta64")),
            Row("years", 'np.timedelta64(1, "Y")', Refused("timedelta64")),
            Row("moment", 'np.datetime64("2026-01-31T23:59:58.123456789")', "2026-01-31T23:59:58.123456789"),
            Row("day", 'np.datetime64("2026-01-31")', "2026-01-31"),
            Row("nat", '[np.datetime64("NaT", "s"), np.timedelta64("NaT", "s")]', [None, None]),
            Row("complex", "np.complex64(1)", Refused("complex64")),
            Row("array", "np.array([1])", Refused("ndarray")),
            Row("int key", "{np.int64(3): 1, np.float32(0.5): 2}", {"3": 1, "0.5": 2}),
            Row("other keys", '{np.bool_(True): 1, np.str_("a"): 2, np.datetime64("2026-01-31"): 3}', {"true": 1, "a": 2, "2026-01-31": 3}),
            Row("nat key", '{np.datetime64("NaT", "s"): 1}', {"null": 1}),
        ),
        needs=("numpy",),
    ),
    Section(
        "pandas",
        "`NaT` and `NA` are `null`; a `Timestamp` is ISO 8601 text with its nanoseconds, a `Timedelta` its "
        "seconds. Series, frames, periods and intervals are refused.",
        "import pandas as pd\n",
        (
            Row("missing", "[pd.NaT, pd.NA]", [None, None]),
            Row("timestamp", 'pd.Timestamp("2026-01-31 23:59:58.123456789+05:30")', "2026-01-31T23:59:58.123456789+05:30"),
            Row("far timestamp", 'pd.Timestamp("2026-01-31").as_unit("s").replace(year=20000)', "20000-01-31T00:00:00"),
            Row("timedelta", '[pd.Timedelta("90s"), pd.Timedelta(1, "ns")]', [90.0, 1e-9]),
            Row("series", "pd.Series([1])", Refused("Series")),
            Row("period", 'pd.Period("2026-01")', Refused("Period")),
            Row("key", '{pd.Timestamp("2026-01-31"): 1, pd.NaT: 2}', {"2026-01-31T00:00:00": 1, "null": 2}),
            Row("key NA", "{pd.NA: 1}", {"null": 1}),
        ),
        needs=("pandas",),
    ),
    Section(
        "Text, bytes, ids",
        "Text. Bytes are text if they are UTF-8, else base64.",
        "import uuid\nfrom collections import UserString\nfrom pathlib import PurePosixPath\n",
        (
            Row("uuid", "uuid.UUID(int=1)", "00000000-0000-0000-0000-000000000001"),
            Row("path", 'PurePosixPath("a/b")', "a/b"),
            Row("user string", 'UserString("pro")', "pro"),
            Row("utf-8", 'b"ok"', "ok"),
            Row("bytes", r'bytearray(b"\xff\x00")', "/wA="),
        ),
    ),
    Section(
        "bson",
        "An `ObjectId` is its 24 digits, a `Decimal128` a number.",
        "import bson\n",
        (
            Row("object id", 'bson.ObjectId("65b9f7e2a1b2c3d4e5f60718")', "65b9f7e2a1b2c3d4e5f60718"),
            Row("decimal", 'bson.Decimal128("12.50")', 12.5),
            Row("int", "bson.Int64(7)", 7),
            Row("key", '{bson.ObjectId("65b9f7e2a1b2c3d4e5f60718"): 1}', {"65b9f7e2a1b2c3d4e5f60718": 1}),
        ),
        needs=("bson",),
    ),
    Section(
        "Enums",
        "The value of the member, by its own rule.",
        "import enum\n\n\n"
        "class Plan(enum.Enum):\n"
        '    PRO = "pro"\n'
        "    PAIR = (1, 2)\n"
        "    ANY = object()\n\n\n"
        "class Level(enum.IntEnum):\n"
        "    LOW = 1\n\n\n"
        "class Bits(enum.Flag):\n"
        "    ONE = 1\n"
        "    TWO = 2\n\n\n"
        "class Named(enum.Enum):\n"
        "    ONE = 1\n\n"
        "    @property\n"
        "    def value(self):\n"
        "        return self.name.lower()\n",
        (
            Row("text", "Plan.PRO", "pro"),
            Row("tuple", "Plan.PAIR", [1, 2]),
            Row("any", "Plan.ANY", Refused("object")),
            Row("int", "Level.LOW", 1),
            Row("flag", "Bits.ONE | Bits.TWO", 3),
            Row("own value", "Named.ONE", "one"),
            Row("keys", "{Plan.PRO: 1, Level.LOW: 2}", {"pro": 1, "1": 2}),
            Row("tuple key", "{Plan.PAIR: 1}", Refused("tuple")),
        ),
    ),
    Section(
        "Collections",
        "A mapping is an object, any other collection an array. A named tuple is a tuple.",
        "import array\nfrom collections import UserDict, deque, namedtuple\n\n"
        'Pair = namedtuple("Pair", "left right")\n',
        (
            Row("mapping", 'UserDict({"a": {1}})', {"a": [1]}),
            Row("set", 'frozenset(["a"])', ["a"]),
            Row("deque", "deque([1, 2])", [1, 2]),
            Row("range", "range(3)", [0, 1, 2]),
            Row("named tuple", "Pair(1, 2)", [1, 2]),
            Row("array", 'array.array("d", [0.5])', [0.5]),
            Row("generator", "(n for n in [1])", Refused("generator")),
            Row("keys", '{1: "a", None: "b", 0.5: "c"}', {"1": "a", "null": "b", "0.5": "c"}),
        ),
    ),
    Section(
        "frozendict",
        "An object.",
        "from frozendict import frozendict\n",
        (Row("frozendict", 'frozendict(a=frozendict(b=1))', {"a": {"b": 1}}),),
        needs=("frozendict",),
    ),
    Section(
        "Dataclasses",
        "An object of the declared fields, also those that begin with an underscore. Attributes that are not "
        "declared and properties are left out, and so is a field that has no value.",
        "import dataclasses\n\n\n"
        "@dataclasses.dataclass\n"
        "class Order:\n"
        "    id: int\n"
        "    _total: float = 9.5\n"
        "    note: str = dataclasses.field(init=False)\n\n"
        "    @property\n"
        "    def cents(self):\n"
        "        return self._total * 100\n\n\n"
        "@dataclasses.dataclass\n"
        "class Slots:\n"
        '    __slots__ = ("id",)\n'
        "    id: int\n\n\n"
        "order = Order(1)\n"
        "order.seen = True\n",
        (
            Row("fields", "order", {"id": 1, "_total": 9.5}),
            Row("slots", "[Slots(1)]", [{"id": 1}]),
            Row("class", "Order", Refused("type")),
        ),
    ),
    Section(
        "attrs, msgspec, pydantic",
        "An object of the declared fields, under the names of their class. A field of msgspec's that is UNSET "
        "is left out. A pydantic model is what its `model_dump()` says (`dict()` in pydantic 1): without what "
        "it excludes, with the extra fields that it allows.",
        "import attrs\nimport msgspec\nimport pydantic\n\n\n"
        "@attrs.define\n"
        "class Item:\n"
        "    sku: str\n"
        "    _left: int = 2\n\n\n"
        "class Cart(msgspec.Struct, rename=\"upper\"):\n"
        "    items: list\n"
        "    coupon: object = msgspec.UNSET\n\n\n"
        "class User(pydantic.BaseModel):\n"
        "    id: int\n"
        "    password: str = pydantic.Field(\"secret\", exclude=True)\n\n\n"
        "class Login(pydantic.BaseModel):\n"
        "    password: pydantic.SecretStr\n",
        (
            Row("attrs", 'Item("a")', {"sku": "a", "_left": 2}),
            Row("msgspec", 'Cart([Item("a")])', {"items": [{"sku": "a", "_left": 2}]}),
            Row("pydantic", "User(id=1)", {"id": 1}),
            Row("secret", 'Login(password="x")', Refused("SecretStr")),
        ),
        needs=("attrs", "msgspec", "pydantic"),
    ),
    Section(
        "SQLAlchemy",
        "A row is a tuple, its `_mapping` an object. A mapped object is refused: to read it may ask the database.",
        "import sqlalchemy as sa\nfrom sqlalchemy import orm\n\n"
        'engine = sa.create_engine("sqlite://", poolclass=sa.pool.StaticPool)\n'
        "with engine.connect() as connection:\n"
        "    row = connection.execute(sa.text(\"select 1 as id, 'pro' as plan\")).one()\n"
        "engine.dispose()\n\n"
        "Base = orm.declarative_base()\n\n\n"
        "class Account(Base):\n"
        '    __tablename__ = "account"\n'
        "    id = sa.Column(sa.Integer, primary_key=True)\n",
        (
            Row("row", "row", [1, "pro"]),
            Row("mapping", "row._mapping", {"id": 1, "plan": "pro"}),
            Row("mapped", "Account(id=1)", Refused("Account")),
        ),
        needs=("sqlalchemy",),
    ),
    Section(
        "Transparent proxies",
        "What they stand for, by its own rule. One that fails when it is asked is refused.",
        "import lazy_object_proxy\nimport wrapt\nfrom decimal import Decimal\nfrom werkzeug.local import LocalProxy\n\n\n"
        "def unbound():\n"
        "    raise RuntimeError\n",
        (
            Row("werkzeug text", 'LocalProxy(lambda: "pro")', "pro"),
            Row("werkzeug flag", "[LocalProxy(lambda: True), LocalProxy(lambda: None)]", [True, None]),
            Row("werkzeug numbers", "[LocalProxy(lambda: 7), LocalProxy(lambda: 0.5)]", [7, 0.5]),
            Row("werkzeug dict", 'LocalProxy(lambda: {"a": (1,)})', {"a": [1]}),
            Row("werkzeug twice", "LocalProxy(lambda: LocalProxy(lambda: 1))", 1),
            Row("werkzeug object", "LocalProxy(object)", Refused("object")),
            Row("werkzeug unbound", "LocalProxy(unbound)", Refused("LocalProxy")),
            Row("werkzeug key", '{LocalProxy(lambda: "a"): 1}', {"a": 1}),
            Row("wrapt", '[wrapt.ObjectProxy("pro"), wrapt.ObjectProxy({"a": True})]', ["pro", {"a": True}]),
            Row("wrapt function", "wrapt.ObjectProxy(unbound)", Refused("function")),
            Row("lazy", 'lazy_object_proxy.Proxy(lambda: Decimal("0.5"))', 0.5),
        ),
        needs=("lazy_object_proxy", "wrapt", "werkzeug"),
    ),
    Section(
        "Django's lazy objects and strings",
        "What they stand for. A model is refused: name its fields.",
        "from django.utils.functional import SimpleLazyObject, lazy\n"
        "from django.utils.safestring import mark_safe\n"
        "from django.utils.text import format_lazy\n\n"
        "text = lazy(lambda: \"pro\", str)\n",
        (
            Row("lazy text", "[text()]", ["pro"]),
            Row("lazy number", "lazy(lambda: 7, int)()", 7),
            Row("format", 'format_lazy("{}-{}", "a", text())', "a-pro"),
            Row("safe", 'mark_safe("<b>")', "<b>"),
            Row("object", 'SimpleLazyObject(lambda: {"a": [text()]})', {"a": ["pro"]}),
            Row("false", "[SimpleLazyObject(lambda: False), SimpleLazyObject(lambda: None)]", [False, None]),
            Row("model", "SimpleLazyObject(object)", Refused("object")),
            Row("key", "{text(): 1}", {"pro": 1}),
        ),
        needs=("django",),
    ),
    Section(
        "Everything else",
        "Is refused, by the name of its type and the place where it stands. So is what claims to be of "
        "another type than it is.",
        "from unittest import mock\n\n\n"
        "class Claims:\n"
        "    __class__ = str\n",
        (
            Row("object", "object()", Refused("object")),
            Row("function", "len", Refused("builtin_function_or_method")),
            Row("claims", "Claims()", Refused("Claims")),
            Row("mock", "mock.MagicMock(spec=str)", Refused("MagicMock")),
            Row("tuple key", '{("a", "b"): 1}', Refused("tuple")),
            Row("bytes key", '{b"a": 1}', Refused("bytes")),
        ),
    ),
)  # fmt: skip


# Where CI installs the dependency group "values" (tox.ini): there, nothing may be missing.
COMPLETE = "CI" in os.environ and sys.version_info[:2] in ((3, 8), (3, 13))


def needed(*packages: str, oldest: tuple[int, int] = (3, 8)) -> dict[str, Any]:
    """The packages by name, imported; or a skip that says which is missing."""
    if sys.version_info < oldest:
        pytest.skip(f"{', '.join(packages)}: not for this Python")
    found = {}
    for package in packages:
        try:
            found[package] = importlib.import_module(package)
        except ImportError:
            assert not COMPLETE, f"{package} is missing: the dependency group values has it"
            pytest.skip(f"{package} is not installed")
    return found


def evaluated(section: Section, row: Row) -> Any:
    """The value of a row, made anew."""
    names: dict[str, Any] = {"__name__": "value_table"}
    run(section.setup, names)
    return eval(row.code, names)


def run(setup: str, names: dict[str, Any]) -> None:
    """Run what stands above the rows, as a module of its own would."""
    exec(compile(setup, "value_table", "exec", dont_inherit=True), names)


def markdown() -> str:
    """The tables, as the page has them."""
    return "\n".join(_section(section) for section in TABLE)


def _section(section: Section) -> str:
    lines = [f"## {section.title}", "", section.rule, ""]
    if section.setup:
        lines += ["```python", section.setup.rstrip(), "```", ""]
    lines += ["| value | in JSON |", "|---|---|"]
    lines += [f"| {_code(row.code)} | {_expected(row.expected)} |" for row in section.rows]
    return "\n".join([*lines, ""])


def _code(text: str) -> str:
    return "`" + text.replace("|", "\\|") + "`"


def _expected(expected: Any) -> str:
    if isinstance(expected, Refused):
        return f"refused: `{expected.type_name}`"
    return _code(json.dumps(expected, ensure_ascii=False))
