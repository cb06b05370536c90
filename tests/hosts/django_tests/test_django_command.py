"""``manage.py whisperr_test``."""

from __future__ import annotations

from typing import Any

import pytest

from support.django_project import Project
from whisperr.sandbox import Sandbox


def test_delivered(project: Project, server: Sandbox, key: str) -> None:
    """One event arrives, the command says so and ends with 0."""
    done = project.manage("whisperr_test", "--user", "ada")
    assert (done.returncode, done.stderr) == (0, "")
    assert "Delivered: accepted" in done.stdout
    (event,) = server.events(key)
    assert (event["external_user_id"], event["event_type"]) == ("ada", "whisperr_test")
    assert event["context"]["$message_id"] in done.stdout


STATUS: list[tuple[dict[str, Any], list[str]]] = [
    ({"status": 401}, ["The key was rejected (status 401)", "WHISPERR_API_KEY"]),
    ({"status": 400, "body": "no thanks"}, ["refused the event (status 400)", "no thanks"]),
    ({"status": 410}, ["refused the request for good (status 410)", "Is WHISPERR_BASE_URL right?"]),
    ({"status": 404}, ["Something else than", "(status 404)", "Is WHISPERR_BASE_URL right?"]),
    (
        {"status": 200, "headers": {"Content-Type": "text/html"}},
        ["Something else than", "(status 200)", "Is WHISPERR_BASE_URL right?"],
    ),
    ({"status": 408}, ["can't take events now (status 408)"]),
    ({"status": 302}, ["redirects (status 302)", "WHISPERR_BASE_URL"]),
    ({"status": 503}, ["can't take events now (status 503)"]),
    ({"do": "reset"}, ["can't be reached"]),
    ({"do": "hang"}, ["No answer within 1 s"]),
]


@pytest.mark.parametrize(("fault", "said"), STATUS, ids=[said[0] for _, said in STATUS])
def test_not_delivered(
    fault: dict[str, Any], said: list[str], project: Project, server: Sandbox, key: str
) -> None:
    """Each answer is explained in words, after one request, and the command ends with 1."""
    server.inject(key, {"do": "status", **fault})
    done = project.manage("whisperr_test", "--timeout", "1" if "hang" in fault.values() else "10")
    assert done.returncode == 1
    assert all(words in done.stderr for words in said), done.stderr
    assert key not in done.stderr + done.stdout
    assert "Traceback" not in done.stderr
    assert server.ledger(key)["requests"] == 1
    assert server.events(key) == []


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("WHISPERR_BASE_URL = 'http://127.0.0.1:9'", "can't be reached"),
        ("WHISPERR_DISABLED = True", "WHISPERR_DISABLED switches whisperr off"),
        ("WHISPERR_API_KEY = ''", "api_key is required"),
        ("WHISPERR_FLUSH_AT = 0", "flush_at must be 1"),
        ("WHISPERR_MAX_EVENT_BYTES = 1024; USER = 'x' * 2000", "refused before it was sent"),
    ],
)
def test_settings(line: str, said: str, project: Project, server: Sandbox, key: str) -> None:
    """Without a request that is answered it says why, and ends with 1."""
    project.configure(line + "\n")
    user = "x" * 2000 if "USER" in line else "ada"
    done = project.manage("whisperr_test", "--user", user)
    assert (done.returncode, done.stderr.count("\n") > 3) == (1, False), done.stderr
    assert said in done.stderr
    assert server.ledger(key)["requests"] == 0


def test_a_terminal_of_ascii(project: Project, server: Sandbox, key: str) -> None:
    """A user's name that the terminal has no characters for is shown as escapes, and sent whole."""
    project.environment["PYTHONIOENCODING"] = "ascii"
    done = project.manage("whisperr_test", "--user", "Gr\u00f6\u00dfe \u65e5")
    assert (done.returncode, done.stderr) == (0, "")
    assert "\\u65e5" in done.stdout
    (event,) = server.events(key)
    assert event["external_user_id"] == "Gr\u00f6\u00dfe \u65e5"


@pytest.mark.parametrize("timeout", ["0", "nan", "soon"])
def test_arguments(timeout: str, project: Project) -> None:
    """A time-out that is none is a usage error."""
    done = project.manage("whisperr_test", "--timeout", timeout)
    assert done.returncode == 2
    assert "--timeout" in done.stderr
