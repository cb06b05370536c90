"""Ends of a process: what is queued arrives, or its loss is said, within one bounded time."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import Outcome
from support.apps import assert_arrived, run_app
from support.deadlines import generous
from whisperr._clock import monotonic  # and not what an older time-machine has touched
from whisperr.sandbox import Sandbox

HANG = {"do": "hang", "times": -1}
SECOND = generous(1.0)  # what an exit may take beyond its deadline
AT_ONCE = generous(3.0)  # far below every deadline in the tests that use it
ENDLESS = 600  # seconds; of a request, where something else is to end it

TELLS = """
def tell(error):
    print("lost" if error.type == "dropped" else error.type, error.count, flush=True)

def last_words():
    print("begin %.3f" % time.monotonic(), flush=True)

"""


def time_of_end(done: Outcome, ended: float) -> float:
    """Seconds from the last ``begin`` that a program printed until it was over."""
    return ended - max(float(text) for text in re.findall(r"^begin (\S+)$", done.stdout, re.M))


def assert_loss_reported(done: Outcome, *counts: int) -> None:
    """One WARNING on stderr and one on_error for each of these losses, and no other."""
    told = sorted(map(int, re.findall(r"^lost (\d+)$", done.stdout, re.M)))
    warned = sorted(
        map(int, re.findall(r"^whisperr: dropped: lost (\d+) records?\b", done.stderr, re.M))
    )
    assert told == sorted(counts), f"{done.stdout}\n{done.stderr}"
    assert warned == sorted(counts), f"{done.stdout}\n{done.stderr}"


# --- what arrives at which end

ENDS = {
    "end-of-script": ("", 0),
    "sys.exit": ("sys.exit(3)", 3),
    "exception": ("raise ValueError('uncaught')", 1),
    "sigint": ("import signal; os.kill(os.getpid(), signal.SIGINT); time.sleep(20)", -2),
    "sigterm-handler": (
        "import signal; signal.signal(signal.SIGTERM, lambda *_: sys.exit(4));"
        "os.kill(os.getpid(), signal.SIGTERM); time.sleep(20)",
        4,
    ),
}


@pytest.mark.parametrize("end", ENDS)
def test_an_exit_delivers(server: Sandbox, key: str, tmp_path: Path, end: str) -> None:
    """However the interpreter comes to its end, what is queued arrives first."""
    statement, status = ENDS[end]
    source = f"client = new_client()\ntrack(client, range(10))\n{statement}\n"
    run_app(server, key, tmp_path, source, status=status)
    assert_arrived(server, key, range(10))


def test_handlers_of_the_application_may_track(server: Sandbox, key: str, tmp_path: Path) -> None:
    """atexit handlers that the application registered before and after it imported whisperr may
    track; the earlier ones run after the client's own.
    """
    source = """
        import atexit
        order = []

        def handler(name, numbers):
            order.append(name)
            track(client, numbers)

        def check():
            assert order == ["after", "before"], order
            stats = client.stats()
            assert (stats["accepted"], stats["delivered"]) == (30, 30), stats
            print("checked")

        atexit.register(check)
        atexit.register(handler, "before", range(10))
        client = new_client()
        atexit.register(handler, "after", range(10, 20))
        track(client, range(20, 30))
    """
    done = run_app(server, key, tmp_path, source)
    assert done.stdout == "checked\n", done.stderr
    assert_arrived(server, key, range(30))


@pytest.mark.parametrize("registered", ["before", "after"])
@pytest.mark.parametrize("count", [5, 50])
def test_the_first_use_may_be_in_a_handler(
    server: Sandbox, key: str, tmp_path: Path, registered: str, count: int
) -> None:
    """Events of a client that is used for the first time in an atexit handler arrive, whether the
    handler was registered before or after whisperr was imported.
    """
    register = f"atexit.register(lambda: track(client, range({count})))"
    lines = ["import atexit", "client = new_client(shutdown_timeout=60)"]
    lines.insert(1 if registered == "before" else 2, register)
    run_app(server, key, tmp_path, "\n".join(lines) + "\n")
    assert_arrived(server, key, range(count))


def test_a_client_made_in_a_handler(server: Sandbox, key: str, tmp_path: Path) -> None:
    """Even whisperr's import may wait until an atexit handler, where none can be registered."""
    source = """
        import atexit
        import logging  # and so threading: a lazy import alone would bring neither
        logging.getLogger()
        atexit.register(lambda: track(new_client(), range(30)))
    """
    run_app(server, key, tmp_path, source)
    assert_arrived(server, key, range(30))


def test_a_thread_that_tracks_on_after_the_script(
    server: Sandbox, key: str, tmp_path: Path
) -> None:
    """What a non-daemon thread tracks while the main thread has come to its end arrives."""
    source = """
        import threading
        client = new_client()

        def track_on():
            threading.main_thread().join()
            track(client, range(10, 60))

        threading.Thread(target=track_on).start()
        track(client, range(10))
    """
    run_app(server, key, tmp_path, source)
    assert_arrived(server, key, range(60))


def test_a_forgotten_client_delivers(server: Sandbox, key: str, tmp_path: Path) -> None:
    """A client that is garbage collected with events in its queue delivers them at once, and its
    thread ends.
    """
    source = """
        import threading
        client = new_client()
        track(client, range(10))
        [sender] = [t for t in threading.enumerate() if t is not threading.main_thread()]
        del client
        sender.join(20)
        assert not sender.is_alive()
        os._exit(0)
    """
    run_app(server, key, tmp_path, source)
    assert_arrived(server, key, range(10))


# A new thread would need more memory than the process may have.
NO_THREADS = """
import resource
import threading
client = new_client(shutdown_timeout=2, request_timeout=600, on_error=tell)
with open("/proc/self/statm") as statm:
    used = int(statm.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 2**28, used + 2**28))
threading.stack_size(2**29)
try:
    threading.Thread(target=print).start()
except RuntimeError:
    pass
else:
    raise AssertionError("a thread was started")
track(client, range(50))
assert threading.active_count() == 1, threading.enumerate()
last_words()
"""


def test_an_exit_where_no_thread_can_be_started(server: Sandbox, key: str, tmp_path: Path) -> None:
    """Without any thread, the exit delivers from the main one."""
    run_app(server, key, tmp_path, TELLS + NO_THREADS)
    assert_arrived(server, key, range(50))


def test_such_an_exit_is_bounded_too(server: Sandbox, key: str, tmp_path: Path) -> None:
    """Without any thread and with a silent server, the deadline holds for the main thread's own
    request, and the loss is reported.
    """
    server.inject(key, HANG)
    done = run_app(server, key, tmp_path, TELLS + NO_THREADS)
    assert time_of_end(done, monotonic()) <= 2 + SECOND
    assert_loss_reported(done, 50)


# --- ends with a destination that does not take it

LOSING_ENDS = {
    "end-of-script": "track(client, range(7)); last_words()",
    "shutdown": "track(client, range(7)); last_words(); assert client.shutdown() is False",
    "fork": "reap([fork(lambda: (track(client, range(7)), last_words()))])",
    "Process": """
import multiprocessing
def child_main():
    track(client, range(7))
    last_words()
process = multiprocessing.get_context("fork").Process(target=child_main)
process.start()
process.join()
assert process.exitcode == 0
""",
}


@pytest.mark.parametrize("end", LOSING_ENDS)
def test_an_exit_with_a_silent_server_is_bounded(
    server: Sandbox, key: str, tmp_path: Path, end: str
) -> None:
    """With a server that accepts and never answers, an exit takes shutdown_timeout, however long
    its request may last, and says how many records are lost: one WARNING, one on_error.
    """
    server.inject(key, HANG)
    options = f"shutdown_timeout=2, request_timeout={ENDLESS}, on_error=tell"
    source = TELLS + f"client = new_client({options})\n{LOSING_ENDS[end]}\n"
    done = run_app(server, key, tmp_path, source)
    assert time_of_end(done, monotonic()) <= 2 + SECOND
    assert_loss_reported(done, 7)
    assert_arrived(server, key, [])


def test_an_exit_in_the_middle_of_a_hanging_request(
    server: Sandbox, key: str, tmp_path: Path
) -> None:
    """A request that already hangs when the exit begins is bounded as well: its time-out was
    longer, and the records that it holds are counted.
    """
    server.inject(key, HANG)
    source = (
        TELLS
        + """
client = new_client(shutdown_timeout=2, request_timeout=600, on_error=tell, flush_at=5)
track(client, range(5))
while client.stats()["requests"] < 1:
    time.sleep(0.005)
track(client, range(5, 8))
last_words()
"""
    )
    done = run_app(server, key, tmp_path, source)
    assert time_of_end(done, monotonic()) <= 2 + SECOND
    assert_loss_reported(done, 8)


def test_clients_share_one_deadline(server: Sandbox, key: str, tmp_path: Path) -> None:
    """Four clients that all hang take one shutdown_timeout together, each says its own loss, and
    a fifth that can deliver does.
    """
    keys = [f"{key}_{number}" for number in range(4)]
    for one in keys:
        server.inject(one, HANG)
    source = (
        TELLS
        + f"""
clients = [new_client(k, shutdown_timeout=2, request_timeout={ENDLESS}, on_error=tell) for k in {keys} + [KEY]]
for client, count in zip(clients, (1, 2, 3, 4, 5)):
    track(client, range(count))
last_words()
"""
    )
    done = run_app(server, key, tmp_path, source)
    assert time_of_end(done, monotonic()) <= 2 + SECOND
    assert_loss_reported(done, 1, 2, 3, 4)
    assert_arrived(server, key, range(5))


@pytest.mark.parametrize("end", ["", "client.shutdown()"], ids=["exit", "shutdown"])
def test_an_exit_ends_a_long_back_off(server: Sandbox, key: str, tmp_path: Path, end: str) -> None:
    """A server that asks for a minute delays no exit whose deadline is earlier: that ends at
    once, and says its loss.
    """
    fault = {"do": "status", "status": 503, "headers": {"Retry-After": "60"}, "times": -1}
    server.inject(key, fault)
    source = (
        TELLS
        + f"""
client = new_client(shutdown_timeout=50, on_error=tell, flush_at=5)
track(client, range(5))
while client.stats()["requests"] < 1:
    time.sleep(0.005)
last_words()
{end}
"""
    )
    done = run_app(server, key, tmp_path, source)
    assert time_of_end(done, monotonic()) <= AT_ONCE
    assert_loss_reported(done, 5)


def test_an_exit_ends_a_back_off_and_delivers(server: Sandbox, key: str, tmp_path: Path) -> None:
    """A back-off that is ended by the exit is followed by an attempt, which may succeed."""
    server.inject(key, {"do": "status", "status": 503, "headers": {"Retry-After": "60"}})
    source = """
        client = new_client(shutdown_timeout=50, flush_at=5)
        track(client, range(5))
        while client.stats()["requests"] < 1:
            time.sleep(0.005)
    """
    run_app(server, key, tmp_path, source)
    assert_arrived(server, key, range(5))


@pytest.fixture
def closed_port() -> Iterator[str]:
    """The address of a port that nobody listens on, and nobody else can take."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        port = holder.getsockname()[1]
        yield f"http://127.0.0.1:{port}"


def test_an_exit_without_a_server(
    server: Sandbox, key: str, tmp_path: Path, closed_port: str
) -> None:
    """An exit whose connections are refused ends within its deadline and says its loss."""
    source = TELLS + (
        "client = new_client(shutdown_timeout=2, on_error=tell)\n"
        "track(client, range(7))\nlast_words()\n"
    )
    done = run_app(server, key, tmp_path, source, url=closed_port)
    assert time_of_end(done, monotonic()) <= 2 + SECOND
    assert_loss_reported(done, 7)


def test_a_flush_with_a_silent_server_is_bounded(server: Sandbox, key: str, tmp_path: Path) -> None:
    """flush(timeout=1) returns then when the server never answers, says False, and keeps
    everything.
    """
    server.inject(key, HANG)
    source = f"""
        client = new_client(shutdown_timeout=0, request_timeout={ENDLESS})
        track(client, range(7))
        for _ in range(2):
            begun = time.monotonic()
            assert client.flush(timeout=1) is False
            assert 1 <= time.monotonic() - begun <= 1 + {SECOND}
            assert client.stats()["pending"] == 7, client.stats()
        os._exit(0)
    """
    run_app(server, key, tmp_path, source)
    assert_arrived(server, key, [])


# --- shutdown()


def test_shutdown_is_idempotent_and_final(server: Sandbox, key: str, tmp_path: Path) -> None:
    """shutdown() may be repeated, and says True again; what is tracked after it is dropped, which
    is reported once and counted always; no thread is left.
    """
    source = """
        import threading
        errors = []
        client = new_client(on_error=errors.append)
        track(client, range(10))
        assert client.shutdown() is True
        assert client.shutdown() is True
        track(client, range(10, 13))
        client.identify("user", traits={"late": True})
        assert [(e.type, e.count) for e in errors] == [("dropped", 1)], errors
        assert client.stats()["dropped"] == {"closed": 4}, client.stats()
        assert client.stats()["delivered"] == 10 and client.stats()["accepted"] == 14
        assert client.flush() is True and client.shutdown() is True
        for thread in threading.enumerate():
            if thread is not threading.current_thread():
                thread.join(20)
        assert threading.active_count() == 1, threading.enumerate()
    """
    done = run_app(server, key, tmp_path, source)
    assert done.stderr.count("dropped: ") == 1, done.stderr
    assert_arrived(server, key, range(10))


@pytest.mark.parametrize("call", ["shutdown", "flush"])
def test_a_shutdown_during_a_pass_waits_for_no_more_than_the_pass(
    server: Sandbox, key: str, tmp_path: Path, call: str
) -> None:
    """A shutdown() or flush() that begins while the last records are already on their way says
    True as soon as these are delivered.
    """
    server.inject(key, {"do": "delay", "seconds": 0.3})
    source = f"""
        client = new_client(flush_at=1)
        track(client, [1])
        while client.stats()["requests"] < 1:
            time.sleep(0.005)
        begun = time.monotonic()
        assert client.{call}(100) is True
        assert time.monotonic() - begun < {AT_ONCE}
    """
    run_app(server, key, tmp_path, source)
    assert_arrived(server, key, [1])


def test_a_shutdown_that_fails_has_reported_its_loss(
    server: Sandbox, key: str, tmp_path: Path
) -> None:
    """When shutdown() says False, it does so without waiting for its deadline where nothing is to
    be hoped for, and the loss was reported before, however slow the application listens.
    """
    server.inject(key, {"do": "status", "status": 401, "times": -1})
    source = f"""
        errors = []

        def on_error(error):
            time.sleep(0.2)
            errors.append((error.type, error.count))

        client = new_client(on_error=on_error, flush_at=1_000)
        track(client, range(5))
        begun = time.monotonic()
        assert client.shutdown(100) is False
        assert time.monotonic() - begun < {AT_ONCE}
        assert errors[-1] == ("dropped", 5) and ("auth", 5) in errors, errors
        os._exit(0)
    """
    run_app(server, key, tmp_path, source)
    assert_arrived(server, key, [])
