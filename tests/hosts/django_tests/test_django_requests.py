"""``request.whisperr``, with the middleware around a view of the test's own."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any, Callable

import pytest
from asgiref.sync import sync_to_async
from django.http import HttpResponse
from django.test import RequestFactory
from django.test.utils import override_settings
from django.utils.functional import SimpleLazyObject

from support.apps import assert_arrived
from whisperr import Whisperr, WhisperrError
from whisperr.django import WhisperrMiddleware, get_client
from whisperr.sandbox import Sandbox

pytestmark = pytest.mark.usefixtures("django")

resolved_in: list[int] = []  # threads
reports: list[WhisperrError] = []


class User:
    """As much of a user as the middleware looks at."""

    is_authenticated = True

    def __init__(self, pk: Any) -> None:
        self.pk = pk


class Nobody:
    """As Django's AnonymousUser."""

    is_authenticated = False

    def __init__(self, pk: Any = None) -> None:
        self.pk = pk


def ask_database() -> User:
    """What Django does when the user of a request is looked up."""
    from django.contrib.auth import get_user_model

    assert get_user_model().objects.count() == 2
    return User(7)


def request_of(user: Any) -> Any:
    request: Any = RequestFactory().get("/")
    request.user = user
    return request


def request_of_stranger() -> Any:
    """Its user is known only to the database; as before Django 5.0, it has no auser."""
    return request_of(SimpleLazyObject(ask_database))


def middleware(get_response: Any) -> Any:
    """Ours, sync or async as what is inside it."""
    return WhisperrMiddleware(get_response)


def visit(view: Callable[[Any], None], request: Any) -> None:
    """A sync request to its end."""

    def get_response(request: Any) -> HttpResponse:
        view(request)
        return HttpResponse()

    assert middleware(get_response)(request).status_code == 200


async def avisit(view: Callable[[Any], None], request: Any) -> None:
    """An async request to its end."""

    async def get_response(request: Any) -> HttpResponse:
        view(request)
        return HttpResponse()

    response = await middleware(get_response)(request)
    assert response.status_code == 200


def track(number: int) -> Callable[[Any], None]:
    return lambda request: request.whisperr.track("page_seen", {"n": number})


def arrived(server: Sandbox, key: str, count: int) -> list[dict[str, Any]]:
    """The events, which are exactly the numbers up to ``count``."""
    assert get_client().flush()
    assert_arrived(server, key, range(count))
    return server.events(key)


def both(test: Callable[..., None]) -> Any:
    """Run the test with a sync and with an async request."""
    ways = [visit, lambda view, request: asyncio.run(avisit(view, request))]
    return pytest.mark.parametrize("go", ways, ids=["sync", "async"])(test)


# --- whose event it is


@both
def test_an_authenticated_user(go: Any, server: Sandbox, key: str) -> None:
    """The user's id is the text of the primary key, and all arguments reach the event."""
    moment = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
    moment = moment.replace(year=datetime.now(timezone.utc).year)

    def view(request: Any) -> None:
        request.whisperr.track("page_seen", {"n": 0}, {"screen": "x"}, message_id="my-own")
        request.whisperr.identify(traits={"plan": "pro"}, email="ada@example.org")

    go(view, request_of_stranger())
    (event,) = arrived(server, key, 1)
    (identity,) = server.identities(key)
    assert (event["external_user_id"], identity["external_user_id"]) == ("7", "7")
    assert (event["context"]["screen"], event["context"]["$message_id"]) == ("x", "my-own")
    assert identity["traits"] == {"plan": "pro"}
    assert identity["channels"] == [
        {"channel": "email", "address": "ada@example.org", "opted_in": True}
    ]


@both
@pytest.mark.parametrize(
    "user",
    [Nobody(), Nobody(pk=3), None, User(None)],
    ids=["anonymous", "locked out", "none", "unsaved"],
)
def test_nobody(go: Any, user: Any, server: Sandbox, key: str) -> None:
    """Without a user nothing is tracked and nothing is reported."""

    def view(request: Any) -> None:
        request.whisperr.track("page_seen", {"n": 0})
        request.whisperr.identify(email="ada@example.org")

    go(view, request_of(user))
    go(view, request_of(SimpleLazyObject(lambda: user)))
    arrived(server, key, 0)
    assert server.identities(key) == []


@both
def test_the_user_is_looked_up_at_each_call(go: Any, server: Sandbox, key: str) -> None:
    """Who logs in or out within the request is who the calls after that are for."""

    def view(request: Any) -> None:
        for number, user in enumerate([User(1), User(2)]):
            request.user = user
            track(number)(request)
        request.user = Nobody()
        track(2)(request)

    go(view, request_of(Nobody()))
    assert [event["external_user_id"] for event in arrived(server, key, 2)] == ["1", "2"]


@both
def test_a_page_that_tracks_nothing(go: Any) -> None:
    """The user is not looked up at all."""
    looked = []
    go(lambda request: None, request_of(SimpleLazyObject(lambda: looked.append(1))))
    assert looked == []


@both
def test_a_disabled_client(go: Any) -> None:
    """Where nothing is sent the user is not looked up either."""
    looked = []
    with override_settings(WHISPERR_DISABLED=True):
        go(track(0), request_of(SimpleLazyObject(lambda: looked.append(1))))
    assert looked == []


def test_the_published_signatures() -> None:
    """`track` and `identify` take what the client's take, without the user."""
    request = request_of(None)
    visit(lambda request: None, request)
    for name in ("track", "identify"):
        ours = inspect.signature(getattr(request.whisperr, name))
        theirs = inspect.signature(getattr(Whisperr, name))
        assert list(ours.parameters.values()) == list(theirs.parameters.values())[2:]


# --- in an event loop


@dataclass
class Order:
    lines: list[str]


class Odd(Mapping):  # type: ignore[type-arg]
    """A mapping that can't be copied otherwise than by reading it."""

    def __init__(self, content: dict[str, Any]) -> None:
        self.content, self.lock = content, threading.Lock()

    def __getitem__(self, name: str) -> Any:
        return self.content[name]

    def __iter__(self) -> Any:
        return iter(self.content)

    def __len__(self) -> int:
        return len(self.content)


class Row(Sequence):  # type: ignore[type-arg]
    def __init__(self, content: list[Any]) -> None:
        self.content, self.lock = content, threading.Lock()

    def __getitem__(self, index: Any) -> Any:
        return self.content[index]

    def __len__(self) -> int:
        return len(self.content)


MAKERS: list[Callable[[list[int]], Any]] = [
    lambda numbers: numbers,
    lambda numbers: {"a": [numbers]},
    lambda numbers: (1, numbers),
    lambda numbers: Order([numbers]),  # type: ignore[list-item]
    lambda numbers: Odd({"a": numbers}),
    lambda numbers: Row([numbers]),
    lambda numbers: {"d": Decimal("1.5"), "t": datetime(2026, 1, 2), "b": b"x", "n": numbers},
]


@pytest.mark.parametrize("make", MAKERS)
def test_what_waits_is_a_snapshot(make: Any, server: Sandbox, key: str) -> None:
    """What a view changes after the call does not change the event, whatever holds it; and the
    event is the one that a call without waiting makes."""
    numbers = [1]
    value = make(numbers)

    def view(request: Any) -> None:
        get_client().track("7", "page_seen", {"n": 0, "value": value})
        request.whisperr.track("page_seen", {"n": 1, "value": value}, {"also": value})
        request.whisperr.identify(traits={"value": value})
        numbers.append(2)

    asyncio.run(avisit(view, request_of_stranger()))
    direct, waited = arrived(server, key, 2)
    assert "1,2" not in repr(waited).replace(" ", "")
    assert waited["properties"]["value"] == direct["properties"]["value"]
    assert waited["context"]["also"] == direct["properties"]["value"]
    assert server.identities(key)[0]["traits"]["value"] == direct["properties"]["value"]


@pytest.mark.parametrize("kind", ["bytearray", "memoryview"])
def test_bytes_that_change(kind: str, server: Sandbox, key: str) -> None:
    """Buffers are copied too."""
    buffer = bytearray(b"before")

    def view(request: Any) -> None:
        value = buffer if kind == "bytearray" else memoryview(buffer)
        request.whisperr.track("page_seen", {"n": 0, "value": value})
        buffer[:] = b"after!"

    asyncio.run(avisit(view, request_of_stranger()))
    assert arrived(server, key, 1)[0]["properties"]["value"] == "before"


def test_the_time_is_that_of_the_call(server: Sandbox, key: str) -> None:
    """An event that waits keeps the moment and the order in which it was tracked."""
    moments = []

    async def get_response(request: Any) -> HttpResponse:
        for number in range(2):
            moments.append(datetime.now(timezone.utc).isoformat(timespec="milliseconds")[:23])
            track(number)(request)
            await asyncio.sleep(0.01)
        moments.append(datetime.now(timezone.utc).isoformat(timespec="milliseconds")[:23])
        return HttpResponse()

    async def go() -> None:
        await middleware(get_response)(request_of_stranger())

    asyncio.run(go())
    first, second = (event["occurred_at"][:23] for event in arrived(server, key, 2))
    assert moments[0] <= first < moments[1] <= second < moments[2]


def cyclic() -> Any:
    value: list[Any] = []
    value += [value, value]
    return value


class Hostile:
    def __deepcopy__(self, memo: Any) -> Any:
        raise RuntimeError("no copy")


@both
@pytest.mark.parametrize(
    "bad", [cyclic, Hostile, threading.Lock], ids=["cyclic", "hostile", "lock"]
)
def test_a_bad_event_is_lost_alone(go: Any, bad: Any, server: Sandbox, key: str) -> None:
    """What can't be copied or encoded raises nothing; that event alone is reported as dropped."""
    reports.clear()
    with override_settings(WHISPERR_ON_ERROR=reports.append):

        def view(request: Any) -> None:
            track(0)(request)
            request.whisperr.track("page_seen", {"n": -1, "bad": bad()})
            request.whisperr.track("Not Snake", {"n": -1})
            request.whisperr.track(17, {"n": -1})
            request.whisperr.identify(channels=[{"channel": "email"}])
            track(1)(request)

        go(view, request_of_stranger())
        arrived(server, key, 2)
    assert [(report.type, report.count) for report in reports] == [("dropped", 1)] * 4


def test_a_view_that_raises(server: Sandbox, key: str) -> None:
    """What waited when the view raised arrives, and the exception is the view's own."""

    async def get_response(request: Any) -> HttpResponse:
        track(0)(request)
        raise KeyError("of the view")

    async def go() -> None:
        await middleware(get_response)(request_of_stranger())

    with pytest.raises(KeyError, match="of the view"):
        asyncio.run(go())
    arrived(server, key, 1)


def test_auser(server: Sandbox, key: str) -> None:
    """From Django 5.0 on an async request is asked through `auser`, once and in its own thread."""
    asked = []

    async def auser() -> User:
        asked.append(threading.get_ident())
        return User(8)

    def view(request: Any) -> None:
        for number in range(3):
            track(number)(request)

    request = request_of_stranger()
    request.auser = auser
    asyncio.run(avisit(view, request))
    assert {event["external_user_id"] for event in arrived(server, key, 3)} == {"8"}
    assert asked == [threading.get_ident()]


@pytest.mark.parametrize("name", ["_cached_user", "_acached_user"])
def test_a_user_that_django_has_fetched(name: str, server: Sandbox, key: str) -> None:
    """A user that the request has fetched already is not fetched again: nothing waits."""

    def view(request: Any) -> None:
        setattr(request, name, User(9))
        track(0)(request)
        request.user = Nobody()  # too late to matter

    asyncio.run(avisit(view, request_of_stranger()))
    assert arrived(server, key, 1)[0]["external_user_id"] == "9"


def test_a_proxy_of_the_application(server: Sandbox, key: str) -> None:
    """Any user that only sync code may look at is waited for, not only Django's own."""

    class Proxy:
        @property
        def is_authenticated(self) -> bool:
            return ask_database().is_authenticated

        @property
        def pk(self) -> Any:
            return ask_database().pk

    asyncio.run(avisit(track(0), request_of(Proxy())))
    assert arrived(server, key, 1)[0]["external_user_id"] == "7"


def test_a_client_that_hangs_up(server: Sandbox, key: str) -> None:
    """The request is cancelled while the user is looked up: the events arrive nevertheless."""

    async def go() -> None:
        asking, answer = asyncio.Event(), asyncio.Event()

        async def auser() -> User:
            asking.set()
            await answer.wait()
            return User(8)

        request = request_of_stranger()
        request.auser = auser
        visitor = asyncio.get_running_loop().create_task(avisit(track(0), request))
        await asking.wait()
        visitor.cancel()
        with pytest.raises(asyncio.CancelledError):
            await visitor
        answer.set()
        track(1)(request)
        while server_less_than(2):
            await asyncio.sleep(0)

    def server_less_than(count: int) -> bool:
        return bool(get_client().stats()["accepted"] < count)

    asyncio.run(go())
    arrived(server, key, 2)


def test_the_event_loop_ends(server: Sandbox, key: str) -> None:
    """A loop that ends while the user is looked up loses what waits, and says how much."""
    reports.clear()

    async def go() -> None:
        async def auser() -> User:
            await asyncio.Event().wait()
            raise AssertionError

        def view(request: Any) -> None:
            track(-1)(request)
            track(-1)(request)

        request = request_of_stranger()
        request.auser = auser
        visitor = asyncio.get_running_loop().create_task(avisit(view, request))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        visitor.cancel()

    with override_settings(WHISPERR_ON_ERROR=reports.append):
        asyncio.run(go())
        arrived(server, key, 0)
    assert [(report.type, report.count) for report in reports] == [("dropped", 2)]


def test_after_the_view(server: Sandbox, key: str) -> None:
    """What is tracked when the middleware is through is handed over by a task, or at once where
    the user was found out before."""

    async def go() -> None:
        late, early = request_of_stranger(), request_of_stranger()
        await avisit(lambda request: None, late)
        await avisit(track(0), early)
        track(1)(early)
        assert get_client().stats()["accepted"] == 2
        track(2)(late)
        track(3)(late)
        while get_client().stats()["accepted"] < 4:
            await asyncio.sleep(0)

    asyncio.run(go())
    arrived(server, key, 4)


def test_an_async_view_in_a_sync_request(server: Sandbox, key: str) -> None:
    """Under a sync server the sync middleware hands over what an async view tracked."""

    def view(request: Any) -> None:
        async def inner() -> None:
            track(0)(request)
            assert get_client().stats()["accepted"] == 0

        asyncio.run(inner())

    visit(view, request_of_stranger())
    arrived(server, key, 1)


# --- WHISPERR_RESOLVE_USER


def by_header(request: Any) -> Any:
    resolved_in.append(threading.get_ident())
    return request.headers.get("X-Account") or None


def by_database(request: Any) -> str:
    return f"db-{ask_database().pk}"


async def by_waiting(request: Any) -> Any:
    await asyncio.sleep(0)
    return request.headers.get("X-Account") or None


def by_raising(request: Any) -> str:
    raise LookupError("ada@example.org is no account")


@both
@pytest.mark.parametrize(
    ("name", "expected"), [("by_header", "acme"), ("by_database", "db-7"), ("by_waiting", "acme")]
)
def test_a_resolver(go: Any, name: str, expected: str, server: Sandbox, key: str) -> None:
    """The function that the setting names says who it is, plain or async, in views of both kinds."""
    request: Any = RequestFactory().get("/", HTTP_X_ACCOUNT="acme")
    with override_settings(WHISPERR_RESOLVE_USER=f"{__name__}.{name}"):
        go(track(0), request)
    assert arrived(server, key, 1)[0]["external_user_id"] == expected


@both
@pytest.mark.parametrize("name", ["by_header", "by_waiting"])
def test_a_resolver_that_knows_nobody(go: Any, name: str, server: Sandbox, key: str) -> None:
    """None means nobody, whoever the request's user is."""
    with override_settings(WHISPERR_RESOLVE_USER=f"{__name__}.{name}"):
        go(track(0), request_of(User(1)))
    arrived(server, key, 0)


def test_a_plain_resolver_stays_off_the_event_loop() -> None:
    """It may wait, so an async request asks it in another thread."""
    resolved_in.clear()
    with override_settings(WHISPERR_RESOLVE_USER=f"{__name__}.by_header"):
        asyncio.run(avisit(track(0), request_of(None)))
    assert len(resolved_in) == 1
    assert resolved_in != [threading.get_ident()]


@both
@pytest.mark.parametrize("name", [f"{__name__}.by_raising", "no.such.module", "nonsense"])
def test_a_resolver_that_raises(
    go: Any, name: str, server: Sandbox, key: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The response is as ever; what it was asked for is lost, said with the count and without
    personal data in the log; other events arrive."""
    reports.clear()

    def view(request: Any) -> None:
        request.whisperr.track("page_seen", {"n": -1})
        request.whisperr.identify(email="ada@example.org")
        get_client().track("7", "page_seen", {"n": 0})

    with override_settings(WHISPERR_RESOLVE_USER=name, WHISPERR_ON_ERROR=reports.append):
        go(view, request_of(User(1)))
        arrived(server, key, 1)
    assert {report.type for report in reports} == {"dropped"}
    assert sum(report.count for report in reports) == 2
    assert len(caplog.records) == len(reports)
    assert "ada@example.org" not in caplog.text


def test_sync_code_of_an_async_request(server: Sandbox, key: str) -> None:
    """A sync view that an async server runs in a thread looks the user up there, at once."""

    async def get_response(request: Any) -> HttpResponse:
        await sync_to_async(track(0))(request)
        assert get_client().stats()["accepted"] == 1
        return HttpResponse()

    async def go() -> None:
        await middleware(get_response)(request_of_stranger())

    asyncio.run(go())
    arrived(server, key, 1)
