#!/usr/bin/env python3
"""Everything a developer runs. It needs git, Python 3.8 or later with venv, and a package index.

    python3 dev.py demo     the demonstration; --hold keeps its page, --broker sends all through relays
    python3 dev.py test     all tests, on the Python that runs this; pytest's arguments may follow
    python3 dev.py quick    under a minute: the tests that wait for nobody
    python3 dev.py check    ruff, mypy, pyright
    python3 dev.py docs     the documentation, warnings as errors
    python3 dev.py bench    the benchmarks
    python3 dev.py tox ...  tox itself

tox and uv are installed into .dev/, which git ignores, and nowhere else. No interpreter is ever
downloaded.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Callable

ROOT = Path(__file__).resolve().parent
TOOLS = ROOT / ".dev" / "python{}.{}".format(*sys.version_info)
WANTED = ("tox>=4.22", "tox-uv>=1.13")
OLDEST = (3, 8)
MINORS = ("3.8", "3.9", "3.10", "3.11", "3.12", "3.13", "3.14", "3.15")

# The rooms whose tests wait for no server and no process.
QUICK = ("tests/atomic", "tests/encoding", "tests/project/test_layers.py")

sys.path.insert(0, str(ROOT / "tests" / "support"))
import watchdog  # noqa: E402  (the tests' own)


def main(arguments: list[str]) -> int:
    if sys.version_info < OLDEST:
        return complain("Python {}.{} is too old: 3.8 or later".format(*sys.version_info))
    if not arguments or arguments[0] not in COMMANDS:
        print(__doc__)
        return 0 if arguments[:1] in (["-h"], ["--help"], ["help"]) else 2
    watchdog.start()  # whatever ends this ends all that it started
    os.environ["UV_PYTHON_DOWNLOADS"] = "never"
    os.environ.setdefault("PIP_DISABLE_PIP_VERSION_CHECK", "1")
    try:
        return COMMANDS[arguments[0]](arguments[1:])
    except KeyboardInterrupt:
        return 130


# --- the commands


def demo(arguments: list[str]) -> int:
    return tox("run", "-q", "-e", "demo", "--", *arguments)


def test(arguments: list[str]) -> int:
    begun = time.monotonic()
    status = tox("run", "-e", "py", "--", *arguments)
    if not arguments:
        here = "{}.{}".format(*sys.version_info)
        others = ", ".join(minor for minor in MINORS if minor != here)
        say(f"Python {here} alone, {time.monotonic() - begun:.0f} s")
        say(f"left out: Python {others}; each runs them by `python3.x dev.py test`")
    return status


def quick(arguments: list[str]) -> int:
    return tox("run", "-q", "-e", "py", "--", *QUICK, *arguments)


def check(arguments: list[str]) -> int:
    return tox("run", "-e", "lint,type", *arguments)


def docs(arguments: list[str]) -> int:
    return tox("run", "-e", "docs", "--", *arguments)


def bench(arguments: list[str]) -> int:
    return tox("run", "-e", "bench", "--", *arguments)


def tox(*arguments: str) -> int:
    """Run tox in the checkout, and return its status."""
    python = tools()
    if python is None:
        return 1
    command = [str(python), "-m", "tox", *arguments]
    with subprocess.Popen(command, cwd=str(ROOT)) as running:
        while True:
            try:
                return running.wait()
            except KeyboardInterrupt:  # tox has heard it, too, and ends what it runs
                continue


COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "demo": demo,
    "test": test,
    "quick": quick,
    "check": check,
    "docs": docs,
    "bench": bench,
    "tox": lambda arguments: tox(*arguments),
}


# --- the tools


def tools() -> Path | None:
    """The Python of the private environment that has tox. None: it can't be made, as was said."""
    folder = "Scripts" if os.name == "nt" else "bin"
    python = TOOLS / folder / "python"
    stamp = TOOLS / "complete"
    content = "\n".join((*WANTED, sys.base_prefix, str(TOOLS)))
    if stamp.exists() and stamp.read_text() == content:
        return python
    if not all(map(importlib.util.find_spec, ("venv", "ensurepip"))):
        complain(
            "this Python can't make an environment: its venv is incomplete."
            " On Debian or Ubuntu: apt-get install python3-venv"
        )
        return None
    say(f"installing tox into {TOOLS.relative_to(ROOT)}, once")
    made = [sys.executable, "-m", "venv", "--clear", str(TOOLS)]
    filled = [str(python), "-m", "pip", "install", "--quiet", *WANTED]
    for command in (made, filled):
        if subprocess.call(command, cwd=str(ROOT)) != 0:
            complain("could not install tox; pip's reason is above")
            return None
    stamp.write_text(content)
    return python


def say(words: str) -> None:
    print(f"== {words}", flush=True)


def complain(words: str) -> int:
    print(f"dev.py: {words}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
