"""Fixtures of all tests: one real ingestion server for the session, one key for each test."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator

import pytest

from support.broker import broker
from support.sandboxes import Client
from whisperr.sandbox import Sandbox

__all__ = ["broker"]


@pytest.fixture(scope="session", autouse=True)
def _no_proxies() -> None:
    """All traffic stays on loopback, whatever the environment of the developer says."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        os.environ.pop(name, None)
        os.environ.pop(name.upper(), None)


@pytest.fixture(scope="session")
def server() -> Iterator[Sandbox]:
    """The ingestion API, strict, in a process of its own."""
    with Sandbox() as sandbox:
        yield sandbox


@pytest.fixture
def key() -> str:
    """An API key no other test uses: all that the server counts, it counts by key."""
    return f"wrk_{uuid.uuid4().hex}"


@pytest.fixture(scope="module")
def box() -> Iterator[Sandbox]:
    """A sandbox that is tested itself: one for the tests of a module."""
    with Sandbox() as running:
        yield running


@pytest.fixture
def client(box: Sandbox, key: str) -> Iterator[Client]:
    """What speaks HTTP to it, under the test's key."""
    made = Client(box.url, key)
    yield made
    made.close()
