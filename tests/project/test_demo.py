"""The README's first command, with less traffic."""

from __future__ import annotations

import os
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from support.deadlines import generous
from support.parts import need

NUMBERS = ("--requests", "200", "--jobs", "100", "--events", "100", "--tasks", "50")
FEW = ("--requests", "8", "--jobs", "8", "--tasks", "5", "--events", "7")
EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def _demo(folder: Path, *options: str, path: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(EXAMPLES / "demo.py"), *options],
        cwd=str(folder),
        env={
            **os.environ,
            "COLUMNS": "120",
            "PYTHONPATH": path or os.environ.get("PYTHONPATH", ""),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=generous(100),
    )


def test_the_demo_delivers_every_event_of_every_process_once(tmp_path: Path) -> None:
    """Django under a preloaded gunicorn without hooks, Celery, a pool, a script: nothing lost, nothing twice."""
    done = _demo(tmp_path, *NUMBERS)
    assert done.returncode == 0, done.stdout
    # The master's own event and the pool's parent's are among them.
    assert "accepted 452  arrived 452  lost 0  twice 0  resent 0" in done.stdout


@pytest.mark.parametrize(
    "broker", ["redis", pytest.param("rabbitmq", marks=pytest.mark.xdist_group("rabbitmq"))]
)
def test_the_demo_through_relays(broker: str, tmp_path: Path) -> None:
    """Two relays behind a broker, one killed with -9 while they work: nothing lost, nothing twice."""
    need(broker)
    done = _demo(tmp_path, "--broker", broker, *NUMBERS)
    assert done.returncode == 0, done.stdout
    assert "accepted 452  arrived 452  lost 0  twice 0" in done.stdout
    # What each of them has sent; no event without a relay.
    head = next(line for line in done.stdout.splitlines() if "accepted" in line)
    total = next(line for line in done.stdout.splitlines() if " all " in line)
    assert ("SIGKILL" in head, "ended with 0" in head) == (True, True), head
    sent = [int(part) for part in total.split() if part.isdigit()]
    assert sum(sent) == 452 and all(sent), total


def test_the_demo_through_relays_fails_when_messages_are_left(tmp_path: Path) -> None:
    """The exit status tells, too, when the relays could not deliver all of it: here dead letters."""
    need("redis")
    (tmp_path / "sitecustomize.py").write_text(
        "import sys, redis\n"
        "if 'pool.py' in sys.argv[0]:\n"
        "    import os\n"
        "    client = redis.Redis.from_url(os.environ['DEMO_BROKER'])\n"
        "    client.xadd('{whisperr}:events:shop', {'hello': 'world'})\n"
    )
    path = f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    done = _demo(tmp_path, "--broker", *FEW, path=path)
    assert done.returncode == 1, done.stdout
    assert "lost 0  twice 0" in done.stdout
    assert "the broker is not empty" in done.stdout and "'dead_letters': 1" in done.stdout


def test_the_demo_keeps_its_page_when_asked_to(tmp_path: Path) -> None:
    """With ``--hold`` the sandbox still answers at the printed address, until SIGTERM."""
    with subprocess.Popen(
        [sys.executable, str(EXAMPLES / "demo.py"), *FEW, "--hold"],
        cwd=str(tmp_path),
        env={**os.environ, "COLUMNS": "120"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as demo:
        said = ""
        try:
            for line in demo.stdout or ():  # ends, too, when the demo fails
                said += line
                if "everything that arrived is on" in line:
                    with urllib.request.urlopen(line.split(" on ")[1].split(";")[0]) as page:
                        assert b"whisperr" in page.read()
                    demo.terminate()
            assert demo.wait(generous(20)) == 0, said
            assert "everything that arrived is on" in said
        finally:
            demo.kill()


def test_the_demo_fails_when_an_event_is_lost(tmp_path: Path) -> None:
    """The exit status tells: programs that are not allowed to deliver lose, and the ledger shows it."""
    (tmp_path / "sitecustomize.py").write_text(
        "import whisperr._process.exits\nwhisperr._process.exits.run = lambda: None\n"
        "whisperr._process.exits.install = lambda drain: None\n"
    )
    done = _demo(
        tmp_path,
        *FEW,
        path=f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}",
    )
    assert done.returncode == 1, done.stdout
    assert "accepted 30 " in done.stdout
    assert "lost 0" not in done.stdout
