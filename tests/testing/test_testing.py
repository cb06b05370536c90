"""``whisperr.testing``: recordings, and the suites of users that are built on them.

The suites run as their users run them: pytest in a process of its own, on the wheel.
"""

from __future__ import annotations

import decimal
import multiprocessing
import os
import re
import subprocess
import sys
import textwrap
import threading
import uuid
from collections.abc import Iterator
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from support.clients import open_client
from support.deadlines import generous
from support.forks import MESSAGE, forks_beside_threads
from support.installed import environment, unpacked_wheel
from whisperr import Whisperr
from whisperr.sandbox import Sandbox
from whisperr.testing import OutboxMixin, Recording, recording

# Other plugins: of xdist's and randomly's order, and those that bring requests.
WITHOUT_OTHERS = tuple(
    word
    for name in ("xdist", "randomly", "requests_mock", "time_machine")
    for word in ("-p", f"no:{name}")
)
TIMEOUT = generous(50.0)  # seconds for a suite


@pytest.fixture
def client(server: Sandbox, key: str) -> Iterator[Whisperr]:
    """A client that existed before the recording; nothing it is told may reach the server."""
    with open_client(server.url, key) as made:
        yield made
        assert server.requests(key) == []
        assert made.stats()["accepted"] == 0, "the double's calls are not the client's"


# --- what is recorded


def test_events_are_recorded_as_they_would_be_sent(client: Whisperr) -> None:
    """The encoding is the real client's: values are converted, the SDK's context is there."""
    when = datetime(2026, 5, 4, 3, 2, 1, 987654, tzinfo=timezone.utc)
    order = uuid.uuid4()
    with recording() as events:
        client.track(
            "u1",
            " order_paid ",
            {"total": decimal.Decimal("12.5"), "order": order, "day": when.date()},
            {"ip": "::1"},
            occurred_at=when,
            message_id="m-1",
        )
    (event,) = events
    assert (event.event_type, event.user, event.message_id) == ("order_paid", "u1", "m-1")
    assert event.properties == {"total": 12.5, "order": str(order), "day": "2026-05-04"}
    assert event.context["ip"] == "::1" and event.context["sdk_name"] == "whisperr-python"
    assert event.occurred_at == when.replace(microsecond=987000)
    assert event.pid == os.getpid()


def test_identities_are_recorded(client: Whisperr) -> None:
    """Shortcuts have become channels, as on the wire."""
    with recording() as events:
        client.identify("u1", email="a@example.org", traits={"plan": "pro"})
        identity = events.assert_identified("u1", email="a@example.org", traits={"plan": "pro"})
    assert identity.channels == [{"channel": "email", "address": "a@example.org", "opted_in": True}]
    assert len(events) == 0 and events.identities == [identity]


def test_every_client_records(client: Whisperr, server: Sandbox, key: str) -> None:
    """One bound early, one made meanwhile, a disabled one, one in another thread: all of them."""
    track = client.track
    disabled = Whisperr(disabled=True)
    with recording() as events:
        track("u", "early")
        made = Whisperr(key, base_url=server.url, flush_at=1)
        made.track("u", "meanwhile")
        assert disabled.ready
        disabled.track("u", "disabled")
        thread = threading.Thread(target=lambda: client.track("u", "thread"))
        thread.start()
        thread.join()
        assert [event.event_type for event in events] == [
            "early",
            "meanwhile",
            "disabled",
            "thread",
        ]
    assert not disabled.ready
    made.shutdown(0)


def test_a_recording_delivers_nothing_and_starts_no_thread(client: Whisperr) -> None:
    """flush() and shutdown() say that all is settled, the ledger is closed, nobody waits."""
    before = threading.active_count()
    with recording():
        for number in range(50):
            client.track("u", "many", {"n": number})
        assert client.flush() and client.shutdown()
        stats = client.stats()
        assert (stats["accepted"], stats["delivered"], stats["requests"]) == (50, 50, 0)
        assert threading.active_count() == before


def test_afterwards_clients_are_themselves(server: Sandbox, key: str) -> None:
    """What is tracked before and after a recording is sent; a shutdown inside it is undone."""
    with open_client(server.url, key) as client:
        client.track("u", "before", {"n": 1})
        with recording() as events:
            client.track("u", "inside", {"n": 2})
            made = Whisperr(key, base_url=server.url)
            client.shutdown()
        client.track("u", "after", {"n": 3})
        made.track("u", "after", {"n": 4})
        assert client.flush() and made.shutdown()
        assert sorted(event["properties"]["n"] for event in server.events(key)) == [1, 3, 4]
        assert [event.event_type for event in events] == ["inside"]


def test_the_innermost_recording_gets_it(client: Whisperr) -> None:
    """Recordings nest."""
    with recording() as outer:
        client.track("u", "one")
        with recording() as inner:
            client.track("u", "two")
        client.track("u", "three")
    assert [event.event_type for event in outer] == ["one", "three"]
    assert [event.event_type for event in inner] == ["two"]


# --- forks


def fork_and_track(client: Whisperr, *event_types: str) -> int:
    child = os.fork()
    if child == 0:
        try:
            for event_type in event_types:
                client.track("u", event_type, {"text": "x" * 9000})
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    return child


@forks_beside_threads
def test_forks_are_followed_when_asked(client: Whisperr) -> None:
    """A child's events are there once it is gone, even by os._exit, between the parent's own."""
    with recording() as events:
        client.track("u", "first")
        fork_and_track(client, "unseen")
        events.follow_forks()
        child = fork_and_track(client, "second", "third")
        client.track("u", "fourth")
        assert [event.event_type for event in events] == ["first", "second", "third", "fourth"]
        assert [event.pid for event in events[1:3]] == [child, child]
        events.clear()
        fork_and_track(client, "fifth")
    assert [event.event_type for event in events] == ["fifth"]


@forks_beside_threads
def test_a_pool_is_followed(client: Whisperr) -> None:
    """Children of multiprocessing, several at once, with large events: none is torn or lost."""
    with recording(forks=True) as events:
        with multiprocessing.get_context("fork").Pool(4) as pool:
            pool.starmap(partial(_track_many, client), [(part,) for part in range(8)])
        numbers = [event.properties["n"] for event in events]
    assert sorted(numbers) == list(range(8 * 25))
    assert os.getpid() not in {event.pid for event in events}


def _track_many(client: Whisperr, part: int) -> None:
    for number in range(part * 25, part * 25 + 25):
        client.track("u", "pool", {"n": number, "text": "x" * 20_000})


@forks_beside_threads
def test_a_child_that_outlives_its_test_harms_nobody(client: Whisperr, tmp_path: Path) -> None:
    """Its events go nowhere: not to the next recording, not to the server, not to stderr."""
    ready, go = os.pipe()
    with recording(forks=True):
        child = os.fork()
        if child == 0:
            status = 1
            try:
                os.close(go)
                os.read(ready, 1)  # ends when the parent closes its end
                client.track("u", "late")
                status = 0
            finally:
                os._exit(status)
    with recording(forks=True) as events:
        os.close(go)
        assert os.waitpid(child, 0)[1] == 0
        assert len(events) == 0
    os.close(ready)


# --- refusals


def test_a_refused_call_fails_the_recording(client: Whisperr) -> None:
    """It says what is wrong, with what, and in which line of the application."""
    with pytest.raises(AssertionError) as failure, recording():
        client.track("u", "Not-Snake")
        client.track("u", "no_json", {"x": object()})
    text = str(failure.value)
    assert "2 calls would never be sent" in text
    assert "expected lowercase snake_case ('Not-Snake')" in text
    assert "a value of type object" in text
    assert f"at {__file__}:" in text


def test_an_expected_refusal_does_not(client: Whisperr) -> None:
    """assert_refused() asks for one, and takes it off the list; one that is not there fails."""
    with recording() as events:
        client.track("u", "Not-Snake")
        assert events.assert_refused("snake_case").detail == "'Not-Snake'"
        with pytest.raises(AssertionError, match="expected a refused call"):
            events.assert_refused("snake_case")
    assert len(events.refused) == 1


def test_on_error_hears_of_it_as_ever(server: Sandbox, key: str) -> None:
    """An application's own handling of a refusal can be tested."""
    heard: list[str] = []
    client = Whisperr(key, base_url=server.url, on_error=lambda error: heard.append(error.type))
    with recording() as events:
        client.track("u", "Not-Snake")
        client.shutdown()
        client.track("u", "too_late")
        events.assert_refused("snake_case")
        events.assert_refused("the client is shut down")
    assert heard == ["dropped", "dropped"]


def test_a_failure_of_the_test_is_not_hidden(client: Whisperr) -> None:
    """Where the body has failed, that is what is raised."""
    with pytest.raises(ZeroDivisionError), recording():
        client.track("u", "Not-Snake")
        raise ZeroDivisionError


# --- assertions


@pytest.fixture
def two(client: Whisperr) -> Iterator[Recording]:
    with recording() as events:
        client.track("u1", "payment_failed", {"amount": 12.5, "items": [1, {"a": True}]})
        client.track("u2", "payment_ok", {"amount": 3})
        yield events


def test_assert_tracked_finds_it(two: Recording) -> None:
    """Given properties are among the event's, and are compared as they would be sent."""
    properties = {"amount": decimal.Decimal("12.50"), "items": (1, {"a": True})}
    assert two.assert_tracked("payment_failed", user="u1", properties=properties) is two[0]
    assert two.assert_tracked("payment_failed") is two[0]
    two.assert_tracked("payment_ok", context={"sdk_name": "whisperr-python"}, times=1)
    two.assert_not_tracked("payment_ok", user="u1")
    assert two.of_type("payment_ok") == two[1:]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"event_type": "payment_faild"}, "Is payment_failed meant?"),
        ({"event_type": "payment_failed", "user": 7}, 'user is "u1", not "7"'),
        (
            {"event_type": "payment_failed", "properties": {"amount": 13}},
            "properties.amount is 12.5, not 13",
        ),
        (
            {"event_type": "payment_failed", "properties": {"currency": "EUR"}},
            "properties.currency is missing",
        ),
        (
            {"event_type": "payment_failed", "properties": {"items": [1, {"a": 1}]}},
            'properties.items is [1, {"a": true}], not [1, {"a": 1}]',
        ),
        (
            {"event_type": "payment_failed", "context": {"ip": "::1"}},
            "context.ip is missing",
        ),
        ({"event_type": "payment_failed", "times": 2}, "expected 2 times"),
    ],
)
def test_assert_tracked_says_what_differs(
    two: Recording, arguments: dict[str, Any], says: str
) -> None:
    """Everything that was recorded is listed, and what is nearly it says why it isn't."""
    with pytest.raises(AssertionError) as failure:
        two.assert_tracked(**arguments)
    text = str(failure.value)
    assert says in text
    assert "1. payment_failed  user 'u1'" in text and "2. payment_ok  user 'u2'" in text


def test_the_other_assertions_fail_in_words(two: Recording, client: Whisperr) -> None:
    """Each names what it found instead."""
    with pytest.raises(AssertionError, match="expected no event payment_ok"):
        two.assert_not_tracked("payment_ok")
    with pytest.raises(AssertionError, match="expected no event, but there is"):
        two.assert_nothing_tracked()
    with pytest.raises(AssertionError, match="nothing of the kind was recorded"):
        two.assert_identified("u1")
    client.identify("u1", phone="+1")
    with pytest.raises(AssertionError, match="channel email is missing"):
        two.assert_identified("u1", email="a@example.org")
    with pytest.raises(AssertionError, match="expected no identity"):
        two.assert_nothing_identified()
    two.clear()
    two.assert_nothing_tracked()
    two.assert_nothing_identified()
    with pytest.raises(ValueError, match="times must be 1 or more"):
        two.assert_tracked("payment_ok", times=0)


def test_a_long_list_is_cut(client: Whisperr) -> None:
    """A thousand events and huge values make no wall of text."""
    with recording() as events:
        for _ in range(1000):
            client.track("u", "many", {"text": "x" * 5000})
    with pytest.raises(AssertionError) as failure:
        events.assert_tracked("other")
    assert "and 980 more" in str(failure.value)
    assert len(str(failure.value)) < 10_000


# --- unittest and Django's test cases


def test_the_outbox_of_a_test_case(client: Whisperr) -> None:
    """Each test has its own, without a super().setUp(); a refused call is a failure of the test."""
    import unittest

    class Case(OutboxMixin, unittest.TestCase):
        def setUp(self) -> None:
            client.track("u", "set_up")

        def test_a(self) -> None:
            client.track("u", "a")
            self.assertEqual([e.event_type for e in self.whisperr_outbox], ["set_up", "a"])

        def test_b(self) -> None:
            self.whisperr_outbox.assert_tracked("set_up", times=1)
            self.whisperr_outbox.assert_not_tracked("a")

        def test_c(self) -> None:
            client.track("u", "Not-Snake")

    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(Case).run(result)
    assert result.testsRun == 3 and not result.errors
    ((failed, text),) = result.failures
    assert failed.id().endswith("test_c")
    assert "expected lowercase snake_case ('Not-Snake')" in text


# --- a user's suite


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the wheel is installed."""
    return unpacked_wheel(tmp_path_factory.mktemp("wheel"))


class Suite:
    """The folder of a user's application and its tests."""

    def __init__(self, folder: Path, site: Path, server: Sandbox, key: str) -> None:
        self.folder = folder
        self.environment = environment(site, SHOP_KEY=key, SHOP_URL=server.url)

    def write(self, name: str, source: str) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(source))

    def run(self, *arguments: str, status: int = 0) -> str:
        """pytest's own words; asserts the exit status."""
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments]
        return self.command(command, status)

    def command(self, command: list[str], status: int = 0) -> str:
        done = subprocess.run(
            command,
            cwd=str(self.folder),
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=TIMEOUT,
        )
        assert done.returncode == status, done.stdout
        return done.stdout


SHOP = """
    import os
    from whisperr import Whisperr

    client = Whisperr(os.environ["SHOP_KEY"], base_url=os.environ["SHOP_URL"], flush_at=1)
    track = client.track  # bound at import


    def pay(user, amount):
        track(user, "payment_failed", {"amount": amount})


    def pay_in_a_child(user, amount):
        child = os.fork()
        if child == 0:
            try:
                pay(user, amount)
            finally:
                os._exit(0)
        os.waitpid(child, 0)
"""
TESTS = """
    import os
    import pytest
    import shop

    NUMBERS = range(12)


    @pytest.mark.parametrize("n", NUMBERS)
    def test_one(whisperr_events, n):
        shop.pay(f"u{n}", n)
        whisperr_events.assert_tracked("payment_failed", user=f"u{n}", properties={"amount": n})
        assert len(whisperr_events) == 1


    @pytest.mark.parametrize("n", NUMBERS)
    def test_in_a_child(whisperr_events, n):
        whisperr_events.follow_forks()
        shop.pay_in_a_child(f"child{n}", n)
        event = whisperr_events.assert_tracked("payment_failed", user=f"child{n}")
        assert event.pid != os.getpid() and len(whisperr_events) == 1


    def test_nothing(whisperr_events):
        whisperr_events.assert_nothing_tracked()
"""
# What pytest-forked does; that itself doesn't run under every pytest.
CONFTEST = """
    import json
    import os
    import pytest
    from _pytest.runner import runtestprotocol


    def pytest_addoption(parser):
        parser.addoption("--each-in-a-fork", action="store_true")


    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(item):
        if not item.config.getoption("--each-in-a-fork"):
            return None
        hook, config = item.ihook, item.config
        hook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        there, here = os.pipe()
        if os.fork() == 0:
            try:
                reports = runtestprotocol(item, log=False)
                plain = [
                    hook.pytest_report_to_serializable(config=config, report=report)
                    for report in reports
                ]
                with os.fdopen(here, "w") as pipe:
                    json.dump(plain, pipe)
            finally:
                os._exit(0)
        os.close(here)
        with os.fdopen(there) as pipe:
            plain = json.load(pipe)
        os.wait()
        for data in plain:
            report = hook.pytest_report_from_serializable(config=config, data=data)
            hook.pytest_runtest_logreport(report=report)
        hook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        return True
"""


@pytest.fixture
def suite(tmp_path: Path, site: Path, server: Sandbox, key: str) -> Suite:
    """An application that makes its client at import, with an empty folder of tests."""
    made = Suite(tmp_path, site, server, key)
    made.write("shop.py", SHOP)
    made.write("conftest.py", CONFTEST)
    return made


@pytest.mark.parametrize(
    "arguments",
    [
        ["-p", "no:xdist", "-p", "no:randomly"],
        ["-n", "2"],
        ["--each-in-a-fork"],
        ["-n", "2", "--each-in-a-fork"],
    ],
    ids=["plain", "xdist", "forked", "xdist and forked"],
)
def test_a_users_suite(suite: Suite, server: Sandbox, key: str, arguments: list[str]) -> None:
    """Each test sees its own events and no others; not one request is sent."""
    suite.write("test_shop.py", TESTS)
    said = suite.run("-W", "error", "-W", f"ignore:{MESSAGE}", *arguments)
    assert "25 passed" in said
    assert server.ledger(key)["connections"] == 0


def test_a_refused_event_fails_the_users_test(suite: Suite) -> None:
    """It is a failure, and not an error of the fixture; the line of the application is named."""
    suite.write(
        "test_shop.py",
        """
        import shop

        def test_refused(whisperr_events):
            shop.pay("u", {1, 2}.__iter__)
        """,
    )
    said = suite.run(status=1)
    assert "1 failed" in said and "error" not in said
    assert "a value of type method-wrapper" in said
    assert re.search(r"shop\.py:\d+", said)


def test_a_failed_assertion_shows_the_users_line(suite: Suite) -> None:
    """pytest points at the test, not into whisperr."""
    suite.write(
        "test_shop.py",
        """
        import shop

        def test_wrong(whisperr_events):
            shop.pay("u", 3)
            whisperr_events.assert_tracked("payment_failed", properties={"amount": 4})
        """,
    )
    said = suite.run(status=1)
    assert "test_shop.py:6: AssertionError" in said
    assert "properties.amount is 3, not 4" in said
    assert "_recording.py" not in said


def test_the_sandbox_fixture(suite: Suite) -> None:
    """Real HTTP, a key for each test, faults on demand; also where every test is a process, and
    while other clients are recorded."""
    suite.write(
        "test_shop.py",
        """
        import pytest
        from whisperr import Whisperr
        from whisperr.testing import recording

        @pytest.mark.parametrize("n", range(4))
        def test_arrives(whisperr_sandbox, n):
            client = whisperr_sandbox.client(flush_at=1)
            client.track("u", "number_seen", {"n": n})
            client.identify("u", email="a@example.org")
            (event,) = whisperr_sandbox.events(1)
            assert event["properties"] == {"n": n}
            assert len(whisperr_sandbox.identities(1)) == 1
            assert whisperr_sandbox.ledger()["arrived"] == 1

        def test_survives_an_outage(whisperr_sandbox):
            whisperr_sandbox.inject({"do": "status", "status": 503})
            client = whisperr_sandbox.client()
            client.track("u", "number_seen", {"n": 1})
            assert client.flush()
            assert client.stats()["retries"] == 1

        def test_both(whisperr_sandbox, whisperr_events):
            client = whisperr_sandbox.client(flush_at=1)
            with recording() as inner:
                client.track("u", "number_seen", {"n": 1})
                Whisperr("wrk_other").track("u", "number_seen", {"n": 2})
            assert [event["properties"]["n"] for event in whisperr_sandbox.events(1)] == [1]
            inner.assert_tracked("number_seen", properties={"n": 2}, times=1)
            assert len(inner.events) == 1 and len(whisperr_events.events) == 0
        """,
    )
    assert "6 passed" in suite.run("-W", "error", "-n", "2")
    assert "6 passed" in suite.run("-W", "error", "--each-in-a-fork")


def test_the_plugin_is_light(suite: Suite) -> None:
    """A run that uses no fixture of ours imports no HTTP, no framework and no double."""
    suite.write(
        "test_light.py",
        """
        import sys

        def test_light():
            assert "whisperr.pytest_plugin" in sys.modules
            heavy = {"requests", "urllib3", "django", "starlette", "uvicorn", "whisperr.testing._recording_engine"}
            assert not heavy & set(sys.modules)
        """,
    )
    assert "1 passed" in suite.run("-W", "error", *WITHOUT_OTHERS)
    listed = suite.run("--fixtures", "-q")
    assert "whisperr_events" in listed and "whisperr_sandbox" in listed


DJANGO_SETTINGS = """
    SECRET_KEY = "x"
    ROOT_URLCONF = "site_urls"
    DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
    INSTALLED_APPS = ["django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions"]
    MIDDLEWARE = [
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "whisperr.django.WhisperrMiddleware",
    ]
    DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
    USE_TZ = True
"""
DJANGO_URLS = """
    from django.http import HttpResponse
    from django.urls import path
    from whisperr.django import get_client, track_on_commit

    async def later(request):
        request.whisperr.track("seen_later")
        return HttpResponse("ok")

    def order(request):
        request.whisperr.track("order_placed", {"item": int(request.POST["item"])})
        get_client().track("webhook", "order_known")
        track_on_commit("u", "order_committed")
        return HttpResponse("ok")

    urlpatterns = [path("order/", order), path("later/", later)]
"""
DJANGO_TESTS = """
    from django.contrib.auth.models import User
    from django.test import TestCase, override_settings
    from whisperr.testing import OutboxMixin

    class OrderTest(OutboxMixin, TestCase):
        @classmethod
        def setUpTestData(cls):
            cls.user = User.objects.create_user("ada")

        def test_order(self):
            self.client.force_login(self.user)
            with self.captureOnCommitCallbacks(execute=True):
                self.client.post("/order/", {"item": 3})
            self.whisperr_outbox.assert_tracked(
                "order_placed", user=self.user.pk, properties={"item": 3}
            )
            self.assertEqual(
                [event.event_type for event in self.whisperr_outbox],
                ["order_placed", "order_known", "order_committed"],
            )

        def test_rolled_back(self):
            self.client.post("/order/", {"item": 3})
            self.whisperr_outbox.assert_not_tracked("order_committed")
            self.whisperr_outbox.assert_not_tracked("order_placed")  # nobody is logged in

        @override_settings(WHISPERR_DISABLED=True, WHISPERR_APP_VERSION="7")
        def test_other_settings(self):
            self.client.post("/order/", {"item": 3})
            event = self.whisperr_outbox.assert_tracked("order_known")
            self.assertEqual(event.context["app_version"], "7")

        async def test_async(self):
            await self.async_client.aforce_login(self.user) if hasattr(
                self.async_client, "aforce_login"
            ) else await __import__("asgiref.sync").sync.sync_to_async(
                self.async_client.force_login
            )(self.user)
            await self.async_client.get("/later/")
            self.whisperr_outbox.assert_tracked("seen_later", user=self.user.pk, times=1)
"""


@pytest.mark.parametrize(
    "setting",
    ["WHISPERR_DISABLED = True", "", "WHISPERR_API_KEY, WHISPERR_BASE_URL = {key!r}, {url!r}"],
    ids=["disabled", "no key", "enabled"],
)
def test_django(suite: Suite, server: Sandbox, key: str, setting: str) -> None:
    """``django.test.TestCase`` with get_client() and request.whisperr, whatever the settings say."""
    suite.write("site_settings.py", DJANGO_SETTINGS)
    with open(suite.folder / "site_settings.py", "a") as settings:
        settings.write(setting.format(key=key, url=server.url))
    suite.write("site_urls.py", DJANGO_URLS)
    suite.write("tests.py", DJANGO_TESTS)
    command = [
        sys.executable,
        "-m",
        "django",
        "test",
        "--settings",
        "site_settings",
        "-p",
        "tests.py",
    ]
    said = suite.command(command)
    assert "Ran 4 tests" in said and "OK" in said
    assert server.ledger(key)["connections"] == 0


def test_the_words_of_track_do_as_well() -> None:
    """``external_user_id`` is ``user``; both at once are a mistake."""
    client = Whisperr("wrk_k")
    with recording() as events:
        client.track("u", "order_paid")
        client.identify("u", traits={"plan": "pro"})
        assert events.assert_tracked("order_paid", external_user_id="u").external_user_id == "u"
        events.assert_not_tracked("order_paid", external_user_id="v")
        assert events.assert_identified(external_user_id="u").external_user_id == "u"
        with pytest.raises(AssertionError, match="of user 'v'"):
            events.assert_tracked("order_paid", external_user_id="v")
        for call in (
            lambda: events.assert_tracked("order_paid", user="u", external_user_id="u"),
            lambda: events.assert_not_tracked("order_paid", user="v", external_user_id="v"),
            lambda: events.assert_identified("u", external_user_id="u"),
            lambda: events.assert_identified(),
        ):
            with pytest.raises(ValueError, match="external_user_id"):
                call()
