"""``whisperr.track(...)``: one client for the process, made when it is needed."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import whisperr
from support import run_program
from support.clients import Reports, assert_arrived, numbers_at
from whisperr import Whisperr, _default
from whisperr.sandbox import Sandbox


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    """Each test begins without one, and leaves none."""
    _default._published.clear()
    yield
    client = _default._published.pop("client", None)
    if client is not None:
        client.shutdown(0)


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, server: Sandbox, key: str) -> None:
    monkeypatch.setenv("WHISPERR_API_KEY", key)
    monkeypatch.setenv("WHISPERR_BASE_URL", server.url)


def test_it_is_made_at_the_first_call(server: Sandbox, key: str, environment: None) -> None:
    """Of the environment; flush() alone makes none."""
    assert whisperr.flush() and not _default._published
    whisperr.track("u", "number_seen", {"n": 0}, message_id="m")
    whisperr.identify("u", traits={"plan": "pro"})
    assert whisperr.flush(30)
    assert assert_arrived(server, key, 1)["identities"] == 1


def test_all_threads_get_the_same(environment: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when all ask first at once."""
    monkeypatch.setenv("WHISPERR_FLUSH_AT", "1000")
    barrier = threading.Barrier(8)

    def track() -> None:
        barrier.wait()
        whisperr.track("u", "number_seen")

    threads = [threading.Thread(target=track) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert _default._published["client"].stats()["accepted"] == 8


def test_configure_goes_first(server: Sandbox, key: str) -> None:
    """Its options are those of Whisperr. A second call makes another, and the first still delivers."""
    reports = Reports()
    first = whisperr.configure(key, base_url=server.url, on_error=reports, flush_at=1000)
    whisperr.track("u", "number_seen", {"n": 0})
    assert first.stats()["accepted"] == 1
    with pytest.raises(ValueError, match=r"^flush_at "):
        whisperr.configure(key, flush_at=0)
    assert _default._published["client"] is first
    second = whisperr.configure(api_key=key, base_url=server.url)
    whisperr.track("u", "number_seen", {"n": 1})
    assert second.stats()["accepted"] == 1
    del first
    assert whisperr.flush(30)
    server.wait_for(key, 2)
    assert sorted(numbers_at(server, key)) == [0, 1] and not reports.all


def test_without_a_key_it_does_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """It never raises; one WARNING says what is missing, and configure() mends it."""
    for _ in range(3):
        whisperr.track("u", "number_seen")
        whisperr.identify("u")
    assert whisperr.flush()
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage().startswith("whisperr: nothing will be sent: api_key is required")
    assert whisperr.configure("wrk_k").ready


def test_forks(server: Sandbox, key: str, tmp_path: Path) -> None:
    """A child uses the parent's, or makes its own: nothing is lost, nothing is sent twice."""
    source = """
        import os, whisperr
        for made_before in (False, True):
            if made_before:
                whisperr.track("u", "number_seen", {"n": 100})
            children = []
            for number in range(2):
                pid = os.fork()
                if not pid:
                    whisperr.track("u", "number_seen", {"n": number + 2 * made_before})
                    assert whisperr.flush(60)
                    os._exit(0)
                children.append(pid)
            for pid in children:
                assert os.waitpid(pid, 0)[1] == 0
    """
    environment = {"WHISPERR_API_KEY": key, "WHISPERR_BASE_URL": server.url}
    run_program(source, tmp_path, environment=environment)
    assert_arrived(server, key, 5)
    assert sorted(numbers_at(server, key)) == [0, 1, 2, 3, 100]


def test_a_block_delivers_at_its_end(server: Sandbox, key: str) -> None:
    """Also by an exception, which passes; later calls are lost, and said so."""
    with Whisperr(key, base_url=server.url) as w:
        w.track("u", "number_seen", {"n": 0})
    assert numbers_at(server, key) == [0]
    with pytest.raises(KeyError), Whisperr(key, base_url=server.url) as w:
        w.track("u", "number_seen", {"n": 1})
        raise KeyError
    assert "closed" in repr(w)

    async def block() -> None:
        async with Whisperr(key, base_url=server.url) as w:
            w.track("u", "number_seen", {"n": 2})

    asyncio.run(block())
    assert_arrived(server, key, 3)
    json.dumps(w.stats())
