"""The ASGI middleware under uvicorn alone, which ends without an exit handler of Python."""

from __future__ import annotations

import asyncio
import json
import signal
from collections import Counter
from pathlib import Path
from typing import Any, MutableMapping

import pytest
import trio

from support.clients import open_client, track
from support.deadlines import generous
from support.servers import Setting, assert_delivered
from whisperr.integrations.asgi import FlushOnShutdown
from whisperr.sandbox import Sandbox

REQUESTS = 40
STOPPED_BY = generous(10.0)  # seconds
SILENT = {"flush_at": 1_000_000, "flush_interval": 999, "shutdown_timeout": 0}

applications = pytest.mark.parametrize("name", ["bare", "starlette"])
signals = pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=str)


@applications
@signals
def test_all_arrives_when_uvicorn_stops(
    server: Sandbox, key: str, tmp_path: Path, name: str, number: signal.Signals
) -> None:
    """A wrapped application delivers at lifespan.shutdown all that it tracked: an application that
    knows no lifespan, and one (Starlette) that tracks in its own shutdown still.
    """
    setting = Setting(tmp_path, server, key)
    with setting.uvicorn(f"served_asgi:{name}", options=SILENT) as served:
        served.send(REQUESTS)
        served.stop(number)
        tracked = served.numbers()
    assert len(tracked) == REQUESTS + (2 if name == "starlette" else 0)
    assert_delivered(server, key, tracked)


@signals
def test_all_arrives_from_uvicorns_workers(
    server: Sandbox, key: str, tmp_path: Path, number: signal.Signals
) -> None:
    """``uvicorn --workers 2``, whose workers are spawned: each delivers what it tracked."""
    setting = Setting(tmp_path, server, key)
    with setting.uvicorn("served_asgi:starlette", "--workers", "2", options=SILENT) as served:
        served.wait_until_said("Application startup complete", 2)
        served.send(REQUESTS)
        served.stop(number)
        tracked = served.numbers()
    assert len(tracked) == REQUESTS + 2 * 2
    assert_delivered(server, key, tracked)


@applications
@signals
def test_a_hanging_server_delays_the_stop_within_bounds_and_is_reported(
    server: Sandbox, key: str, tmp_path: Path, name: str, number: signal.Signals
) -> None:
    """Where the ingestion server never answers, uvicorn ends after the middleware's time-out, and
    the loss is reported once, to the logger and to on_error, by count.
    """
    server.inject(key, {"do": "hang", "times": -1})
    setting = Setting(tmp_path, server, key)
    options = {**SILENT, "shutdown_timeout": 999.0}  # no exit handler is to be what ends it
    with setting.uvicorn(f"served_asgi:{name}", options=options, flush_timeout=1.0) as served:
        served.send(REQUESTS)
        assert served.stop(number) < STOPPED_BY
        tracked = len(served.numbers())
        reports = [(line["type"], line["count"]) for line in served.lines("reports")]
        assert len(served.lines("warnings")) == 1
    assert reports == [("dropped", tracked)]
    assert server.events(key) == []


# --- aflush


def test_aflush_delivers_in_an_event_loop(server: Sandbox, key: str, tmp_path: Path) -> None:
    """``await client.aflush()`` delivers what was tracked before it, and says True."""
    setting = Setting(tmp_path, server, key)
    with setting.uvicorn("served_asgi:bare", options=SILENT) as served:
        served.send(REQUESTS)
        told = json.loads(served.ask("/aflush"))
        assert told["settled"] is True
        assert_delivered(server, key, served.numbers())
        served.stop()


def test_aflush_lets_the_event_loop_go_on(server: Sandbox, key: str, tmp_path: Path) -> None:
    """While ``aflush()`` waits for a server that never answers, the event loop turns; it says False
    when its time is over.
    """
    server.inject(key, {"do": "hang", "times": -1})
    setting = Setting(tmp_path, server, key)
    with setting.uvicorn("served_asgi:bare", options=SILENT, flush_timeout=1.0) as served:
        served.send(1)
        told = json.loads(served.ask("/aflush"))
        served.stop()
    assert told["settled"] is False
    assert told["turns"] > 10


# --- the messages of a lifespan, one application for each way to answer them

Message = MutableMapping[str, Any]


async def ignorant(scope: Message, receive: Any, send: Any) -> None:
    raise ValueError("no lifespan here")


async def silent(scope: Message, receive: Any, send: Any) -> None:
    return


async def late(scope: Message, receive: Any, send: Any) -> None:
    await receive()
    raise ValueError("no lifespan here")


async def forgetful(scope: Message, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "lifespan.startup.complete"})


async def polite(scope: Message, receive: Any, send: Any) -> None:
    await forgetful(scope, receive, send)
    await receive()
    await send({"type": "lifespan.shutdown.complete"})


async def tidy(scope: Message, receive: Any, send: Any) -> None:
    """Leaves nothing of its loop's executor."""
    await forgetful(scope, receive, send)
    await receive()
    loop: Any = asyncio.get_running_loop()
    await loop.run_in_executor(None, int)
    if hasattr(loop, "shutdown_default_executor"):  # Python 3.9
        await loop.shutdown_default_executor()
    await send({"type": "lifespan.shutdown.complete"})


async def failing(scope: Message, receive: Any, send: Any) -> None:
    await forgetful(scope, receive, send)
    await receive()
    await send({"type": "lifespan.shutdown.failed", "message": "no"})


async def raising(scope: Message, receive: Any, send: Any) -> None:
    await forgetful(scope, receive, send)
    await receive()
    raise ArithmeticError("in its shutdown")


async def refusing(scope: Message, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "no"})


COMPLETE = ["lifespan.startup.complete", "lifespan.shutdown.complete"]
FAILED = ["lifespan.startup.complete", "lifespan.shutdown.failed"]
LIFESPANS = [
    pytest.param(ignorant, COMPLETE, None, id="raises-at-once"),
    pytest.param(silent, COMPLETE, None, id="returns-at-once"),
    pytest.param(late, COMPLETE, None, id="raises-after-startup-was-asked"),
    pytest.param(forgetful, COMPLETE, None, id="returns-after-startup"),
    pytest.param(polite, COMPLETE, None, id="speaks-lifespan"),
    pytest.param(tidy, COMPLETE, None, id="shuts-its-executor-down"),
    pytest.param(failing, FAILED, None, id="fails-to-shut-down"),
    pytest.param(raising, COMPLETE[:1], ArithmeticError, id="raises-in-shutdown"),
    pytest.param(refusing, ["lifespan.startup.failed"], None, id="fails-to-start"),
]


@pytest.mark.parametrize("app, answers, raised", LIFESPANS)
def test_each_kind_of_application_has_its_lifespan(
    server: Sandbox, key: str, app: Any, answers: list[str], raised: type[Exception] | None
) -> None:
    """Whatever an application does with its lifespan, the server gets the answers it would have
    got, an application without one gets the right ones, and at the shutdown all is delivered.
    """
    with open_client(server.url, key) as client:
        track(client, range(3))
        found, error = asyncio.run(_live(FlushOnShutdown(app)))
        delivered = 0 if app is refusing else 3
        assert client.stats()["delivered"] == delivered
    assert found == answers
    assert type(error) is (raised or type(None))


def test_a_lifespan_under_trio(server: Sandbox, key: str) -> None:
    """Hypercorn's other loop, which has none of asyncio's executors."""
    with open_client(server.url, key) as client:
        track(client, range(3))
        found, error = trio.run(_live, FlushOnShutdown(polite))
        assert client.stats()["delivered"] == 3
    assert (found, error) == (COMPLETE, None)


async def _live(app: FlushOnShutdown) -> tuple[list[str], Exception | None]:
    """What the application says in one whole lifespan, and what it raises."""
    orders = iter(["lifespan.startup", "lifespan.shutdown"])
    found: list[str] = []

    async def receive() -> Message:
        return {"type": next(orders)}

    async def send(message: Message) -> None:
        found.append(message["type"])

    try:
        await app({"type": "lifespan"}, receive, send)
    except Exception as error:
        return found, error
    return found, None


def test_requests_pass_through_untouched() -> None:
    """What is no lifespan goes to the application with the server's own callables."""
    seen: list[object] = []

    async def app(scope: Message, receive: Any, send: Any) -> None:
        seen.extend([scope["type"], receive, send])

    receive, send = object(), object()
    asyncio.run(FlushOnShutdown(app)({"type": "http"}, receive, send))  # type: ignore[arg-type]
    assert Counter(map(id, seen[1:])) == Counter([id(receive), id(send)])
    assert seen[0] == "http"
