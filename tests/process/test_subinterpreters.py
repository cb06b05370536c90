"""Interpreters beside the first one of a process, where there are no daemon threads (CPython 3.14).

No test forks in such a process: CPython is not safe there, whoever is in it.
"""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path

import pytest

from support.apps import assert_arrived, run_app
from whisperr.sandbox import Sandbox

if sys.version_info < (3, 14):
    pytest.skip("no concurrent.interpreters before 3.14", allow_module_level=True)

# An interpreter begins with a module of its own, in which these are.
WORKER = """
from concurrent import interpreters
from pathlib import Path

Path("worker.py").write_text('''
import os
from whisperr import Whisperr

NEVER = 1_000_000
options = {"base_url": os.environ["APP_URL"], "shutdown_timeout": 150}
client = None


def work(numbers, **more):
    global client
    if client is None:
        client = Whisperr(os.environ["APP_KEY"], **{**options, **more})
    for n in numbers:
        client.track(f"user_{n}", "it_happened", {"n": n})


def until_delivered(count):
    import time
    deadline = time.monotonic() + 150
    while client.stats()["delivered"] < count:
        assert time.monotonic() < deadline, client.stats()
        time.sleep(0.01)
''')
sys.path.insert(0, os.getcwd())


def opened():
    other = interpreters.create()
    other.prepare_main(path=os.getcwd())
    other.exec("import sys; sys.path.insert(0, path); import worker")
    return other

"""


def run(server: Sandbox, key: str, folder: Path, source: str) -> None:
    """Run it with warnings as errors, as far as they come from us or from requests."""
    flags = ["-W", "error", "-W", "ignore:remaining subinterpreters:RuntimeWarning"]
    outcome = run_app(server, key, folder, WORKER + textwrap.dedent(source), flags=flags)
    assert outcome.stderr == ""


@pytest.mark.parametrize(
    "options",
    ["flush_at=20, flush_interval=worker.NEVER", "flush_at=worker.NEVER, flush_interval=0.05"],
    ids=["by count", "by time"],
)
def test_events_leave_by_count_and_by_time(
    server: Sandbox, key: str, tmp_path: Path, options: str
) -> None:
    """As in the first interpreter, without anybody asking; and no warning is shown."""
    source = f"""
        other = opened()
        other.exec("worker.work(range(20), {options}); worker.until_delivered(20)")
        other.close()
    """
    run(server, key, tmp_path, source)
    assert_arrived(server, key, range(20))


EVER = "flush_at=worker.NEVER, flush_interval=worker.NEVER"
CLOSINGS = {
    "the interpreter": f"""
        other = opened()
        other.exec("worker.work(range(10), {EVER})")
        other.close()
        os._exit(0)
    """,
    "the process": f"""
        other = opened()
        other.exec("worker.work(range(10), {EVER})")
    """,
    "the pool": """
        from concurrent.futures import InterpreterPoolExecutor
        from worker import NEVER, work
        with InterpreterPoolExecutor(1) as pool:
            pool.submit(work, range(10), flush_at=NEVER, flush_interval=NEVER).result()
        os._exit(0)
    """,
    # After the threads were waited for: without one, then.
    "an exit handler": f"""
        other = opened()
        other.exec("import atexit; atexit.register(worker.work, range(5, 10))")
        other.exec("worker.work(range(5), {EVER})")
        other.close()
        os._exit(0)
    """,
    "an exit handler alone": f"""
        other = opened()
        other.exec("import atexit; atexit.register(worker.work, range(10), {EVER})")
        other.close()
        os._exit(0)
    """,
}


@pytest.mark.parametrize("closing", CLOSINGS)
def test_what_closes_an_interpreter_delivers(
    server: Sandbox, key: str, tmp_path: Path, closing: str
) -> None:
    """Whoever ends it: what was tracked there arrives, and nothing hangs."""
    run(server, key, tmp_path, CLOSINGS[closing])
    assert_arrived(server, key, range(10))


def test_a_pool_of_interpreters_delivers_all(server: Sandbox, key: str, tmp_path: Path) -> None:
    """Four workers that track more than twice what a queue holds lose none of it."""
    source = """
        from concurrent.futures import InterpreterPoolExecutor
        from worker import work
        with InterpreterPoolExecutor(4) as pool:
            tasks = [pool.submit(work, range(n, n + 100)) for n in range(0, 24_000, 100)]
            for task in tasks:
                task.result()
    """
    run(server, key, tmp_path, source)
    assert_arrived(server, key, range(24_000))


def test_the_stats_of_a_closed_client_are_whole(server: Sandbox, key: str, tmp_path: Path) -> None:
    """shutdown() ends the thread there, too."""
    source = """
        other = opened()
        other.exec("worker.work(range(10)); assert worker.client.shutdown()")
        other.exec("assert worker.client.stats()['delivered'] == 10, worker.client.stats()")
        other.exec(
            "import threading\\n"
            "for thread in threading.enumerate():\\n"
            "    if thread is not threading.current_thread():\\n"
            "        thread.join(60)\\n"
            "assert threading.active_count() == 1, threading.enumerate()"
        )
        other.close()
    """
    run(server, key, tmp_path, source)
    assert_arrived(server, key, range(10))
