"""Fixtures of all tests: one real ingestion server for the session, one key for each test.

The hooks are in support/: what is left out (parts), which tests are which (selection).
"""

from __future__ import annotations

import os
import signal
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import watchdog
from support.broker import broker
from support.parts import pytest_terminal_summary
from support.sandboxes import ApiClient, PatientSandbox
from support.selection import pytest_collection_modifyitems, pytest_make_parametrize_id
from whisperr.sandbox import Sandbox

__all__ = [
    "broker",
    "pytest_collection_modifyitems",
    "pytest_make_parametrize_id",
    "pytest_terminal_summary",
]


def pytest_configure() -> None:
    """What all programs of the tests inherit: they end with this process, and hear Ctrl-C."""
    watchdog.start()
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell started us in the background
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def _plain_environment() -> None:
    """All traffic stays on loopback, and options are the defaults, whatever the developer's says."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        os.environ.pop(name, None)
        os.environ.pop(name.upper(), None)
    for name in [name for name in os.environ if name.startswith("WHISPERR_")]:
        del os.environ[name]


@pytest.fixture(scope="session")
def server() -> Iterator[Sandbox]:
    """The ingestion API, strict, in a process of its own."""
    with PatientSandbox() as sandbox:
        yield sandbox


@pytest.fixture
def key() -> str:
    """An API key no other test uses: all that the server counts, it counts by key."""
    return f"wrk_{uuid.uuid4().hex}"


@pytest.fixture
def public_path() -> Iterator[Path]:
    """A folder that every user of the machine can enter. pytest's own is for one user alone, and each
    run of pytest that begins makes it so again."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture(scope="module")
def box() -> Iterator[Sandbox]:
    """A sandbox that is tested itself: one for the tests of a module."""
    with PatientSandbox() as running:
        yield running


@pytest.fixture
def api(box: Sandbox, key: str) -> Iterator[ApiClient]:
    """What speaks HTTP to it, under the test's key."""
    made = ApiClient(box.url, key)
    yield made
    made.close()
