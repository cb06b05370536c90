"""The options: their defaults, their ranges, what they do, and where the key never shows."""

from __future__ import annotations

import copy
import inspect
import logging
import pickle
import re
from pathlib import Path
from typing import Any

import pytest

from support import run_program
from support.apps import run_app
from support.clients import Reports, numbers_at, open_client, track
from support.rows import named
from support.sockets import Answer, Listener
from whisperr import Whisperr
from whisperr.sandbox import Sandbox

URL = "http://127.0.0.1:9"  # nobody listens, and nothing is sent

# Of the published 0.2.1, in its order; and what ours adds.
PUBLISHED = {
    "api_key": inspect.Parameter.empty,
    "base_url": "https://api.whisperr.net",
    "app_version": None,
    "flush_at": 20,
    "flush_interval": 10.0,
    "max_queue_size": 10000,
    "max_batch_size": 500,
    "max_retries": 6,
    "request_timeout": 10.0,
    "disabled": False,
    "debug": False,
    "on_error": None,
}
OURS = {
    "shutdown_timeout": 5.0,
    "max_event_bytes": 256 * 1024,
    "max_batch_bytes": 1024 * 1024,
    "max_queue_bytes": 64 * 1024 * 1024,
    "journal_dir": None,
    "max_journal_bytes": 64 * 1024 * 1024,
    "before_send": None,
    "redact": (),
    "broker_url": None,
    "app": None,
}
IDENTIFY = ("traits", "email", "phone", "push_token", "preferred_channel", "channels")

LARGEST = 2**40
LONGEST = 4_000_000  # seconds
# The lowest and the highest legal value, and the next ones beyond them.
WHOLE = {
    "flush_at": (1, LARGEST, 0, LARGEST + 1),
    "max_queue_size": (1, LARGEST, 0, LARGEST + 1),
    "max_batch_size": (1, 500, 0, -1),  # above 500 is 500
    "max_retries": (0, 100, -1, 101),
    "max_event_bytes": (1024, LARGEST, 1023, LARGEST + 1),
    "max_batch_bytes": (1024, LARGEST, 1023, LARGEST + 1),
    "max_queue_bytes": (1024, LARGEST, 1023, LARGEST + 1),
    "max_journal_bytes": (1024 * 1024, LARGEST, 1024 * 1024 - 1, LARGEST + 1),
}
SECONDS = {
    "flush_interval": (5e-324, LONGEST, 0, LONGEST + 0.5),
    "request_timeout": (5e-324, LONGEST, 0.0, LONGEST + 1),
    "shutdown_timeout": (0, LONGEST, -5e-324, LONGEST + 0.5),
}
HUGE = 10**400  # no float holds it
NO_NUMBERS = [True, False, "7", b"7", "", None, [], object(), 1j]
NOT_FINITE = [float("nan"), float("inf"), float("-inf")]


def new(key: Any = "wrk_test", **options: Any) -> Whisperr:
    return Whisperr(key, **{"base_url": URL, **options})


def assert_refused(name: str, value: Any) -> None:
    """A ValueError whose text begins with the option's name, enabled or disabled."""
    for disabled in (False, True):
        with pytest.raises(ValueError, match=rf"^{name} ") as caught:
            new(**{"disabled": disabled, name: value})
        assert caught.type is ValueError


# --- ranges


@pytest.mark.parametrize("name", WHOLE)
def test_a_whole_number_has_a_range(name: str) -> None:
    """Both ends are legal; the next beyond them, and what is no whole number, is a ValueError."""
    low, high, *beyond = WHOLE[name]
    for legal in (low, high):
        new(**{name: legal})
    for value in [*beyond, -HUGE, low + 0.5, float(high), *NO_NUMBERS, *NOT_FINITE]:
        assert_refused(name, value)


@pytest.mark.parametrize("name", SECONDS)
def test_a_time_has_a_range(name: str) -> None:
    """Both ends are legal; the next beyond them, and what is no number, is a ValueError."""
    low, high, *beyond = SECONDS[name]
    for legal in (low, high, 1, 0.5):
        new(**{name: legal})
    for value in [*beyond, -1, HUGE, -HUGE, *NO_NUMBERS, *NOT_FINITE]:
        assert_refused(name, value)


@pytest.mark.parametrize("name", ["max_queue_size", "max_retries", "flush_at"])
def test_a_huge_number_is_out_of_range(name: str) -> None:
    """Not an OverflowError."""
    assert_refused(name, HUGE)


@pytest.mark.parametrize(
    "value",
    [-1, -0.001, HUGE, LONGEST + 1, *NO_NUMBERS, *NOT_FINITE],
    ids=lambda v: type(v).__name__,
)
@pytest.mark.parametrize("method", ["flush", "shutdown"])
def test_a_timeout_is_checked_as_an_option_is(method: str, value: Any) -> None:
    """ValueError, and the client goes on; None is the default and no error."""
    client = new()
    if value is None:
        assert getattr(client, method)(None)
        return
    with pytest.raises(ValueError, match=r"^timeout "):
        getattr(client, method)(value)
    assert client.flush(0)


class Undecided:
    def __bool__(self) -> bool:
        raise TypeError("neither")


FLAGS = {
    **dict.fromkeys((True, "true", "TRUE", "1", " yes\n", "On"), True),
    **dict.fromkeys((False, None, "", "false", "False", "0", "no", "oFF"), False),
}


@pytest.mark.parametrize("name", ["disabled", "debug"])
def test_a_flag_is_true_or_false(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Itself, 1, 0, None, or in words; "false" is not true. Anything else is a ValueError."""
    logger = logging.getLogger("whisperr")
    monkeypatch.setattr(logger, "handlers", [])
    monkeypatch.setattr(logger, "level", logger.level)
    for value, meant in FLAGS.items():
        assert getattr(new(**{name: value})._settings, name) is meant
    for number in (0, 1):
        assert getattr(new(**{name: number})._settings, name) is bool(number)
    for value in ("maybe", "2", "none", 2, -1, 0.5, float("nan"), b"true", [], Undecided()):
        assert_refused_flag(name, value)


def assert_refused_flag(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"^{name} must be True or False"):
        new(**{name: value})


@pytest.mark.parametrize("value", [7, "print", True, [], float("nan")], ids=repr)
@pytest.mark.parametrize("name", ["on_error", "before_send"])
def test_a_callback_is_callable(name: str, value: Any) -> None:
    """Or None."""
    new(**{name: None})
    new(**{name: print})
    assert_refused(name, value)


@pytest.mark.parametrize(
    "value", [7, True, [7], [b"a"], [re.compile(b"a")], float("nan")], ids=repr
)
def test_what_is_redacted_are_names(value: Any) -> None:
    """A list of texts and patterns, or one text with commas, as the environment has it."""
    for usable in ((), None, "", ["a"], ("a", re.compile("b")), {"a"}):
        new(redact=usable)
    assert new(redact=" a, *b* ,")._settings.redact == ("a", "*b*")
    assert_refused("redact", value)


@pytest.mark.parametrize("value", [7, 1.2, True, b"1.2", ["1"], "1\ud800", "v" * 257], ids=ascii)
def test_a_version_is_a_text(value: Any) -> None:
    """Of 256 characters at most."""
    new(app_version="v" * 256)
    assert_refused("app_version", value)


# --- the destination


@pytest.mark.parametrize(
    "value",
    named(
        {
            "none": None,
            "empty": "",
            "no scheme": "api.whisperr.net",
            "no host": "http://",
            "only a path": "/v1",
            "another scheme": "ftp://127.0.0.1",
            "file": "file:///etc/hosts",
            "user": "http://user@127.0.0.1",
            "user and password": "http://user:pa55@127.0.0.1",
            "empty user": "http://@127.0.0.1",
            "query": "http://127.0.0.1/?a=1",
            "empty query": "http://127.0.0.1/?",
            "fragment": "http://127.0.0.1/#a",
            "empty fragment": "http://127.0.0.1#",
            "port no number": "http://127.0.0.1:http",
            "port too large": "http://127.0.0.1:65536",
            "blank": "http://127.0.0.1/a b",
            "blank before": " http://127.0.0.1",
            "line break": "http://127.0.0.1\n",
            "tab": "http://127.\t0.0.1",
            "backslash": "http://127.0.0.1\\@example.org",
            "null": "http://127.0.0.1/\x00",
            "no address": "http://[::1",
            "bytes": b"http://127.0.0.1",
            "number": 7,
            "true": True,
            "nan": float("nan"),
            "list": (["http://127.0.0.1"],),
        }
    ),
)
def test_an_unusable_url_is_refused(value: Any) -> None:
    """Named, and without the URL in the text: it may hold a password."""
    assert_refused("base_url", value)
    with pytest.raises(ValueError, match="base_url") as caught:
        new(base_url=value)
    assert "pa55" not in str(caught.value)


@pytest.mark.parametrize("tail", ["", "/", "//"])
@pytest.mark.parametrize("prefix", ["", "/ingest", "/a/b"])
def test_a_url_may_end_in_a_slash_and_have_a_path(prefix: str, tail: str) -> None:
    """The paths of the API follow it with one slash between."""
    with Listener() as listener, open_client(listener.url + prefix + tail, "wrk_test") as client:
        client.track("u", "order_paid")
        client.identify("u")
        assert client.flush()
    targets = [heard.target for heard in listener.heard]
    assert targets == [f"{prefix}/v1/identify", f"{prefix}/v1/events/batch"]


@pytest.mark.parametrize(
    "url", ["https://api.whisperr.net", "HTTP://LOCALHOST:80", "http://[::1]:8080/x", "http://a:"]
)
def test_a_usable_url(url: str) -> None:
    """Either scheme, any host, an optional port."""
    assert url.rstrip("/") in repr(new(base_url=url))


# --- the key


@pytest.mark.parametrize(
    "value",
    named(
        {
            "none": None,
            "empty": "",
            "blank": " ",
            "line break": "wrk_a\nX-Evil: 1",
            "line break at the end": "wrk_a\n",
            "carriage return": "wrk_a\r",
            "blank before": " wrk_a",
            "blank behind": "wrk_a ",
            "tab": "wrk_\ta",
            "null": "wrk_\x00",
            "delete": "wrk_\x7f",
            "non-ascii": "wrk_é",
            "surrogate": "wrk_\ud800",
            "bytes": b"wrk_a",
            "number": 7,
            "true": True,
            "list": (["wrk_a"],),
        }
    ),
)
def test_an_unusable_key_is_refused(value: Any) -> None:
    """At construction, named, and without the key in the text."""
    with pytest.raises(ValueError, match=r"^api_key ") as caught:
        new(value)
    assert "wrk_a" not in str(caught.value)


def test_a_key_is_needed_unless_disabled() -> None:
    """Left out, None or illegal: a disabled client asks for none, but it is still a string."""
    with pytest.raises(ValueError, match=r"^api_key "):
        Whisperr()
    for key in (None, "", "wrk_\n"):
        assert not Whisperr(key, disabled=True).ready
    assert not Whisperr(disabled=True).ready
    with pytest.raises(ValueError, match=r"^api_key "):
        Whisperr(7, disabled=True)  # type: ignore[arg-type]


def test_the_key_may_be_positional(server: Sandbox, key: str) -> None:
    """As in the published SDK; nothing else may."""
    client = Whisperr(key, base_url=server.url)
    client.track("u", "order_paid")
    assert client.shutdown()
    server.wait_for(key, 1)
    with pytest.raises(TypeError):
        Whisperr(key, server.url)  # type: ignore[call-arg]


def test_an_unknown_option_is_a_type_error() -> None:
    """A slip is not taken for a default."""
    with pytest.raises(TypeError, match="flush_every"):
        new(flush_every=7)


# --- the published signatures


def test_the_constructor_takes_what_the_published_one_took() -> None:
    """Every option under its name with its default, ours behind them, all by keyword."""
    found = inspect.signature(Whisperr).parameters
    assert list(found) == [*PUBLISHED, *OURS]
    defaults = {name: parameter.default for name, parameter in found.items()}
    expected = {**PUBLISHED, **OURS}
    assert defaults.pop("api_key") is None  # a disabled client needs none
    del expected["api_key"]
    assert {name: (type(v), v) for name, v in defaults.items()} == {
        name: (type(v), v) for name, v in expected.items()
    }
    kinds = {parameter.kind for name, parameter in found.items() if name != "api_key"}
    assert kinds == {inspect.Parameter.KEYWORD_ONLY}


def test_the_methods_take_what_the_published_ones_took() -> None:
    """Positional and keyword, in their order; what ours adds is by keyword."""
    track_, identify = inspect.signature(Whisperr.track), inspect.signature(Whisperr.identify)
    published = ["self", "external_user_id", "event_type", "properties", "context"]
    assert list(track_.parameters) == [*published, "occurred_at", "message_id"]
    assert list(identify.parameters) == ["self", "external_user_id", *IDENTIFY]
    for signature, positional in ((track_, published), (identify, ["self", "external_user_id"])):
        for name, parameter in signature.parameters.items():
            by_keyword = parameter.kind is inspect.Parameter.KEYWORD_ONLY
            assert by_keyword == (name not in positional)
            assert parameter.default is None or name in published[:3]
    for method in (Whisperr.flush, Whisperr.shutdown):
        assert inspect.signature(method).parameters["timeout"].default is None


# --- what they do


@pytest.mark.parametrize("given", [500, 501, 10_000, HUGE], ids=["500", "501", "10000", "huge"])
def test_a_batch_is_of_500_at_most(server: Sandbox, key: str, given: int) -> None:
    """A larger ``max_batch_size`` means 500: 1,200 events are three requests."""
    with open_client(server.url, key, max_batch_size=given) as client:
        track(client, range(1200))
        assert client.flush()
    assert [request["count"] for request in server.requests(key)] == [500, 500, 200]
    assert numbers_at(server, key) == list(range(1200))


def test_debug_says_what_happens_on_stderr(server: Sandbox, key: str, tmp_path: Path) -> None:
    """Of the logger ``whisperr``, once for however many clients; without it, nothing."""
    source = """
        for debug in (False, True):
            clients = [new_client(debug=debug), new_client(debug=debug)]
            track(clients[0], [int(debug)])
            assert clients[0].flush()
            print("-----", file=sys.stderr)
    """
    quiet, loud, _ = run_app(server, key, tmp_path, source).stderr.split("-----\n")
    assert quiet == ""
    assert loud.count("1 event (") == 1
    assert "202" in loud
    assert key not in loud


def test_a_disabled_client_does_nothing(tmp_path: Path) -> None:
    """No thread, no import of requests, no network, and every method says that all is well."""
    source = """
        import asyncio, socket, sys, threading
        import whisperr
        from whisperr import lifecycle

        def refuse(*args, **kwargs):
            raise AssertionError("a socket was made")

        heard = []
        client = whisperr.Whisperr(disabled=True, on_error=heard.append)
        async def wait():
            return [await client.aflush(), await client.ashutdown()]
        socket.socket.connect = refuse
        client.track("u", "order_paid")
        client.track("u", "Not Legal", object(), object())
        client.identify("u", email=7)
        lifecycle.start_all()
        said = [client.flush(), client.flush(0), lifecycle.flush_all(1)]
        alone = threading.active_count()
        said += asyncio.run(wait())
        said += [client.shutdown(), client.shutdown(1), lifecycle.shutdown_all(1)]
        stats = client.stats()
        print(client.ready, set(said), heard, alone, stats["accepted"], stats["dropped"])
        print([m for m in sys.modules if m.split(".")[0] in ("requests", "urllib3")])
    """
    outcome = run_program(source, tmp_path)
    assert outcome.stdout == "False {True} [] 1 0 {}\n[]\n"
    assert outcome.stderr == ""


@pytest.mark.parametrize("name", ["requests", "urllib3", "asyncio"])
def test_an_import_costs_no_http(name: str, tmp_path: Path) -> None:
    """``import whisperr`` and its lifecycle import none of these."""
    source = f"import whisperr, whisperr.lifecycle, sys; print({name!r} in sys.modules)"
    assert run_program(source, tmp_path).stdout == "False\n"


def test_ready_is_true_for_an_enabled_client() -> None:
    """From the beginning, whoever listens."""
    assert new().ready


# --- a client as a value


def on_error(error: object) -> None:
    """Picklable: it has a name."""


def before_send(call: dict[str, Any]) -> dict[str, Any]:
    """Likewise."""
    return call


def test_a_pickle_keeps_every_option() -> None:
    """Of the client, its copies too; what is queued stays where it is."""
    given = {
        **{name: row[0] for name, row in {**WHOLE, **SECONDS}.items()},
        **{"before_send": before_send, "redact": ("a", re.compile("b"))},
        **{"app_version": "7", "on_error": on_error, "base_url": URL + "/x"},
    }
    client = new(**given)
    client.track("u", "order_paid")
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        again = pickle.loads(pickle.dumps(client, protocol))
        assert again._settings == client._settings
        assert again.stats()["accepted"] == 0
    for again in (copy.copy(client), copy.deepcopy(client)):
        assert again._settings == client._settings
    settings = client._settings
    assert {name: getattr(settings, name) for name in given} == given
    assert client.stats()["accepted"] == 1
    assert not pickle.loads(pickle.dumps(Whisperr(disabled=True))).ready
    client.shutdown(0)


def test_a_subclass_stays_one() -> None:
    """Pickled, a client is of the class it was."""
    assert type(pickle.loads(pickle.dumps(Own("wrk_test")))) is Own


class Own(Whisperr):
    pass


def test_a_spawned_child_gets_the_client_with_its_settings(
    server: Sandbox, key: str, tmp_path: Path
) -> None:
    """As an argument of a ``multiprocessing`` process: its options hold there."""
    source = """
        import multiprocessing

        def heard(error):
            print(error.type, error.message, flush=True)

        def work(client):
            client.track("u", "Not Legal")
            track(client, range(1, 6))
            assert client.flush()

        if __name__ == "__main__":
            client = new_client(app_version="7.1", max_batch_size=2, flush_at=100, on_error=heard)
            track(client, [0])
            process = multiprocessing.get_context("spawn").Process(target=work, args=(client,))
            process.start()
            process.join()
            assert process.exitcode == 0
    """
    outcome = run_app(server, key, tmp_path, source)
    assert outcome.stdout.startswith("dropped ")
    events = server.events(key)
    assert sorted(event["properties"]["n"] for event in events) == list(range(6))
    assert {event["context"]["app_version"] for event in events} == {"7.1"}
    assert [request["count"] for request in server.requests(key)] == [2, 2, 1, 1]


# --- the key, a secret


def test_the_key_shows_nowhere_in_the_client() -> None:
    """In no ``repr``, also none of its parts, and not as it is in a pickle."""
    secret = "wrk_5ecret"
    client = new(secret)
    client.track("u", "order_paid")
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        assert secret.encode() not in pickle.dumps(client._settings.key, protocol)
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        assert secret.encode() not in pickle.dumps(client, protocol)
    shown = [repr(client), str(client), f"{client}", repr(vars(client)), str(client.stats())]
    shown += [repr(part) + repr(getattr(part, "__dict__", "")) for part in vars(client).values()]
    assert secret not in "".join(shown)
    assert secret not in repr(client._settings) + str(client._settings) + repr(client._settings.key)
    client.shutdown(0)


@pytest.mark.parametrize(
    "answer", [202, 302, 400, 401, 404, 500, None], ids=lambda status: str(status or "refused")
)
def test_the_key_shows_in_no_log(caplog: pytest.LogCaptureFixture, answer: int | None) -> None:
    """Delivering or failing, at DEBUG, of whisperr, requests and urllib3; nor in a report."""
    secret = "wrk_5ecret"
    caplog.set_level(logging.DEBUG)
    for name in ("whisperr", "requests", "urllib3"):
        caplog.set_level(logging.DEBUG, name)
    reports = Reports()
    with Listener(lambda heard: Answer(answer or 500)) as listener:
        url = listener.url if answer else "http://127.0.0.1:1"
        client = new(secret, base_url=url, max_retries=0, on_error=reports, flush_at=99)
        client.track("u", "order_paid")
        client.track("u", "order_paid")
        client.identify("u")
        client.flush()
        client.shutdown(0.5)
    told = [(error, error.detail) for error in reports.all]
    assert {record.name.split(".")[0] for record in caplog.records} >= {"whisperr", "urllib3"}
    assert answer == 202 or told
    assert secret not in caplog.text + repr(told) + str(client.stats())
    assert not answer or {heard.headers["x-api-key"] for heard in listener.heard} == {secret}
