"""AWS Lambda: what an invocation tracks has arrived when Lambda gets the answer.

Lambda's own runtime client, on a runtime API of ours that freezes it as Lambda does and kills it
at the end. The client delivers nothing by itself.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from support.apps import run_app
from support.clients import NEVER, numbers_at, open_client, track
from support.lambda_runtime import function
from whisperr.integrations.aws_lambda import deliver
from whisperr.sandbox import Sandbox

PATIENT = {"flush_at": NEVER, "flush_interval": NEVER}
INVOCATIONS = 50

HEAD = """
    import asyncio, json, os
    from whisperr import Whisperr
    from whisperr.integrations.aws_lambda import deliver

    client = Whisperr(os.environ["APP_KEY"], base_url=os.environ["APP_URL"],
                      **json.loads(os.environ["APP_OPTIONS"]))

    def track(n):
        client.track("user_42", "it_happened", {"n": n})
"""
KINDS = {
    "function": """
        @deliver
        def handler(event, context):
            track(event)
            return event
    """,
    "coroutine": """
        @deliver(timeout=5)
        async def answer(event, context):
            track(event)
            return event

        def handler(event, context):
            return asyncio.run(answer(event, context))
    """,
    "generator": """
        @deliver
        def answer(event, context):
            yield event
            track(event)

        def handler(event, context):
            return list(answer(event, context))[0]
    """,
}


def environment(server: Sandbox, key: str, **options: Any) -> dict[str, str]:
    given = json.dumps({**PATIENT, **options})
    return {"APP_KEY": key, "APP_URL": server.url, "APP_OPTIONS": given}


def source(text: str) -> str:
    return dedent(HEAD) + dedent(text)


@pytest.mark.parametrize("kind", KINDS)
def test_each_event_arrives_before_its_answer(
    server: Sandbox, key: str, tmp_path: Path, kind: str
) -> None:
    """Frozen after each answer, killed after the last one: 50 invocations, 50 events, each there
    when Lambda hears the answer.
    """

    def look() -> list[int]:
        return numbers_at(server, key)

    with function(tmp_path, source(KINDS[kind]), look, environment(server, key)) as runtime:
        for n in range(INVOCATIONS):
            answer = runtime.invoke(n)
            assert (answer.kind, answer.body) == ("response", n)
            assert answer.seen == list(range(n + 1))
        runtime.wait_until_frozen()
    assert numbers_at(server, key) == list(range(INVOCATIONS))
    ledger = server.ledger(key)
    assert (ledger["twice"], ledger["resent"]) == (0, 0), ledger


def test_a_coroutine_without_an_executor(server: Sandbox, key: str) -> None:
    """One that has shut its loop's own down, and leaves by an exception at that."""

    @deliver
    async def handler(event: int, context: object) -> None:
        track(client, [event])
        loop: Any = asyncio.get_running_loop()
        await loop.run_in_executor(None, int)
        if hasattr(loop, "shutdown_default_executor"):  # Python 3.9
            await loop.shutdown_default_executor()
        raise LookupError

    with open_client(server.url, key) as client:
        with pytest.raises(LookupError):
            asyncio.run(handler(3, None))
        assert numbers_at(server, key) == [3]


def test_a_handler_that_raises(server: Sandbox, key: str, tmp_path: Path) -> None:
    """Lambda hears of the exception, and what was tracked before it has arrived."""
    text = """
        @deliver
        def handler(event, context):
            track(event)
            raise ValueError("no")
    """
    with function(
        tmp_path, source(text), lambda: numbers_at(server, key), environment(server, key)
    ) as runtime:
        answer = runtime.invoke(7)
    assert (answer.kind, answer.body["errorType"]) == ("error", "ValueError")
    assert answer.seen == [7]


def test_a_hanging_server_holds_the_answer_back_within_bounds(
    server: Sandbox, key: str, tmp_path: Path
) -> None:
    """The answer goes out all the same; what is left goes with the next invocation."""
    server.inject(key, {"do": "hang", "times": 1})
    text = """
        @deliver(timeout=0.5)
        def handler(event, context):
            track(event)
    """
    options = environment(server, key, request_timeout=1.0)
    with function(tmp_path, source(text), lambda: numbers_at(server, key), options) as runtime:
        assert runtime.invoke(1).seen == []
        while 1 not in runtime.invoke(2).seen:  # its request has to time out first, thawed
            pass


def test_snapstart(server: Sandbox, key: str, tmp_path: Path) -> None:
    """Under the runtime's own hooks: what the initialization tracked arrives before the snapshot, and
    what is tracked after the restore has ids of another prefix.
    """
    if sys.version_info < (3, 12):
        pytest.skip("SnapStart is of Python 3.12 and later")
    text = """
        track("init")

        @deliver
        def handler(event, context):
            track(event)
    """
    environ = {**environment(server, key), "AWS_LAMBDA_INITIALIZATION_TYPE": "snap-start"}
    with function(tmp_path, source(text), lambda: numbers_at(server, key), environ) as runtime:
        assert runtime.asks.get(timeout=60) == "restore"
        assert numbers_at(server, key) == ["init"]
        runtime.restored.set()
        assert runtime.invoke(1).seen == ["init", 1]
    init, first = (event["context"]["$message_id"] for event in server.events(key))
    assert init[:20] != first[:20]


# --- copies of one state

COPIES = """
    import mmap
    from whisperr import lifecycle
    KEEP_ON_FORK = 19  # MADV_KEEPONFORK: what tells a fork, told to keep quiet

    def become_a_copy(numbers):
        if {restored}:
            lifecycle.after_restore()
        track(client, numbers)
        assert client.flush()
        os._exit(0)

    client = new_client(flush_at=1000, flush_interval=1000)
    track(client, [0])
    assert client.flush()
    client._engine.token.madvise(KEEP_ON_FORK)
    for first in (1, 11):
        pid = os.fork()
        if pid == 0:
            become_a_copy(range(first, first + 10))
        reap([pid])
"""


@pytest.mark.parametrize("restored", [False, True])
def test_two_copies_of_one_state(server: Sandbox, key: str, tmp_path: Path, restored: bool) -> None:
    """Two copies of a process image that no fork hook has told of it go on with the same ids;
    after ``after_restore()`` no id is there twice.
    """
    run_app(server, key, tmp_path, COPIES.format(restored=restored))
    ids = [event["context"]["$message_id"] for event in server.events(key)]
    if not restored:
        assert len(set(ids)) < 21  # the trap
    else:
        assert sorted(numbers_at(server, key)) == list(range(21))
        assert len(set(ids)) == 21
        assert len({each[:20] for each in ids}) == 3


def test_what_is_queued_in_a_snapshot(server: Sandbox, key: str) -> None:
    """It is delivered after the restore, under the ids that it had, by the engine that held it."""
    from whisperr import lifecycle

    with open_client(server.url, key) as client:
        track(client, [1])
        lifecycle.after_restore()
        track(client, [2])
        assert client.flush()
    server.wait_for(key, 2)
    assert sorted(numbers_at(server, key)) == [1, 2]


# --- the decorator, without Lambda


class Context:
    """As Lambda's: so much time is left."""

    def __init__(self, milliseconds: float) -> None:
        self._left = milliseconds

    def get_remaining_time_in_millis(self) -> float:
        return self._left


def test_the_time_that_lambda_leaves(server: Sandbox, key: str) -> None:
    """Where less time is left than the time-out, there is no wait for more than that."""
    server.inject(key, {"do": "hang", "times": -1})
    with pytest.raises(ZeroDivisionError), open_client(server.url, key) as client:

        @deliver(timeout=10_000)
        def handler(event: object, context: Context) -> None:
            track(client, [1])

        handler({}, Context(300))
        assert client.stats()["pending"] == 1
        raise ZeroDivisionError  # and no wait for what the server never answers


def test_answers_in_pieces(server: Sandbox, key: str) -> None:
    """An asynchronous generator delivers after its last piece, and a generator that is left early, too."""
    with open_client(server.url, key) as client:

        @deliver
        async def pieces(event: object, context: object) -> Any:
            yield 1
            track(client, [1])
            yield 2

        async def collect() -> list[int]:
            return [piece async for piece in pieces({}, None)]

        assert asyncio.run(collect()) == [1, 2]
        assert numbers_at(server, key) == [1]

        @deliver
        def left_early(event: object, context: object) -> Iterator[int]:
            track(client, [2])
            yield 1
            yield 2

        given = left_early({}, None)
        assert next(given) == 1
        given.close()
        assert numbers_at(server, key) == [1, 2]


def test_the_function_keeps_its_name() -> None:
    """Tools find the handler by its name and its text."""

    @deliver
    def handler(event: object, context: object) -> None:
        """What it does."""

    assert (handler.__name__, handler.__doc__) == ("handler", "What it does.")
