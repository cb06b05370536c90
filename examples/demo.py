"""The main job, on real input: Django under a preloaded gunicorn, Celery, a pool, a script.

Starts a strict ingestion server and a Redis on loopback, runs the programs beside this file
against them, and compares what they say they tracked with what arrived. Ends with 0 only when nothing
was lost and nothing arrived twice.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator

import requests
from accounts import read_accounts
from redis_server import own_redis
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from whisperr.sandbox import Sandbox

HERE = Path(__file__).resolve().parent
KEY = "wrk_demo"
STOP_TIMEOUT = 300.0  # seconds for gunicorn, and for each program, to end: a busy machine is slow
CALLERS = 8  # threads that send requests to gunicorn


def main() -> int:
    options = _options()
    console = Console()
    with tempfile.TemporaryDirectory(prefix="whisperr-demo-") as folder, Sandbox(
        numbers=True
    ) as server, own_redis(Path(folder)) as broker:
        console.print(f"ingestion server on {server.url} (open it in a browser), Redis on {broker}")
        accounts = os.path.join(folder, "accounts")
        environment = {
            **os.environ,
            "DEMO_ACCOUNTS": accounts,
            "DEMO_URL": server.url,
            "DEMO_KEY": KEY,
            "DEMO_BROKER": broker,
            "NO_PROXY": "127.0.0.1",
        }
        with _progress(console) as progress:
            programs = [
                _start(["pool.py", str(options.jobs)], environment),
                _start(["script.py", str(options.events)], environment),
                _start(["tasks.py", str(options.tasks)], environment),
            ]
            with _celery(environment), _gunicorn(environment) as url:
                _send_requests(url, options.requests, progress)
                _await_tasks(accounts, options.tasks, progress)
            for program in programs:
                _end(program)
        tracked = read_accounts(accounts)
        status = _report(console, tracked, _arrived(server), server.ledger(KEY))
        if options.hold:
            _hold(console, server)
        return status


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=3000, help="sent to gunicorn")
    parser.add_argument("--tasks", type=int, default=1000, help="sent to Celery")
    parser.add_argument("--jobs", type=int, default=1000, help="of the pool")
    parser.add_argument("--events", type=int, default=1000, help="of the script")
    parser.add_argument("--hold", action="store_true", help="keep the page until Ctrl-C")
    return parser.parse_args()


def _hold(console: Console, server: Sandbox) -> None:
    """Until Ctrl-C or SIGTERM."""
    stop = threading.Event()
    # Before anybody can know the address: a SIGTERM from then on leaves no server behind.
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    try:
        console.print(f"everything that arrived is on {server.url}; Ctrl-C ends this")
        stop.wait()
    except KeyboardInterrupt:
        console.print()


# --- the programs


def _start(arguments: list[str], environment: dict[str, str]) -> subprocess.Popen[bytes]:
    command = [sys.executable, str(HERE / arguments[0]), *arguments[1:]]
    return subprocess.Popen(command, env=environment)


def _end(program: subprocess.Popen[bytes]) -> None:
    """Wait for the end of a program. Raises when it hangs, or ends with anything but 0."""
    try:
        status = program.wait(STOP_TIMEOUT)
    finally:
        program.kill()  # does nothing to one that has ended
    if status != 0:
        raise subprocess.CalledProcessError(status, program.args)


@contextmanager
def _gunicorn(environment: dict[str, str]) -> Iterator[str]:
    """A preloading gunicorn of 4 workers; ended with SIGTERM, as a deployment ends it."""
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listener:
        port = listener.getsockname()[1]
        command = [sys.executable, "-m", "gunicorn", "--config", str(HERE / "gunicorn.conf.py")]
        command += ["--pythonpath", str(HERE), "--bind", f"fd://{listener.fileno()}"]
        master = subprocess.Popen(
            [*command, "web:application"], env=environment, pass_fds=[listener.fileno()]
        )
        try:
            yield f"http://127.0.0.1:{port}/"
        finally:
            master.send_signal(signal.SIGTERM)
            _end(master)


@contextmanager
def _celery(environment: dict[str, str]) -> Iterator[None]:
    """A prefork worker of 4 processes; ended with SIGTERM: it finishes what it has begun."""
    command = [
        sys.executable,
        "-m",
        "celery",
        "--quiet",
        "--app",
        "tasks",
        "--workdir",
        str(HERE),
        "worker",
    ]
    command += ["--concurrency", "4", "--loglevel", "ERROR", "--without-gossip"]
    worker = subprocess.Popen(command, env=environment)
    try:
        yield
    finally:
        worker.send_signal(signal.SIGTERM)
        _end(worker)


def _await_tasks(accounts: str, number: int, progress: Progress) -> None:
    """Until that many tasks have run. Raises TimeoutError when they don't."""
    bar = progress.add_task("tasks of Celery", total=number)
    deadline = time.monotonic() + STOP_TIMEOUT
    done = 0
    while done < number:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{done} of {number} tasks have run")
        time.sleep(0.1)
        tracked = read_accounts(accounts)
        done = sum(len(tracked[process]) for process in tracked if process.startswith("task "))
        progress.update(bar, completed=done)


def _send_requests(url: str, number: int, progress: Progress) -> None:
    task = progress.add_task("requests to gunicorn", total=number)
    with requests.Session() as session, ThreadPoolExecutor(CALLERS) as callers:
        session.trust_env = False
        answers = [callers.submit(session.get, url, timeout=STOP_TIMEOUT) for _ in range(number)]
        for answer in as_completed(answers):
            answer.result().raise_for_status()
            progress.advance(task)


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), console=console
    )


# --- the ledger


def _arrived(server: Sandbox) -> dict[str, set[str]]:
    numbers: dict[str, set[str]] = {}
    for event in server.events(KEY):
        properties = event["properties"]
        numbers.setdefault(properties["process"], set()).add(properties["n"])
    return numbers


def _report(
    console: Console,
    tracked: dict[str, set[str]],
    arrived: dict[str, set[str]],
    counts: dict[str, int],
) -> int:
    table = Table("process", "accepted", "arrived", "lost")
    for column in table.columns[1:]:
        column.justify = "right"
    for process in sorted(tracked):
        got, sent = arrived.get(process, set()), tracked[process]
        table.add_row(process, str(len(sent)), str(len(got)), str(len(sent - got)))
    console.print(table)

    accepted = set().union(*tracked.values())
    lost = accepted - set().union(*arrived.values())
    twice, resent = counts["twice"], counts["resent"]
    total = sum(len(numbers) for numbers in arrived.values())
    console.print(
        f"accepted {len(accepted)}  arrived {total}  lost {len(lost)}  "
        f"twice {twice}  resent {resent}  in {counts['requests']} requests "
        f"over {counts['connections']} connections"
    )
    return 0 if accepted and not lost and not twice else 1


if __name__ == "__main__":
    sys.exit(main())
