"""``lifecycle.deliver_on_signals()``: what a signal would end without a word delivers before."""

from __future__ import annotations

import signal
from pathlib import Path
from textwrap import dedent

import pytest

from support.apps import PREAMBLE, assert_arrived, run_app
from support.parts import need
from whisperr.sandbox import Sandbox

TRACKED = range(10)

# ``end_by()`` is how a program sends itself a signal and waits for its end.
HEAD = """
import signal
from whisperr import lifecycle

def end_by(number):
    os.kill(os.getpid(), number)
    time.sleep(600)

"""


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_a_script_delivers_and_ends_by_the_signal(
    server: Sandbox, key: str, tmp_path: Path, name: str
) -> None:
    """What is queued arrives, and whoever waits sees the signal, as without us."""
    source = f"""
        assert lifecycle.deliver_on_signals() == [signal.SIGTERM, signal.SIGHUP]
        assert lifecycle.deliver_on_signals() == [signal.SIGTERM, signal.SIGHUP]
        client = new_client()
        track(client, range(10))
        end_by(signal.{name})
    """
    run_app(server, key, tmp_path, HEAD + dedent(source), status=-getattr(signal, name))
    assert_arrived(server, key, TRACKED)


def test_signals_of_choice(server: Sandbox, key: str, tmp_path: Path) -> None:
    """Those that are named, in place of the two."""
    source = """
        assert lifecycle.deliver_on_signals(signal.SIGUSR2) == [signal.SIGUSR2]
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        client = new_client()
        track(client, range(10))
        end_by(signal.SIGUSR2)
    """
    run_app(server, key, tmp_path, HEAD + dedent(source), status=-signal.SIGUSR2)
    assert_arrived(server, key, TRACKED)


def test_what_is_no_signal_is_an_error(server: Sandbox, key: str, tmp_path: Path) -> None:
    """A number that is none, and one that nobody can handle, are errors of the caller."""
    source = """
        for number in (0, 12345, signal.SIGKILL):
            try:
                lifecycle.deliver_on_signals(number)
            except (OSError, ValueError):
                print("refused")
    """
    done = run_app(server, key, tmp_path, HEAD + dedent(source))
    assert done.stdout.split() == ["refused"] * 3


def test_a_handler_that_is_there_is_kept(server: Sandbox, key: str, tmp_path: Path) -> None:
    """The application's handler stays, before and after; what it ends by sys.exit delivers."""
    source = """
        def mine(number, frame):
            print("mine")
            sys.exit(3)

        signal.signal(signal.SIGTERM, mine)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        assert lifecycle.deliver_on_signals() == []
        assert signal.getsignal(signal.SIGTERM) is mine
        client = new_client()
        track(client, range(10))
        os.kill(os.getpid(), signal.SIGHUP)
        end_by(signal.SIGTERM)
    """
    done = run_app(server, key, tmp_path, HEAD + dedent(source), status=3)
    assert done.stdout.split() == ["mine"]
    assert_arrived(server, key, TRACKED)


def test_outside_the_main_thread_it_warns(server: Sandbox, key: str, tmp_path: Path) -> None:
    """Python allows no handlers there: nothing is raised, and a warning says so."""
    source = """
        import threading
        answers = []
        thread = threading.Thread(target=lambda: answers.append(lifecycle.deliver_on_signals()))
        thread.start()
        thread.join()
        assert answers == [[]], answers
    """
    done = run_app(server, key, tmp_path, HEAD + dedent(source))
    assert done.stderr.count("deliver_on_signals() does nothing outside the main thread") == 1


def test_threads_that_track_meanwhile(server: Sandbox, key: str, tmp_path: Path) -> None:
    """Of what other threads track while the handler delivers, nothing is lost whose track() returned."""
    source = """
        import itertools
        import threading
        numbers = itertools.count()
        begun = threading.Barrier(5)

        def work(name):
            with open("tracked-%d" % name, "w", buffering=1) as account:
                for step in itertools.count():
                    n = next(numbers)
                    track(client, [n])
                    account.write("%d\\n" % n)
                    if step == 20:
                        begun.wait()

        lifecycle.deliver_on_signals()
        client = new_client()
        for name in range(4):
            threading.Thread(target=work, args=[name], daemon=True).start()
        begun.wait()
        end_by(signal.SIGTERM)
    """
    run_app(server, key, tmp_path, HEAD + dedent(source), status=-signal.SIGTERM)
    tracked = {
        int(line)
        for name in range(4)
        for line in (tmp_path / f"tracked-{name}").read_text().split("\n")[:-1]
    }
    arrived = {event["properties"]["n"] for event in server.events(key)}
    assert len(tracked) > 80
    assert sorted(tracked - arrived) == []
    assert server.ledger(key)["twice"] == 0


def test_the_same_signal_again_cuts_nothing_short(
    server: Sandbox, key: str, tmp_path: Path
) -> None:
    """Who signals the group and the process sends two: the delivery under way goes on, also where
    no thread can be started and the handler itself sends.
    """
    server.inject(key, {"do": "delay", "seconds": 0.3, "times": 1})
    source = """
        import threading
        lifecycle.deliver_on_signals()
        client = new_client(max_batch_size=5)  # the second is sent after the signal came again
        tracked = threading.Event()

        def send_again():
            tracked.wait()
            for _ in range(10):
                time.sleep(0.02)
                os.kill(os.getpid(), signal.SIGTERM)

        def refuse(thread):
            raise RuntimeError("can't start new thread")

        threading.Thread(target=send_again, daemon=True).start()
        threading.Thread.start = refuse
        track(client, range(10))
        tracked.set()
        end_by(signal.SIGTERM)
    """
    run_app(server, key, tmp_path, HEAD + dedent(source), status=-signal.SIGTERM)
    assert_arrived(server, key, TRACKED)


def test_a_hanging_server_bounds_the_end(server: Sandbox, key: str, tmp_path: Path) -> None:
    """After shutdown_timeout the process ends all the same, and the loss is said, once."""
    server.inject(key, {"do": "hang", "times": -1})
    source = """
        lifecycle.deliver_on_signals()
        client = new_client(shutdown_timeout=0.5, request_timeout=600)
        track(client, range(10))
        end_by(signal.SIGTERM)
    """
    done = run_app(server, key, tmp_path, HEAD + dedent(source), status=-signal.SIGTERM)
    assert done.stderr.count("lost 10 records") == 1


def test_children_inherit_it(server: Sandbox, key: str, tmp_path: Path) -> None:
    """A child made by os.fork, and a terminated one of multiprocessing, deliver what they tracked."""
    source = """
        import multiprocessing
        lifecycle.deliver_on_signals()
        client = new_client(flush_at=1000, flush_interval=1000)

        def work(numbers, ready):
            track(client, numbers)
            ready.set()
            while True:  # a signal just before one long sleep would be looked at after it
                time.sleep(0.05)

        context = multiprocessing.get_context("fork")
        ready = context.Event()
        child = context.Process(target=work, args=[range(5), ready])
        child.start()
        ready.wait()
        child.terminate()
        child.join()
        assert child.exitcode == -signal.SIGTERM, child.exitcode
        ready.clear()
        pid = fork(work, range(5, 10), ready)
        ready.wait()
        os.kill(pid, signal.SIGTERM)
        assert os.WTERMSIG(os.waitpid(pid, 0)[1]) == signal.SIGTERM
    """
    run_app(server, key, tmp_path, HEAD + dedent(source))
    assert_arrived(server, key, TRACKED)


def test_the_first_process_of_a_container(server: Sandbox, key: str, tmp_path: Path) -> None:
    """The kernel spares pid 1 what a signal would do by default: it ends anyway, as a shell says it."""
    need("pid namespaces")
    inner = """
        lifecycle.deliver_on_signals()
        assert os.getpid() == 1
        client = new_client()
        track(client, range(10))
        end_by(signal.SIGTERM)
    """
    (tmp_path / "inner.py").write_text(PREAMBLE + HEAD + dedent(inner))
    source = """
        import subprocess
        # unshare itself ignores SIGTERM while it waits; what is sent comes from inside
        command = ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "inner.py"]
        sys.exit(subprocess.run(command).returncode)
    """
    run_app(server, key, tmp_path, source, status=128 + signal.SIGTERM)
    assert_arrived(server, key, TRACKED)
