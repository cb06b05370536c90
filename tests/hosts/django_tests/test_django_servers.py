"""The project under real servers: events are counted where they arrive, at the end of the process."""

from __future__ import annotations

import signal

import pytest

from support.apps import assert_arrived
from support.django_project import Project, Served
from whisperr.sandbox import Sandbox


def log_in(served: Served, prefix: str, number: int) -> str:
    """The session of ada, who logs in; that itself is tracked."""
    page = served.get(f"/{prefix}log_in/ada/{number}")
    assert page.status == 200, served.said()
    return page.session


def visit(served: Served, prefix: str, numbers: range, session: str) -> None:
    for number in numbers:
        assert served.get(f"/{prefix}page/{number}", session).status == 200


def assert_untouched(served: Served, path: str, session: str) -> None:
    page = served.get(path, session)
    assert page.status == 200
    assert (page.headers["x-queries"], page.headers.get("vary")) == ("0", None)
    assert page.headers["x-thread"] == page.body.split()[0]


def assert_users(server: Sandbox, key: str, user_id: str = "1") -> None:
    assert {event["external_user_id"] for event in server.events(key)} == {user_id}
    (identity,) = server.identities(key)
    assert identity["external_user_id"] == user_id


def test_preloaded_gunicorn(project: Project, server: Sandbox, key: str) -> None:
    """Sync workers forked from a preloaded master lose nothing at SIGTERM; a page that tracks
    nothing asks no database, doesn't vary by cookie and stays in its thread."""
    with project.gunicorn("--preload", "--workers", "2") as served:
        session = log_in(served, "", 0)
        visit(served, "", range(1, 40), session)
        assert served.get("/stream/40", session).body == "onetwo"
        assert_untouched(served, "/plain/", session)
        assert served.stop(signal.SIGTERM) == 0, served.said()
    assert_arrived(server, key, range(41))
    assert_users(server, key)


def test_uvicorn(project: Project, server: Sandbox, key: str) -> None:
    """Async views under uvicorn: the same, up to Ctrl-C; and no thread is asked for anything."""
    with project.uvicorn() as served:
        session = log_in(served, "a", 0)
        visit(served, "a", range(1, 20), session)
        visit(served, "", range(20, 40), session)
        assert_untouched(served, "/aplain/", session)
        assert served.get("/aplain/", session).headers["x-hops"] == "0"
        assert served.get("/plain/", session).headers["x-hops"] == "1"  # to the view; Django's own
        served.stop(signal.SIGINT)
    assert_arrived(server, key, range(40))
    assert_users(server, key)


def test_uvicorn_terminated(project: Project, server: Sandbox, key: str) -> None:
    """Wrapped in the ASGI middleware, Django under uvicorn loses nothing at SIGTERM either."""
    with project.uvicorn("asgi_flushing") as served:
        session = log_in(served, "a", 0)
        visit(served, "a", range(1, 10), session)
        assert served.get("/atask/10", session).body == "under way"
        served.stop(signal.SIGTERM)
    assert_arrived(server, key, range(11))
    assert_users(server, key)


def test_tracked_while_streaming(project: Project, server: Sandbox, key: str) -> None:
    """What a streamed body or a task tracks after the view has returned arrives too."""
    with project.uvicorn() as served:
        session = log_in(served, "a", 0)
        assert served.get("/astream/1", session).body == "onetwo"
        assert served.get("/atask/3", session).body == "under way"
        served.stop(signal.SIGINT)
    assert_arrived(server, key, range(4))


@pytest.mark.parametrize("prefix", ["", "a"])
def test_log_out(prefix: str, project: Project, server: Sandbox, key: str) -> None:
    """The view that logs out tracks who was there, and nobody afterwards."""
    with project.uvicorn() as served:
        session = log_in(served, prefix, 0)
        assert served.get(f"/{prefix}log_out/1", session).body == "out"
        served.stop(signal.SIGINT)
    assert_arrived(server, key, range(2))
    assert_users(server, key)


def test_async_views_under_a_sync_server(project: Project, server: Sandbox, key: str) -> None:
    """An async view that a sync worker runs hands over as it returns or raises, too."""
    with project.gunicorn("--preload") as served:
        session = log_in(served, "a", 0)
        visit(served, "a", range(1, 10), session)
        assert served.get("/araise/10", session).status == 500
        assert served.get("/alog_out/11", session).status == 200
        assert served.stop(signal.SIGTERM) == 0, served.said()
    assert_arrived(server, key, range(12))


def test_runserver(project: Project, server: Sandbox, key: str) -> None:
    """Neither the reload after a file has changed nor Ctrl-C loses an event."""
    with project.runserver() as served:
        session = log_in(served, "", 0)
        visit(served, "", range(1, 10), session)
        views = project.site / "views.py"
        views.write_text(views.read_text().replace('VERSION = "1"', 'VERSION = "2"'))
        served.await_page("/plain/", " 2")
        server.wait_for(key, 10)  # the first process has ended
        visit(served, "", range(10, 20), session)
        served.stop(signal.SIGINT, group=True)
    assert_arrived(server, key, range(20))


def test_the_site_starts_without_a_key(project: Project, server: Sandbox, key: str) -> None:
    """An empty key keeps no page from being served, and the log says what is wrong."""
    project.configure("WHISPERR_API_KEY = ''\n")
    with project.gunicorn("--preload") as served:
        session = log_in(served, "", 0)
        visit(served, "", range(1, 3), session)
        assert served.stop(signal.SIGTERM) == 0
        assert "nothing will be sent: api_key is required" in served.said()
    assert_arrived(server, key, [])


def test_the_middleware_alone(project: Project, server: Sandbox, key: str) -> None:
    """Without being in INSTALLED_APPS, the middleware works."""
    project.configure("INSTALLED_APPS.remove('whisperr.integrations.django')\n")
    with project.gunicorn() as served:
        log_in(served, "", 0)
        assert served.stop(signal.SIGTERM) == 0
    assert_arrived(server, key, [0])


HANGING = """
WHISPERR_SHUTDOWN_TIMEOUT = 1
WHISPERR_ON_ERROR = "django_site.views.on_error"
"""


# Under its autoreloader runserver is killed a quarter of a second after Ctrl-C: no time to say it.
@pytest.mark.parametrize("name", ["gunicorn", "uvicorn", "runserver"])
def test_a_hanging_ingestion_server(name: str, project: Project, server: Sandbox, key: str) -> None:
    """The server still stops; the loss is one WARNING and one call of `on_error`, with its count."""
    server.inject(key, {"do": "hang", "times": -1})
    project.configure(HANGING)
    with getattr(project, name)(*["--noreload"][: name == "runserver"]) as served:
        session = log_in(served, "", 0)
        visit(served, "", range(1, 10), session)
        served.stop(signal.SIGTERM if name == "gunicorn" else signal.SIGINT, group=True)
        assert served.said().count("dropped: lost 11 records: no time was left") == 1
        assert served.said().count("on_error dropped 11\n") == 1
    assert_arrived(server, key, [])
