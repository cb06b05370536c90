"""The arguments of a call in disguise: proxies, scalars of numpy's, ids and times of other packages."""

from __future__ import annotations

import datetime
import enum
import importlib
from collections import UserString
from types import MappingProxyType
from typing import Any
from unittest import mock

import pytest

from support.inputs import OwnInt, OwnText
from support.rows import named
from support.value_table import TABLE, needed
from whisperr._encoding import arguments
from whisperr._encoding.values import Unencodable

UTC = datetime.timezone.utc
MOMENT = datetime.datetime(2026, 1, 31, 23, 59, 58, 123456, tzinfo=UTC)


# The first Python that a package is meant for.
OLDEST = {package: section.oldest for section in TABLE for package in section.needs}


class Standing:
    """A transparent proxy, by the protocol of werkzeug's and Celery's."""

    def __init__(self, target: Any) -> None:
        self._target = target

    def _get_current_object(self) -> Any:
        if isinstance(self._target, Exception):
            raise self._target
        return self._target

    @property
    def __class__(self) -> Any:
        return type(self._target)


class Wrapping:
    """A transparent proxy, by the protocol of wrapt's and lazy-object-proxy's."""

    def __init__(self, target: Any) -> None:
        self._target = target

    @property
    def __wrapped__(self) -> Any:
        return self._target


class Endless:
    """A proxy of another such proxy, for ever."""

    def _get_current_object(self) -> Endless:
        return Endless()


class Kind(str, enum.Enum):
    SMS = "sms"


SCALARS: dict[str, Any] = {
    "text": ("a", "a"),
    "own text": (OwnText("a"), "a"),
    "user string": (UserString("a"), "a"),
    "enum of text": (Kind.SMS, "sms"),
    "int": (OwnInt(7), 7),
    "flag": (True, True),
    "none": (None, None),
    "proxy": (Standing("a"), "a"),
    "proxies": (Standing(Wrapping(Standing(OwnText("a")))), "a"),
    "proxied flag": (Wrapping(True), True),
    "proxied number": (Standing(7), 7),
}


@pytest.mark.parametrize(("given", "expected"), named(SCALARS))
def test_a_scalar_is_what_it_stands_for(given: Any, expected: Any) -> None:
    """A str, an int or a bool itself, however it was wrapped."""
    found = arguments.scalar(given)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("package", "code", "expected"),
    [
        ("numpy", "numpy.int64(7)", 7),
        ("numpy", "numpy.str_('a')", "a"),
        ("numpy", "numpy.bool_(True)", True),
        ("bson", "bson.ObjectId('65b9f7e2a1b2c3d4e5f60718')", "65b9f7e2a1b2c3d4e5f60718"),
        ("django", "importlib.import_module('django.utils.functional').lazy(str, str)('a')", "a"),
        ("werkzeug", "importlib.import_module('werkzeug.local').LocalProxy(lambda: 'a')", "a"),
        ("wrapt", "wrapt.ObjectProxy(7)", 7),
    ],
)
def test_a_scalar_of_another_package(package: str, code: str, expected: Any) -> None:
    """As above, for what applications really hand over."""
    names = {**needed(package), "importlib": importlib}
    found = arguments.scalar(eval(code, names))
    assert found == expected
    assert type(found) is type(expected)


def test_what_is_no_scalar_is_left_for_the_checks() -> None:
    """Nothing is guessed: not from bytes, not from a list, not from what claims to be text."""
    for given in (b"a", ["a"], 0.5, object(), mock.MagicMock(spec=str)):
        assert arguments.scalar(given) is given
        assert arguments.plain_text(given) is None
    assert arguments.plain_text(Standing("a")) == "a"
    assert arguments.plain_text(7) is None


def test_a_mapping_is_known_by_its_type() -> None:
    """A proxied one is one, a mock of one is none."""
    plain = {"a": 1}
    assert arguments.mapping(plain) is plain
    assert arguments.mapping(Standing(plain)) is plain
    assert arguments.mapping(MappingProxyType(plain)) == plain
    for given in (mock.MagicMock(spec=dict), [("a", 1)], None, "a"):
        assert arguments.mapping(given) is None


def test_a_moment_is_a_datetime() -> None:
    """A proxied one too; a date, a text and a number are none."""
    assert arguments.moment(MOMENT) is MOMENT
    assert arguments.moment(Standing(MOMENT)) is MOMENT
    for given in (MOMENT.date(), "2026-01-31", 1.5, None, mock.MagicMock(spec=datetime.datetime)):
        assert arguments.moment(given) is None


@pytest.mark.parametrize(
    ("package", "code", "expected"),
    [
        ("pandas", "pandas.Timestamp(moment)", MOMENT),
        ("pandas", "pandas.Timestamp('2026-01-31 23:59:58.123456789+00:00')", MOMENT),
        ("pandas", "pandas.NaT", None),
        ("arrow", "arrow.get(moment)", MOMENT),
        ("pendulum", "pendulum.instance(moment)", MOMENT),
        ("whenever", "whenever.Instant.parse_iso('2026-01-31T23:59:58.123456Z')", MOMENT),
        ("numpy", "numpy.datetime64('2026-01-31', 's')", None),
    ],
)
def test_a_moment_of_another_package(package: str, code: str, expected: Any) -> None:
    """With its zone; what has none of its own is no moment."""
    names = {**needed(package, oldest=OLDEST.get(package, (3, 8))), "moment": MOMENT}
    assert arguments.moment(eval(code, names)) == expected


@pytest.mark.parametrize(
    "look", [arguments.unwrap, arguments.scalar, arguments.mapping, arguments.moment]
)
def test_a_proxy_that_fails_is_refused_by_type(look: Any) -> None:
    """By the type of the proxy and that of the error, without the text of it."""
    with pytest.raises(Unencodable) as caught:
        look(Standing(LookupError("secret")))
    assert str(caught.value) == "a value of type Standing that raised LookupError"
    with pytest.raises(Unencodable, match="of type Endless"):
        look(Endless())
