"""``aflush()`` and ``ashutdown()`` say True or False, whatever state the loop and its executor are in."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from support.apps import assert_arrived, run_app
from support.clients import open_client, track
from support.deadlines import DEADLINE, generous
from whisperr import Whisperr, lifecycle
from whisperr.sandbox import Sandbox

pytestmark = pytest.mark.filterwarnings("error")


def test_in_a_loop(server: Sandbox, key: str) -> None:
    """Both are True when all was delivered."""
    with open_client(server.url, key) as client:
        track(client, [0])
        assert asyncio.run(client.aflush()) is True
        track(client, [1])
        assert asyncio.run(client.ashutdown()) is True


def test_all_clients_in_a_loop(server: Sandbox, key: str) -> None:
    """``lifecycle`` has the same two for all of them at once; the loop goes on meanwhile."""
    server.inject(key, {"do": "delay", "seconds": 0.2})

    async def main() -> list[bool]:
        flushing = asyncio.ensure_future(lifecycle.aflush_all(DEADLINE))
        await asyncio.sleep(0)
        assert not flushing.done()
        return [await flushing, await lifecycle.ashutdown_all()]

    with open_client(server.url, key) as one, open_client(server.url, key) as other:
        track(one, [0])
        track(other, [1])
        assert asyncio.run(main()) == [True, True]
        assert one.stats()["delivered"] == other.stats()["delivered"] == 1


def test_without_an_executor(server: Sandbox, key: str) -> None:
    """The loop's own executor may be shut down, or be one that takes nothing."""

    async def main(client: Whisperr) -> list[bool]:
        track(client, [0])
        loop: Any = asyncio.get_running_loop()
        await loop.run_in_executor(None, int)
        if hasattr(loop, "shutdown_default_executor"):  # Python 3.9
            await loop.shutdown_default_executor()
        return [await client.aflush(), await client.ashutdown()]

    with open_client(server.url, key) as client:
        assert asyncio.run(main(client)) == [True, True]


def test_under_cancellation(server: Sandbox, key: str) -> None:
    """A wait that is cancelled raises what asyncio raises; the next one, also in the same task's
    ``finally``, answers."""
    server.inject(key, {"do": "delay", "seconds": 1})
    answers = []

    async def wait(client: Whisperr) -> None:
        try:
            await client.aflush()
        finally:
            answers.append(await client.aflush())

    async def main(client: Whisperr) -> None:
        track(client, [0])
        task = asyncio.ensure_future(wait(client))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await asyncio.wait_for(client.aflush(), generous(30)) is True

    with open_client(server.url, key) as client:
        asyncio.run(main(client))
    assert answers == [True]


def test_a_time_out_that_is_no_number(server: Sandbox, key: str) -> None:
    """It is the caller's to hear of."""
    with open_client(server.url, key) as client, pytest.raises(ValueError, match="timeout"):
        asyncio.run(client.aflush(-1))


AT_EXIT = """
import asyncio
import atexit
{before}
client = new_client()
atexit.register(lambda: print(asyncio.run(client.{call}(20))))
{after}
track(client, [1])
"""


@pytest.mark.parametrize("call", ["aflush", "ashutdown"])
def test_at_exit(server: Sandbox, key: str, tmp_path: Path, call: str) -> None:
    """In an exit handler no executor takes anything, and from Python 3.12 on no thread starts."""
    source = AT_EXIT.format(before="", after="", call=call)
    done = run_app(server, key, tmp_path, source, flags=("-W", "error"))
    assert (done.stdout, done.stderr) == ("True\n", "")
    assert_arrived(server, key, [1])


OTHER_LOOPS = {
    "uvloop": "import uvloop; run = lambda main: uvloop.new_event_loop().run_until_complete(main())",
    "trio": "from trio import run",
    "anyio-on-trio": "import anyio; run = lambda main: anyio.run(main, backend='trio')",
    "anyio-on-asyncio": "import anyio; run = anyio.run",
}


@pytest.mark.parametrize("loop", OTHER_LOOPS)
def test_with_other_loops(server: Sandbox, key: str, tmp_path: Path, loop: str) -> None:
    """uvloop's is an asyncio loop; under trio, which has none, the call itself waits."""
    source = f"""
        {OTHER_LOOPS[loop]}
        client = new_client()

        async def main():
            track(client, [1])
            assert await client.aflush() is True
            track(client, [2])
            assert await client.ashutdown() is True

        run(main)
    """
    run_app(server, key, tmp_path, source)
    assert_arrived(server, key, [1, 2])
