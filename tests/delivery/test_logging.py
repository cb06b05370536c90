"""Our log lines: where they go, and that no handler makes events of them without end."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.apps import assert_arrived, run_app
from support.clients import Reports, numbers_at, open_client, track
from whisperr.sandbox import Sandbox


class Tracking(logging.Handler):
    """What an application may put on the root logger: each record becomes an event."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []
        self.client = None

    def emit(self, record: logging.LogRecord) -> None:
        self.names.append(record.name)
        if self.client is not None:
            self.client.track("log", "was_logged", {"n": 1000, "name": record.name})


@pytest.fixture
def tracking() -> Iterator[Tracking]:
    handler, root = Tracking(), logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield handler
    root.setLevel(level)
    root.removeHandler(handler)


def test_a_handler_that_tracks_is_not_fed_by_us(
    server: Sandbox, key: str, tracking: Tracking
) -> None:
    """Neither our lines nor urllib3's about our connections become events; the application's do."""
    with open_client(server.url, key, flush_at=1) as client:
        tracking.client = client
        logging.getLogger("application").info("hello")
        assert client.flush()
        for _ in range(5):
            assert client.flush()
        tracking.client = None
    assert {"urllib3.connectionpool", "whisperr"} <= set(tracking.names), tracking.names
    named = [event["properties"]["name"] for event in server.events(key)]
    assert named == ["application"]


def test_a_refused_call_in_a_handler(server: Sandbox, key: str, tracking: Tracking) -> None:
    """What is logged of a refused call, in the caller's own thread, is not tracked either."""
    with open_client(server.url, key) as client:
        tracking.client = client
        client.track("u", "it_happened", {"what": object()})
        client.identify("u", traits={"what": object()})
        tracking.client = None
        assert tracking.names.count("whisperr") == 2
        assert client.stats()["accepted"] == 2


def test_what_on_error_tracks_is_the_applications(
    server: Sandbox, key: str, tracking: Tracking
) -> None:
    """Also while the sender may not be fed: the callback, and a record that it logs itself."""
    application = logging.getLogger("application")
    told = Reports(lambda error: (track(client, [1]), application.info("told")))
    server.inject(key, {"do": "status", "status": 400})
    with open_client(server.url, key, on_error=told) as client:
        tracking.client = client
        track(client, [0])
        client.flush()
        tracking.client = None
        assert client.flush()
    assert sorted(numbers_at(server, key)) == [1, 1000]


@pytest.mark.parametrize("error", [ValueError, RecursionError])
def test_a_handler_that_raises(server: Sandbox, key: str, error: type[Exception]) -> None:
    """No line of ours, the debug line of a delivery included, hands it to a pass."""

    def raises(record: logging.LogRecord) -> None:
        raise error

    handler = logging.Handler()
    handler.emit = raises  # type: ignore[method-assign]
    logger = logging.getLogger("whisperr")
    logger.propagate, handlers = False, logger.handlers[:]
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        with open_client(server.url, key) as client:
            track(client, [0])
            assert client.flush()
    finally:
        logger.propagate, logger.handlers = True, handlers
        logger.setLevel(logging.NOTSET)
    assert numbers_at(server, key) == [0]


def test_debug_writes_to_the_stderr_of_the_moment(
    server: Sandbox, key: str, tmp_path: Path
) -> None:
    """And to none that is closed, or gone: a test, or a notebook, replaces it."""
    source = """
        import io
        first, second = io.StringIO(), io.StringIO()
        real, sys.stderr = sys.stderr, first
        client = new_client(debug=True)
        another = new_client(debug=True)
        sys.stderr = second
        track(client, [1])
        assert client.flush()
        assert first.getvalue() == ""
        assert second.getvalue().count("POST ") == 1, second.getvalue()
        second.close()
        track(client, [2])
        assert client.flush()
        sys.stderr = None
        track(client, [3])
        assert client.flush()
        sys.stderr = real
    """
    done = run_app(server, key, tmp_path, source, flags=("-X", "dev"))
    assert done.stderr == ""
    assert_arrived(server, key, [1, 2, 3])
