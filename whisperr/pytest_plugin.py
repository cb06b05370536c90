"""The pytest plugin: fixtures ``whisperr_events`` and ``whisperr_sandbox``.

pytest imports it in every run where whisperr is installed, so it costs next to nothing until
one of the fixtures is used, and asks no more of pytest than its oldest interfaces.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any, Generator, Iterator

import pytest

if TYPE_CHECKING:
    from whisperr.sandbox import Sandbox
    from whisperr.testing import Recording, SandboxAccount


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--whisperr-events=FILE``, for ``whisperr events``."""
    parser.getgroup("whisperr").addoption(
        "--whisperr-events",
        metavar="FILE",
        dest="whisperr_events_file",
        help="append what the tests with whisperr_events track to this file, for `whisperr events`",
    )


@pytest.fixture
def whisperr_events(request: pytest.FixtureRequest) -> Iterator[Recording]:
    """What the test tracks, through any client of the process, as a ``Recording``; nothing is sent.

    A call that a client refuses fails the test, see ``Recording.check``.
    """
    from whisperr.testing import recording

    with recording() as events:
        yield events
    file = request.config.getoption("whisperr_events_file", None)
    if file:
        from whisperr.testing._plan_file import append

        append(file, events)


@pytest.fixture
def whisperr_sandbox(_whisperr_sandbox_server: Sandbox) -> Iterator[SandboxAccount]:
    """The ingestion API on this machine, over real HTTP, as a ``SandboxAccount``.

    It needs the extra ``sandbox``. The server is started once for all tests of a process; the
    key is new in each test.
    """
    from whisperr.testing import SandboxAccount

    account = SandboxAccount(_whisperr_sandbox_server, f"wrk_test_{uuid.uuid4().hex}")
    yield account
    account.close()


@pytest.fixture(scope="session")
def _whisperr_sandbox_server() -> Iterator[Sandbox]:
    """One for all tests of a process (under pytest-xdist, of a worker)."""
    from whisperr.sandbox import Sandbox

    with Sandbox() as server:
        yield server


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, None]:
    """A refused call fails its test, and not only the fixture's end."""
    outcome = yield
    events = getattr(item, "funcargs", {}).get("whisperr_events")
    if events is not None and outcome.excinfo is None and hasattr(outcome, "force_exception"):
        try:
            events.check()
        except AssertionError as failure:
            outcome.force_exception(failure)
