"""``get_client()`` and its settings."""

from __future__ import annotations

import inspect
import os
import sys
import threading
import time
from collections import deque
from typing import Any

import pytest
from django.test.utils import override_settings

from support.apps import assert_arrived
from support.deadlines import generous
from support.django_project import Project
from support.forks import forks_beside_threads
from whisperr import Whisperr, WhisperrError
from whisperr.django import get_client
from whisperr.integrations.django import get_client as same_get_client
from whisperr.sandbox import Sandbox

pytestmark = pytest.mark.usefixtures("django")

reports: list[WhisperrError] = []


def on_error(error: WhisperrError) -> None:
    reports.append(error)


def test_one_client() -> None:
    """Every call, by either import path, gives the same client."""
    assert same_get_client is get_client
    assert get_client() is get_client()


def test_eight_first_calls_at_once(key: str) -> None:
    """Threads that ask first at the same time get one client, and no other is left over."""
    switch = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for round_number in range(50):
            with override_settings(WHISPERR_API_KEY=f"{key}{round_number}"):
                assert len(_asked_by(8)) == 1
    finally:
        sys.setswitchinterval(switch)


def _asked_by(count: int) -> set[int]:
    barrier, found = threading.Barrier(count), deque()  # type: ignore[var-annotated]

    def ask() -> None:
        barrier.wait()
        found.append(get_client())

    threads = [threading.Thread(target=ask) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == count
    return {id(client) for client in found}


LEGAL = {
    "api_key": "wrk_other",
    "base_url": "http://127.0.0.1:9",
    "app_version": "7",
    "disabled": True,
    "debug": True,
    "on_error": on_error,
    "max_batch_size": 17,
    "journal_dir": "/journal",
    "before_send": on_error,
    "redact": ("password",),
    "broker_url": "redis://127.0.0.1:9",
    "app": "shop",
}  # the others are numbers, which may be one more than the default
NEEDED = {"app": {"broker_url": "redis://127.0.0.1:9"}}  # beside it
OPTIONS = inspect.signature(Whisperr).parameters


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_is_a_setting(option: str) -> None:
    """The client made from `WHISPERR_<OPTION>` is the one made with the option."""
    value = LEGAL[option] if option in LEGAL else OPTIONS[option].default + 1
    options = {option: value, **NEEDED.get(option, {})}
    with override_settings(**{f"WHISPERR_{name.upper()}": options[name] for name in options}):
        _, (_, ours) = get_client().__reduce__()
    name = "key" if option == "api_key" else option
    given: dict[str, Any] = {"api_key": "wrk_x", **options}
    expected = Whisperr(**given).__reduce__()[1][1]
    assert getattr(ours, name) == getattr(expected, name)
    assert getattr(ours, name) != OPTIONS[option].default


@pytest.mark.parametrize("option", OPTIONS)
def test_an_unset_environment_variable(option: str) -> None:
    """A setting that is None is as one that isn't there."""
    settings = {"WHISPERR_API_KEY": "wrk_x", "WHISPERR_DISABLED": False}
    with override_settings(**{**settings, f"WHISPERR_{option.upper()}": None}):
        assert get_client().ready is (option != "api_key")


def test_on_error_by_its_path(server: Sandbox, key: str) -> None:
    """`WHISPERR_ON_ERROR` may be a dotted path."""
    reports.clear()
    with override_settings(WHISPERR_ON_ERROR=f"{__name__}.on_error"):
        get_client().track("1", "Not Snake")
    assert [report.type for report in reports] == ["dropped"]


def test_override_settings(server: Sandbox, key: str) -> None:
    """Within it there is a client of the new settings, after it again one of the old ones; each
    event goes where the settings said when it was tracked, and nothing is lost on the way."""
    before = get_client()
    before.track("1", "happened", {"n": 0})
    with override_settings(WHISPERR_API_KEY=f"{key}_other"):
        assert get_client() is not before
        assert_arrived(server, key, [0])
        get_client().track("1", "happened", {"n": 1})
        before.track("1", "happened", {"n": 2})  # who holds the old one may go on using it
    assert_arrived(server, f"{key}_other", [1])
    get_client().track("1", "happened", {"n": 3})
    assert get_client().flush()
    assert before.flush()
    assert_arrived(server, key, [0, 2, 3])


def test_override_settings_disabled() -> None:
    """A test suite switches everything off by one setting."""
    with override_settings(WHISPERR_DISABLED=True):
        assert not get_client().ready
    assert get_client().ready


def test_another_setting_leaves_the_client() -> None:
    """A change that does not concern the client keeps it."""
    before = get_client()
    with override_settings(WHISPERR_RESOLVE_USER="x.y", LANGUAGE_CODE="de"):
        assert get_client() is before


def test_a_dead_server_does_not_hold_up_a_test(key: str) -> None:
    """What an old client can't deliver is waited for, but not for ever."""
    begun = time.monotonic()
    with override_settings(WHISPERR_BASE_URL="http://127.0.0.1:9", WHISPERR_MAX_RETRIES=100):
        client = get_client()
        client.track("1", "happened")
    assert time.monotonic() - begun < generous(20)
    assert client.stats()["pending"] == 1
    client.shutdown(0)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"WHISPERR_API_KEY": ""}, "api_key is required"),
        ({"WHISPERR_API_KEY": "wrk_secret\n"}, "api_key is not a legal header value"),
        ({"WHISPERR_FLUSH_AT": 0}, "flush_at must be"),
        ({"WHISPERR_ON_ERROR": "no.such"}, "No module named 'no'"),
    ],
)
def test_unusable_settings(
    settings: dict[str, Any], words: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The client is disabled, and the log says once why; it never says the key."""
    with override_settings(**settings):
        assert not get_client().ready
        get_client().track("1", "happened")
    (record,) = [record for record in caplog.records if words in record.message]
    assert (record.name, record.levelname) == ("whisperr", "WARNING")
    assert "secret" not in caplog.text


@forks_beside_threads
def test_a_fork(server: Sandbox, key: str) -> None:
    """A child goes on with the same client, and both deliver their own events, once."""
    get_client().track("1", "happened", {"n": 0})
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            get_client().track("1", "happened", {"n": 1})
            status = not get_client().flush()
        finally:
            os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0
    assert get_client().flush()
    assert_arrived(server, key, [0, 1])


CHECKED = [
    ("WHISPERR_API_KEY = ''", ["W001", "api_key is required"]),
    ("WHISPERR_FLUSH_AT = 0", ["W001", "flush_at must be 1"]),
    ("WHISPERR_FLUSH_INTERVALL = 3", ["W002", "Is WHISPERR_FLUSH_INTERVAL meant?"]),
    ("WHISPERR_RESOLVE_USER = 'django_site.nowhere.at_all'", ["W003", "nowhere"]),
    ("WHISPERR_RESOLVE_USER = 'django_site.views.VERSION'", ["W003", "is not callable"]),
    ("MIDDLEWARE.insert(0, MIDDLEWARE.pop())", ["W004", "before AuthenticationMiddleware"]),
]


@pytest.mark.parametrize(("line", "said"), CHECKED, ids=[line for line, _ in CHECKED])
def test_checks(line: str, said: list[str], project: Project) -> None:
    """`manage.py check` says what is wrong in a warning, which keeps no site from starting."""
    project.configure(line + "\n")
    done = project.manage("check")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("whisperr.W") == 1, done.stderr
    assert all(words in done.stderr for words in said), done.stderr


def test_checks_of_a_good_project(project: Project) -> None:
    """Nothing is said where nothing is wrong, with the package's own path in MIDDLEWARE too."""
    own = "whisperr.integrations.django.WhisperrMiddleware"
    project.configure(f"MIDDLEWARE[-1] = {own!r}\n")
    done = project.manage("check", "--fail-level", "WARNING")
    assert (done.returncode, done.stderr) == (0, "")
