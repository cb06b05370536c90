"""What stands for an argument is taken as that argument, and what can't be is refused by name."""

from __future__ import annotations

import datetime
from collections import UserString
from types import MappingProxyType
from typing import Any, Callable
from unittest import mock

import pytest

from support.rows import named
from support.value_table import needed
from whisperr import Whisperr
from whisperr.testing import recording

MOMENT = datetime.datetime(2026, 1, 31, 23, 59, 58, 123000, tzinfo=datetime.timezone.utc)


def _werkzeug(target: Any) -> Any:
    needed("werkzeug")
    from werkzeug.local import LocalProxy

    return LocalProxy(lambda: target)


def _wrapt(target: Any) -> Any:
    return needed("wrapt")["wrapt"].ObjectProxy(target)


def _django(target: Any) -> Any:
    needed("django")
    from django.utils.functional import SimpleLazyObject

    return SimpleLazyObject(lambda: target)


PROXIES: dict[str, Callable[[Any], Any]] = {
    "werkzeug": _werkzeug,
    "wrapt": _wrapt,
    "django": _django,
}


@pytest.mark.parametrize("proxy", list(PROXIES.values()), ids=list(PROXIES))
def test_every_argument_may_be_proxied(proxy: Callable[[Any], Any]) -> None:
    """All of track() and identify() at once."""
    with recording() as events:
        client = Whisperr("wrk_k")
        client.track(
            proxy("user"),
            proxy("order_paid"),
            proxy({"n": 1}),
            proxy({"page": "/"}),
            occurred_at=proxy(MOMENT),
            message_id=proxy("id-1"),
        )
        client.identify(
            proxy(7),
            traits=proxy({"plan": "pro"}),
            preferred_channel=proxy("sms"),
            channels=proxy(
                [
                    proxy(
                        {
                            "type": proxy("email"),
                            "address": proxy("a@example.org"),
                            "opted_in": proxy(False),
                        }
                    )
                ]
            ),
        )
        client.identify("user", email=proxy("a@example.org"))
    (event,) = events.events
    assert (event.user, event.event_type, event.properties) == ("user", "order_paid", {"n": 1})
    assert event.context["page"] == "/"
    first, second = events.identities
    assert first.user == "7"
    assert first.traits == {"plan": "pro"}
    assert first.channels == [{"channel": "email", "address": "a@example.org", "opted_in": False}]
    assert second.channels == [{"channel": "email", "address": "a@example.org", "opted_in": True}]


def test_ids_of_other_packages_are_ids() -> None:
    """A number of numpy's is its digits, an ObjectId its text."""
    names = needed("numpy", "bson")
    text = "65b9f7e2a1b2c3d4e5f60718"
    with recording() as events:
        client = Whisperr("wrk_k")
        for given in (names["numpy"].int64(7), names["bson"].ObjectId(text), UserString("u")):
            client.track(given, "order_paid")
    assert [event.user for event in events.events] == ["7", text, "u"]


REFUSED: dict[str, Any] = {
    "mock of text": ({"external_user_id": mock.MagicMock(spec=str)}, "MagicMock"),
    "mock of a dict": ({"properties": mock.MagicMock(spec=dict)}, "MagicMock"),
    "object": ({"occurred_at": object()}, "object"),
    "flag": ({"external_user_id": True}, "bool"),
    "proxied list": ({"properties": ("proxy", [1])}, "mapping"),
    "failing proxy": ({"external_user_id": ("proxy", LookupError)}, "raised LookupError"),
}


class Standing:
    def __init__(self, target: Any) -> None:
        self._target = target

    def _get_current_object(self) -> Any:
        if self._target is LookupError:
            raise LookupError("secret")
        return self._target


@pytest.mark.parametrize(("arguments", "named_as"), named(REFUSED))
def test_what_claims_or_fails_is_refused_by_name(arguments: Any, named_as: str) -> None:
    """Never a bare TypeError."""
    given: dict[str, Any] = {"external_user_id": "u", "event_type": "order_paid", **arguments}
    for name, value in given.items():
        if type(value) is tuple:
            given[name] = Standing(value[1])
    with recording(check=False) as events:
        Whisperr("wrk_k").track(**given)
    (refused,) = events.refused
    assert named_as in refused.message
    assert "secret" not in refused.message


def test_the_way_into_a_context_begins_with_its_name() -> None:
    """As that into properties and traits does."""
    with recording(check=False) as events:
        Whisperr("wrk_k").track("u", "order_paid", None, MappingProxyType({"a": [object()]}))
    (refused,) = events.refused
    assert refused.detail == "context.a.0"
