"""How the application hears of trouble, and that nothing it does then harms delivery."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import Any, Callable

import pytest

from support import run_program
from support.clients import (
    NEVER,
    Reports,
    assert_arrived,
    assert_closed,
    flush_until_settled,
    open_client,
    track,
)
from whisperr import Whisperr, WhisperrError
from whisperr.sandbox import Sandbox

LOSE_ONE_BATCH = {"do": "status", "status": 410}


def lose_a_batch_among_three(
    server: Sandbox, key: str, then: Callable[[Whisperr, WhisperrError], object]
) -> tuple[Reports, dict[str, Any]]:
    """Deliver three batches of ten, the first of which is dropped, with a callback that acts at the
    first report. Returns what was reported and the client's last figures."""
    server.inject(key, LOSE_ONE_BATCH)
    acted: list[WhisperrError] = []

    def act(error: WhisperrError) -> None:
        acted.append(error)
        if len(acted) == 1:
            then(client, error)

    reports = Reports(act)
    with open_client(server.url, key, on_error=reports, max_batch_size=10) as client:
        track(client, range(30))
        flush_until_settled(client)
    return reports, client.stats()


# --- whatever a callback does


def _raise(error: BaseException) -> Callable[[Whisperr, WhisperrError], None]:
    def act(client: Whisperr, report: WhisperrError) -> None:
        raise error

    return act


@pytest.mark.parametrize(
    "error",
    [RuntimeError("mine"), AssertionError(), MemoryError(), SystemExit(3), KeyboardInterrupt()],
    ids=lambda error: type(error).__name__,
)
def test_a_callback_may_raise(server: Sandbox, key: str, error: BaseException) -> None:
    """What a callback raises in the sender's thread, a SystemExit too, ends neither the thread nor
    delivery, and costs no event."""
    reports, stats = lose_a_batch_among_three(server, key, _raise(error))
    assert_arrived(server, key, 20)
    assert reports.brief() == [("dropped", 410, 10)]
    assert stats["dropped"] == {"rejected": 10}


def test_a_callback_may_flush(server: Sandbox, key: str) -> None:
    """flush() inside a callback says False at once instead of waiting for itself."""
    said: list[bool] = []
    lose_a_batch_among_three(server, key, lambda client, error: said.append(client.flush()))
    assert_arrived(server, key, 20)
    assert said == [False]


def test_a_callback_may_shut_down(server: Sandbox, key: str) -> None:
    """shutdown() inside a callback returns at once; what was accepted before is still delivered,
    and what comes later is refused."""
    said: list[bool] = []
    reports, stats = lose_a_batch_among_three(
        server, key, lambda client, error: said.append(client.shutdown())
    )
    assert_arrived(server, key, 20)
    assert said == [False]
    assert stats["pending"] == 0
    assert reports.brief() == [("dropped", 410, 10)]


def test_a_callback_may_track(server: Sandbox, key: str) -> None:
    """An event tracked inside a callback arrives."""
    lose_a_batch_among_three(server, key, lambda client, error: track(client, [1000]))
    assert_arrived(server, key, 21)


def test_a_callback_may_identify(server: Sandbox, key: str) -> None:
    """So does an identity."""
    lose_a_batch_among_three(server, key, lambda client, error: client.identify("late"))
    assert assert_arrived(server, key, 20)["identities"] == 1


def test_a_callback_may_look_at_the_figures(server: Sandbox, key: str) -> None:
    """stats() inside a callback closes, and knows of the loss already."""
    seen: list[dict[str, Any]] = []
    lose_a_batch_among_three(server, key, lambda client, error: seen.append(client.stats()))
    assert_closed(seen[0])
    assert (seen[0]["dropped"], seen[0]["pending"]) == ({"rejected": 10}, 20)


def test_a_callback_may_lose_more(server: Sandbox, key: str) -> None:
    """A call refused inside a callback is reported from inside it, and ends there."""
    reports, stats = lose_a_batch_among_three(
        server, key, lambda client, error: client.track("user", "Not Snake Case")
    )
    assert_arrived(server, key, 20)
    assert reports.brief() == [("dropped", 410, 10), ("dropped", None, 1)]
    assert stats["dropped"] == {"rejected": 10, "refused": 1}


def test_a_callback_may_use_another_thread(server: Sandbox, key: str) -> None:
    """A callback that waits for another thread, which tracks and looks, meets no lock of ours."""

    def act(client: Whisperr, error: WhisperrError) -> None:
        def work() -> None:
            track(client, [1000])
            client.stats()

        other = threading.Thread(target=work)
        other.start()
        other.join()

    lose_a_batch_among_three(server, key, act)
    assert_arrived(server, key, 21)


@pytest.mark.parametrize("status", [401, 503])
def test_a_callback_may_do_all_that_after_a_stop(server: Sandbox, key: str, status: int) -> None:
    """The same holds where a pass gave up: the callback finds every record pending, and all of them
    arrive."""
    server.inject(key, {"do": "status", "status": status})

    clients: list[Whisperr] = []
    pending: list[int] = []

    def act(error: WhisperrError) -> None:
        assert_closed(clients[0].stats())
        pending.append(clients[0].stats()["pending"])
        clients[0].flush()
        track(clients[0], [1000])
        raise RuntimeError("mine")

    with open_client(server.url, key, on_error=Reports(act), max_retries=0) as client:
        clients.append(client)
        track(client, range(30))
        flush_until_settled(client)
    assert pending == [30]
    assert_arrived(server, key, 31)


def test_a_callback_that_asks_for_a_flush_gets_one(server: Sandbox, key: str) -> None:
    """flush() inside a callback brings a pass soon, before the interval is over."""
    server.inject(key, {"do": "status", "status": 503})
    clients: list[Whisperr] = []

    def flush_again(error: WhisperrError) -> None:
        clients[0].flush()

    with open_client(server.url, key, on_error=flush_again, max_retries=0, flush_at=10) as client:
        clients.append(client)
        track(client, range(10))  # from here on nobody outside the callback asks
        server.wait_for(key, 10)
        assert client.flush()
    assert_arrived(server, key, 10)


# --- from which thread


def test_a_callback_that_flushes_at_every_failure_does_not_spin(server: Sandbox, key: str) -> None:
    """A pass that failed is not followed by another at once, whoever asks for it inside."""
    server.inject(key, {"do": "status", "status": 401, "times": -1})
    clients: list[Whisperr] = []
    options = {"on_error": lambda error: clients[0].flush(), "max_retries": 0}
    with open_client(server.url, key, flush_interval=0.4, **options) as client:
        clients.append(client)
        track(client, range(10))
        client.flush()
        with pytest.raises(TimeoutError):  # a second of intervals, and no more than these
            server.wait_for(key, 10, 1.0, field="requests")
        server.clear_faults(key)
        flush_until_settled(client)
    assert_arrived(server, key, 10)


def test_a_refused_call_is_reported_to_its_caller(server: Sandbox, key: str) -> None:
    """What a call itself can't take is reported in the thread that calls, before the call ends."""
    reports = Reports()
    with open_client(server.url, key, on_error=reports) as client:
        client.track("user", "Not Snake Case")
        client.track("user", "number_seen", {"what": object()})
        client.identify("user", preferred_channel="pigeon")
        assert reports.threads == [threading.current_thread().name] * 3
        assert client.stats()["dropped"] == {"refused": 3}
    assert reports.brief() == [("dropped", None, 1)] * 3


def test_what_the_server_says_is_reported_by_the_sender(server: Sandbox, key: str) -> None:
    """What comes of a request is reported in the sender's thread."""
    server.inject(key, LOSE_ONE_BATCH)
    reports = Reports()
    with open_client(server.url, key, on_error=reports) as client:
        track(client, range(3))
        assert client.flush()
    assert reports.threads == ["whisperr"]


@pytest.mark.parametrize("refused", [None, "event_type", "properties"])
def test_a_callback_may_raise_in_the_caller(server: Sandbox, key: str, refused: str) -> None:
    """track() raises nothing, also when on_error does."""

    def fail(error: WhisperrError) -> None:
        raise RuntimeError("mine")

    with open_client(server.url, key, on_error=fail) as client:
        kind = "Not Snake Case" if refused == "event_type" else "number_seen"
        client.track("user", kind, {"n": object() if refused == "properties" else 0})
        assert client.stats()["accepted"] == 1


# --- one WARNING and one call for each loss


def _overflow(server: Sandbox, key: str, reports: Reports) -> None:
    with open_client(server.url, key, on_error=reports, max_queue_size=10) as client:
        track(client, range(30))
        assert client.flush()


def _reject(server: Sandbox, key: str, reports: Reports) -> None:
    server.inject(key, {"do": "status", "status": 410})
    with open_client(server.url, key, on_error=reports) as client:
        track(client, range(20))
        assert client.flush()


def _refuse(server: Sandbox, key: str, reports: Reports) -> None:
    with open_client(server.url, key, on_error=reports) as client:
        client.track("user", "Not Snake Case")


def _close(server: Sandbox, key: str, reports: Reports) -> None:
    with open_client(server.url, key, on_error=reports) as client:
        client.shutdown()
        track(client, range(5))
        client.identify("user")
        assert client.stats()["dropped"] == {"closed": 6}


def _leave_undelivered(server: Sandbox, key: str, reports: Reports) -> None:
    with open_client(server.url, key, on_error=reports) as client:
        track(client, range(20))
        assert not client.shutdown(0)


LOSSES = [
    (_overflow, ("dropped", None, 20)),
    (_reject, ("dropped", 410, 20)),
    (_refuse, ("dropped", None, 1)),
    (_close, ("dropped", None, 1)),
    (_leave_undelivered, ("dropped", None, 20)),
]


@pytest.mark.parametrize(("lose", "report"), LOSSES)
def test_a_loss_is_one_warning_and_one_call(
    server: Sandbox,
    key: str,
    caplog: pytest.LogCaptureFixture,
    lose: Callable[[Sandbox, str, Reports], None],
    report: tuple[str, int | None, int],
) -> None:
    """Every loss is one WARNING of the logger ``whisperr`` and one on_error with the count; after a
    shutdown all further calls are one."""
    caplog.set_level(logging.INFO, "whisperr")
    reports = Reports()
    lose(server, key, reports)
    assert reports.brief() == [report]
    records = [record for record in caplog.records if record.name.startswith("whisperr")]
    assert [record.levelno for record in records] == [logging.WARNING]
    assert records[0].getMessage().startswith(f"whisperr: dropped: {reports.all[0].message}")


def test_a_lasting_failure_is_one_warning(
    server: Sandbox, key: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Every pass that gives up calls on_error, but the log says so once until something arrives."""
    caplog.set_level(logging.INFO, "whisperr")
    reports = Reports()
    with open_client(server.url, key, on_error=reports, max_retries=0) as client:
        for number in range(2):
            server.inject(key, {"do": "status", "status": 503, "times": 3})
            track(client, [number])
            assert [client.flush() for _ in range(4)] == [False, False, False, True]
    assert reports.brief() == [("retry_exhausted", 503, 1)] * 6
    records = [record for record in caplog.records if record.name.startswith("whisperr")]
    assert [record.levelno for record in records] == [logging.WARNING] * 2


def test_without_a_callback_the_warning_remains(
    server: Sandbox, key: str, caplog: pytest.LogCaptureFixture
) -> None:
    """An application without on_error finds the loss in its log."""
    with open_client(server.url, key, max_queue_size=10) as client:
        track(client, range(30))
        assert client.flush()
    assert "20 records" in caplog.text


def test_a_handler_that_fails_harms_nothing(server: Sandbox, key: str) -> None:
    """A logging filter of the application that raises is ignored as a callback is."""
    server.inject(key, LOSE_ONE_BATCH)

    def fail(record: logging.LogRecord) -> bool:
        raise RuntimeError("mine")

    logger = logging.getLogger("whisperr")
    logger.addFilter(fail)
    try:
        with open_client(server.url, key, max_batch_size=10) as client:
            track(client, range(30))
            flush_until_settled(client)
            client.track("user", "Not Snake Case")
    finally:
        logger.removeFilter(fail)
    assert_arrived(server, key, 20)


# --- nothing private in any log

TROUBLE = """
import sys
from whisperr import Whisperr

url, key = sys.argv[1:]
client = Whisperr(key, base_url=url, debug=True, max_batch_size=2, max_retries=1)
print(repr(client))
private = "secret@example.org"
for n in range(6):
    client.track(private, "number_seen", {"n": n, "mail": private}, {"ip": private})
client.identify(private, traits={"name": private}, email=private)
client.track(private, private)
client.track(private, "number_seen", {"mail": [private, object()]})
client.track(private, "number_seen", {"mail": private}, message_id=[private])
client.identify(private, preferred_channel=private)
for _ in range(8):
    client.flush()
client.shutdown()
client.track(private, "number_seen", {"mail": private})
print(client.stats())
"""


def test_debug_says_everything_but_what_is_private(
    server: Sandbox, key: str, tmp_path: Path
) -> None:
    """``debug=True`` writes batches, refusals and failures to stderr, and neither there nor in the
    figures appear the key, a user, a property, or what the server said about them."""
    echo = f"{key} secret@example.org"
    server.inject(
        key,
        {"do": "status", "status": 410, "body": echo, "path": "/v1/events/batch"},
        {"do": "status", "status": 401, "body": echo},
        {"do": "status", "status": 503, "body": echo, "times": 2},
        {"do": "raw", "bytes": echo, "times": 2},
        {"do": "status", "status": 302, "headers": {"Location": f"http://{key}/"}},
        {"do": "status", "status": 422, "body": echo, "times": -1, "path": "/v1/identify"},
    )
    outcome = run_program(TROUBLE, tmp_path, arguments=(server.url, key))
    said = outcome.stdout + outcome.stderr
    assert "whisperr[" in outcome.stderr
    for word in ("auth", "dropped", "retry_exhausted", "2 events", "shut down", "status 410"):
        assert word in outcome.stderr, said
    for private in (key, key[4:12], "secret", "example.org"):
        assert private not in said


def test_without_debug_stderr_is_for_warnings(server: Sandbox, key: str, tmp_path: Path) -> None:
    """Without ``debug`` a program in which all goes well writes nothing."""
    source = f"""
    import sys
    from whisperr import Whisperr
    client = Whisperr(sys.argv[2], base_url=sys.argv[1], flush_at={NEVER})
    client.track("user", "number_seen", {{"n": 0}})
    assert client.flush()
    """
    outcome = run_program(source, tmp_path, arguments=(server.url, key))
    assert (outcome.stdout, outcome.stderr) == ("", "")
    assert_arrived(server, key, 1)
