"""What an application's tests put in the place of requests: a failed attempt, and nothing worse.

Each stand-in is there for one flush of a client that would deliver at once: the attempt fails, is
kept, and is over in so many looks at the stand-in; when the stand-in has gone, the same client
delivers, and the server has heard everything once.
"""

from __future__ import annotations

import contextlib
import gc
import itertools
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable, ContextManager
from unittest import mock

import pytest
import requests
import requests_mock
import responses

from support.clients import Reports, flush_until_settled, numbers_at, open_client, track
from support.programs import run_program
from support.sockets import Listener
from whisperr.sandbox import Sandbox

MOST_LOOKS = 500  # at a stand-in, in one attempt


class Looks:
    """Counts what is asked of the stand-ins, and ends a test in which there is no end of it."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, *args: object, **options: object) -> None:
        self.count += 1
        assert self.count < 10 * MOST_LOOKS, "asked without end"


class Endless:
    """Has no length, is true, and whatever is done with it gives another."""

    def __init__(self, looks: Looks) -> None:
        self._looks = looks

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        self._looks()
        return Endless(self._looks)

    def __call__(self, *args: object, **options: object) -> Endless:
        self._looks()
        return Endless(self._looks)

    def __radd__(self, other: object) -> object:
        self._looks()
        return other

    def __len__(self) -> int:
        self._looks()
        return 0

    def __bool__(self) -> bool:
        self._looks()
        return True


class Raw:
    """A body as somebody writes it who never has to answer."""

    def __init__(self, looks: Looks, **parts: Any) -> None:
        self.status = 202
        self.headers: dict[str, str] = {}
        self._looks = looks
        self._parts = parts

    def read(self, *args: object, **options: object) -> Any:
        return self._do("read")

    def close(self) -> None:
        self._do("close")

    def release_conn(self) -> None:
        self._do("release_conn")

    def _do(self, name: str) -> Any:
        self._looks()
        part = self._parts.get(name, b"")
        if isinstance(part, BaseException):
            raise part
        return part


class NoText(Exception):
    """An error that can't say what it is."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


def response(raw: object, status: object = 202) -> requests.Response:
    made = requests.Response()
    made.status_code = status  # type: ignore[assignment]
    made.raw = raw
    return made


def generator(looks: Looks) -> Iterator[bytes]:
    while True:
        looks()
        yield b"x"


class Raising:
    """Whose status can't be read."""

    @property
    def status_code(self) -> int:
        raise RuntimeError("no status")

    status = status_code


# What send() gives back, or raises.
ANSWERS: dict[str, Callable[[Looks], Any]] = {
    "a magic mock": lambda looks: mock.MagicMock(),
    "a mock": lambda looks: mock.Mock(),
    "a mock of a response": lambda looks: mock.MagicMock(spec=requests.Response),
    "a mock with a status": lambda looks: mock.MagicMock(status_code=202),
    "nothing": lambda looks: None,
    "text": lambda looks: "202",
    "bytes": lambda looks: b"HTTP/1.1 202",
    "a number": lambda looks: 202,
    "true": lambda looks: True,
    "a dict": lambda looks: {"status_code": 202},
    "a generator without end": generator,
    "a count without end": lambda looks: itertools.count(),
    "an object without end": Endless,
    "no status": lambda looks: Raising(),
    "a status that is a mock": lambda looks: response(Raw(looks), mock.MagicMock()),
    "a status that is true": lambda looks: response(Raw(looks), True),
    "a status that is text": lambda looks: response(Raw(looks), "202"),
    "a status that is a fraction": lambda looks: response(Raw(looks), 202.0),
    "a status without end": lambda looks: response(Raw(looks), Endless(looks)),
    "a status of none": lambda looks: response(Raw(looks), None),
    "a status below all": lambda looks: response(Raw(looks), 0),
    "a status above all": lambda looks: response(Raw(looks), 10**30),
    "no body": lambda looks: response(None),
    "a body that is text": lambda looks: response(Raw(looks, read="{}")),
    "a body that is a mock": lambda looks: response(mock.MagicMock()),
    "a body without end": lambda looks: response(Raw(looks, read=generator(looks))),
    "a body of objects without end": lambda looks: response(Endless(looks)),
    "a read that raises": lambda looks: response(Raw(looks, read=RuntimeError("read"))),
    "a close that raises": lambda looks: response(
        Raw(looks, read=b"x" * 99_999, close=RuntimeError("close"))
    ),
    "a release that raises": lambda looks: response(
        Raw(looks, release_conn=RuntimeError("release"))
    ),
    "an error": lambda looks: RuntimeError("an error"),
    "an error without text": lambda looks: NoText(),
    "the end of a list of answers": lambda looks: StopIteration(),
    "an error of requests": lambda looks: requests.ConnectionError("no network here"),
}

# What of requests and urllib3 is replaced.
PLACES = (
    "requests.Session.send",
    "requests.adapters.HTTPAdapter.send",
    "urllib3.connectionpool.HTTPConnectionPool.urlopen",
)


def assert_one_failed_attempt(
    server: Sandbox, key: str, stand_in: ContextManager[Any], *, warm: bool = True
) -> None:
    """Of a client that has three events to send, and a stand-in that takes them."""
    reports = Reports()
    with open_client(server.url, key, on_error=reports, max_retries=0) as client:
        if warm:  # a connection, a session, a pool are there
            track(client, [100])
            assert client.flush()
        track(client, range(3))
        with stand_in:
            assert not client.flush()
            assert client.stats()["requests"] == 1 + warm
            assert client.stats()["pending"] == 3
        assert [error.type for error in reports.all] == ["retry_exhausted"]
        assert client.flush()
    assert sorted(numbers_at(server, key)) == [*range(3), *([100] if warm else [])]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", ANSWERS)
def test_a_stand_in_for_an_answer_is_a_failed_attempt(
    server: Sandbox, key: str, place: str, name: str
) -> None:
    """Whatever it is, whichever of requests' and urllib3's methods gives it."""
    looks = Looks()
    answer = ANSWERS[name](looks)
    options = {"side_effect" if isinstance(answer, Exception) else "return_value": answer}
    assert_one_failed_attempt(server, key, mock.patch(place, **options))
    assert looks.count < MOST_LOOKS


# urllib3 gives a connection to the answer, which is a mock: whoever collects it finds it open.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("warm", [True, False], ids=["warm", "cold"])
@pytest.mark.parametrize(
    "place",
    [
        *PLACES,
        "requests.Session.get_adapter",
        "requests.PreparedRequest.copy",
        "requests.PreparedRequest.prepare",
        "requests.adapters.HTTPAdapter.get_connection_with_tls_context",
        "urllib3.connectionpool.HTTPConnectionPool._make_request",
        "urllib3.connectionpool.HTTPConnectionPool._get_conn",
        "http.client.HTTPConnection.getresponse",
        "http.client.HTTPResponse.begin",
    ],
)
def test_a_bare_mock_in_any_place_is_a_failed_attempt(
    server: Sandbox, key: str, place: str, warm: bool
) -> None:
    """On the way from a session to a socket, in a session that was in use and in a new one, which
    may keep nothing of the stand-in."""
    target, _, name = place.rpartition(".")
    if not hasattr(_resolved(target), name):
        assert requests.__version__ < "2.32", place
        return
    if warm and name in ("get_connection_with_tls_context", "prepare"):
        return  # what a session has had from there it keeps
    assert_one_failed_attempt(server, key, mock.patch(place), warm=warm)
    gc.collect()


def _resolved(target: str) -> Any:
    found: Any = sys.modules[target.partition(".")[0]]
    for name in target.split(".")[1:]:
        found = getattr(found, name)
    return found


@pytest.mark.parametrize(
    "place",
    ["requests.Session", "requests.PreparedRequest", "requests.Response"],
)
def test_a_stand_in_for_a_class_goes_with_its_patch(server: Sandbox, key: str, place: str) -> None:
    """Nothing of a session that was made of it stays: the next attempt makes a real one."""
    with open_client(server.url, key, max_retries=0) as client:
        with mock.patch(place):
            track(client, range(3))
            client.flush()  # where the class is not asked for, it delivers
        flush_until_settled(client)
    assert numbers_at(server, key) == [0, 1, 2]


def test_a_read_that_is_replaced_is_asked_once(server: Sandbox, key: str) -> None:
    """The server's real answer, whose reading is a stand-in's, is no delivery: it is sent again
    under the same ids."""
    places = ("read", "read1", "stream")
    with open_client(server.url, key, max_retries=0) as client:
        track(client, range(3))
        with contextlib.ExitStack() as stack:
            import urllib3

            mocks = [
                stack.enter_context(mock.patch.object(urllib3.HTTPResponse, name))
                for name in places
                if hasattr(urllib3.HTTPResponse, name)
            ]
            assert not client.flush()
            assert sum(made.call_count for made in mocks) == 1
        assert client.flush()
    assert sorted({*numbers_at(server, key)}) == [0, 1, 2]


@pytest.mark.parametrize("raised", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_what_is_no_error_keeps_its_meaning(
    server: Sandbox, key: str, raised: type[BaseException]
) -> None:
    """It ends the pass and not the sender, and where the caller sends itself, it reaches the caller."""
    with open_client(server.url, key) as client:
        track(client, range(3))
        with mock.patch("requests.Session.send", side_effect=raised):
            assert not client.flush()
            assert client.stats()["pending"] == 3
        assert client.flush()
    no_thread = mock.patch("threading.Thread.start", side_effect=RuntimeError("no thread"))
    with no_thread, open_client(server.url, key) as client:
        track(client, range(3, 6))
        with mock.patch("requests.Session.send", side_effect=raised), pytest.raises(raised):
            client.flush()
        assert client.flush()
    assert numbers_at(server, key) == [*range(6)]


def test_no_turn_without_a_wait(key: str) -> None:
    """While a stand-in is there, passes come at the interval and at requests, and at nothing else:
    five flushes and a wake-up by every event are six attempts."""
    begun = threading.Event()

    def fail(*args: object, **options: object) -> object:
        begun.set()
        return mock.MagicMock()

    with Listener() as listener, open_client(listener.url, key, flush_at=1) as client:
        with mock.patch("requests.Session.send", side_effect=fail):
            track(client, [0])
            assert begun.wait(20)
            for number in range(1, 6):
                track(client, [number])
                assert not client.flush()
            assert client.stats()["requests"] in (5, 6)  # the first may have had both
        assert client.flush()
    assert len(listener.heard) == 1


# --- the packages that are made for it


def test_inside_responses(server: Sandbox, key: str) -> None:
    """What is registered there is the answer; what is not is a refused connection."""
    url = f"{server.url}/v1/events/batch"
    with responses.RequestsMock() as stand_in, open_client(
        server.url, key, max_retries=0
    ) as client:
        track(client, [0])
        assert not client.flush()
        assert client.stats()["pending"] == 1
        stand_in.add(responses.POST, url, status=503)
        assert not client.flush()
        stand_in.replace(responses.POST, url, status=202, body=b"{}" * 20_000)
        assert client.flush()
        assert len(stand_in.calls) == 3
    assert server.ledger(key)["requests"] == 0


def test_after_responses(server: Sandbox, key: str) -> None:
    """What was refused in it is delivered when it has gone."""
    stand_in = responses.RequestsMock(assert_all_requests_are_fired=False)
    assert_one_failed_attempt(server, key, stand_in)


def test_inside_requests_mock(server: Sandbox, key: str) -> None:
    """As in responses."""
    url = f"{server.url}/v1/events/batch"
    with requests_mock.Mocker() as stand_in, open_client(server.url, key, max_retries=0) as client:
        track(client, [0])
        assert not client.flush()
        stand_in.post(url, status_code=503)
        assert not client.flush()
        stand_in.post(url, status_code=200, text="<html>", headers={"Content-Type": "text/html"})
        assert not client.flush()
        stand_in.post(url, status_code=202, content=b"{}" * 20_000)
        assert client.flush()
    assert server.ledger(key)["requests"] == 0


def test_after_requests_mock(server: Sandbox, key: str) -> None:
    """As after responses."""
    assert_one_failed_attempt(server, key, requests_mock.Mocker())


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # drops connections
@pytest.mark.skipif(sys.version_info < (3, 10), reason="vcrpy wants urllib3 1 there")
def test_inside_vcrpy(key: str, tmp_path: Path) -> None:
    """A cassette without our request is a failed attempt; one that records it delivers; one that
    has it answers in the server's place; and afterwards the server is asked again."""
    import vcr

    cassette = str(tmp_path / "cassette.yaml")
    with Listener() as listener, open_client(listener.url, key, max_retries=0) as client:
        track(client, [0])
        assert client.flush()
        with vcr.use_cassette(cassette, record_mode="none"):
            track(client, [1])
            assert not client.flush()
        assert client.flush()
        assert len(listener.heard) == 2
        with vcr.use_cassette(cassette, record_mode="once"):
            track(client, [2])
            assert client.flush()
        assert len(listener.heard) == 3
        with vcr.use_cassette(cassette, record_mode="none"):
            track(client, [3])
            assert client.flush()
        assert len(listener.heard) == 3
        track(client, [4])
        assert client.flush()
        assert len(listener.heard) == 4
    gc.collect()


# --- a stand-in that is there before us


@pytest.mark.parametrize(
    "stand_in",
    [
        "mock.patch('requests.Session')",
        "mock.patch('requests.adapters.HTTPAdapter')",
        "mock.patch('requests.auth.AuthBase')",
        "mock.patch('urllib3.util.timeout.Timeout')",
        "mock.patch('urllib3.response.HTTPResponse')",
        "mock.patch.dict('sys.modules', requests=mock.MagicMock())",
        "mock.patch.dict('sys.modules', requests=None)",
        "mock.patch.dict('sys.modules', urllib3=mock.MagicMock())",
    ],
)
def test_a_client_that_is_made_among_stand_ins(tmp_path: Path, stand_in: str) -> None:
    """The first client of a process, which imports what sends, is made, takes calls, fails to
    deliver them, and delivers when the stand-in has gone."""
    source = f"""
        import sys
        from unittest import mock
        sys.path.insert(0, {str(Path(__file__).parents[1])!r})
        from support.sockets import Listener
        import requests, urllib3, urllib3.util.timeout, urllib3.response, requests.adapters
        assert not [name for name in sys.modules if name.startswith("whisperr._delivery.session")]
        with Listener() as listener:
            import whisperr
            with {stand_in}:
                client = whisperr.Whisperr(
                    "wrk_test", base_url=listener.url, flush_interval=999, max_retries=0
                )
                client.track("u", "order_paid")
                # Where it is not asked for what is replaced, it delivers at once.
                pending = 0 if client.flush() else 1
                assert client.stats()["pending"] == pending
            assert client.flush(), client.stats()
            assert len(listener.heard) == 1
            assert client.shutdown()
    """
    run_program(source, tmp_path)
