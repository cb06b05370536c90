"""A server that starts again after a crash delivers what the crash has left, before its first event."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from support.journals import adopter
from support.programs import run_program
from support.short_lives import leave_short_lives
from whisperr.integrations.asgi import FlushOnShutdown
from whisperr.integrations.celery import _start_main
from whisperr.sandbox import Sandbox

LEFT = 3


async def silent(scope: Any, receive: Any, send: Any) -> None:
    """An application that knows no lifespan."""
    raise AssertionError(scope["type"])


def test_an_asgi_server_that_starts(server: Sandbox, key: str, tmp_path: Path) -> None:
    """At the end of ``lifespan.startup``, and while the server goes on."""
    leave_short_lives(tmp_path / "journal", server.url, key, LEFT)

    async def serve() -> None:
        started = asyncio.Event()
        received = iter(["lifespan.startup", "lifespan.shutdown"])
        arrived = asyncio.Event()

        async def receive() -> dict[str, str]:
            kind = next(received)
            if kind == "lifespan.shutdown":
                await arrived.wait()
            return {"type": kind}

        async def send(message: Any) -> None:
            if message["type"] == "lifespan.startup.complete":
                started.set()

        running = asyncio.ensure_future(
            FlushOnShutdown(silent)({"type": "lifespan"}, receive, send)
        )
        await started.wait()
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, server.wait_for, key, LEFT)
        arrived.set()
        await running

    client = adopter(server.url, key, tmp_path / "journal")
    asyncio.run(serve())
    assert client.stats()["adopted"] == LEFT
    assert client.shutdown()


class Consumer:
    """What Celery's ``worker_ready`` is sent by."""

    def __init__(self, pool: object) -> None:
        self.pool = pool


def pool_of(module: str) -> object:
    return type("TaskPool", (), {"__module__": module})()


@pytest.mark.parametrize(
    ("module", "starts"),
    [("celery.concurrency.thread", True), ("celery.concurrency.prefork", False)],
)
def test_a_celery_worker_that_is_ready(
    server: Sandbox, key: str, tmp_path: Path, module: str, starts: bool
) -> None:
    """With threads its main process delivers; one that forks its pool starts no thread."""
    leave_short_lives(tmp_path / "journal", server.url, key, LEFT)
    client = adopter(server.url, key, tmp_path / "journal")
    _start_main(sender=Consumer(pool_of(module)))
    if starts:
        server.wait_for(key, LEFT)
    else:
        assert client._own_engine()._senders == {}  # type: ignore[union-attr]
    assert client.shutdown()


def test_a_django_site_has_its_client_when_it_is_loaded(tmp_path: Path) -> None:
    """With a journal, so that the hook of a server finds it; without one it comes at the first use."""
    source = f"""
        import django
        from django.conf import settings

        settings.configure(WHISPERR_API_KEY="wrk_k", ALLOWED_HOSTS=["*"])
        django.setup()
        from whisperr._client import live_clients
        from whisperr.django import WhisperrMiddleware

        WhisperrMiddleware(lambda request: None)
        assert live_clients() == []
        settings.WHISPERR_JOURNAL_DIR = {str(tmp_path / "journal")!r}
        WhisperrMiddleware(lambda request: None)
        assert len(live_clients()) == 1
        """
    run_program(source, tmp_path)
