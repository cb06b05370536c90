"""docs/tutorial.md, run as its reader would: every block, in order, in an empty folder."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from support.installed import built_wheel, environment

TUTORIAL = Path(__file__).resolve().parents[2] / "docs" / "tutorial.md"
BLOCK = re.compile(r"^```(\w*)[ ]?([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PORT = "8765"  # of the text; a free one is used instead, and nothing else is changed
TIMEOUT = 60.0  # seconds for one block
FOREIGN = ("whisperr", "pytest_", "hypothesis", "_hypothesis", "xdist", "execnet")


class Block(NamedTuple):
    """One fenced block: its language, what stands behind that, its text."""

    language: str
    note: str
    text: str

    def commands(self) -> str:
        lines = self.text.splitlines()
        return "\n".join(line[2:] for line in lines if line.startswith("$ "))

    def shown(self) -> str:
        """What the block says that the reader will see; commands are not echoed."""
        return "\n".join(line for line in self.text.splitlines() if not line.startswith("$ "))


def blocks(port: str) -> list[Block]:
    text = TUTORIAL.read_text(encoding="utf-8").replace(PORT, port)
    return [Block(*found.groups()) for found in BLOCK.finditer(text)]


class Reader:
    """A shell that keeps its variables from one block to the next."""

    def __init__(self, folder: Path, variables: dict[str, str]) -> None:
        self._folder = folder
        self._variables = variables
        self._state = folder.parent / "state.sh"
        self._state.write_text("")
        self._second: list[subprocess.Popen[str]] = []

    def save(self, block: Block) -> None:
        """A file, whose name stands in its first line."""
        first, rest = block.text.split("\n", 1)
        (self._folder / first.lstrip("# ")).write_text(rest)

    def type(self, block: Block) -> None:
        """What is typed must show what the page shows, and succeed, unless the page says it fails."""
        done = subprocess.run(
            ["sh", "-e", "-c", f". {self._state}\n{block.commands()}\nexport -p > {self._state}"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            cwd=str(self._folder),
            env=self._variables,
            text=True,
            timeout=TIMEOUT,
        )
        failed = done.returncode != 0
        assert failed == (block.note == "fails"), done.stdout
        if block.shown():
            assert fits(block.shown(), done.stdout), done.stdout

    def type_in_second_terminal(self, block: Block) -> None:
        """It stays there; the page goes on when it shows what it says."""
        child = subprocess.Popen(
            ["sh", "-e", "-c", block.commands()],
            stdout=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            cwd=str(self._folder),
            env=self._variables,
            text=True,
            start_new_session=True,
        )
        self._second.append(child)
        assert child.stdout is not None
        assert child.stdout.readline().rstrip() == block.shown()

    def close_second_terminal(self) -> None:
        """As closing its window does."""
        for child in self._second:
            os.killpg(child.pid, signal.SIGTERM)
            child.communicate(timeout=TIMEOUT)


def fits(shown: str, said: str) -> bool:
    """Whether they are equal; … stands for anything, alone on its line for any number of lines."""
    lines = (
        "(?:.*\n)*" if line == "…" else re.escape(line).replace("…", ".*") + "\n"
        for line in shown.split("\n")
    )
    return re.fullmatch("".join(lines), said.rstrip() + "\n") is not None


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    """An empty folder; a ``pip`` that finds the wheel of this checkout, and, as if they had been
    downloaded, its requirements; ``python3`` is the Python that runs this test."""
    wheel = built_wheel(tmp_path / "wheel")
    requirements, bin_folder, folder = (tmp_path / name for name in ("deps", "bin", "reader"))
    for made in (requirements, bin_folder, folder):
        made.mkdir()
    site_packages = [Path(path) for path in sys.path if path.endswith("site-packages")]
    for entry in (entry for path in site_packages for entry in path.iterdir()):
        if not entry.name.lower().startswith(FOREIGN) and not (requirements / entry.name).exists():
            (requirements / entry.name).symlink_to(entry)
    python = bin_folder / "python3"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    variables = environment(
        requirements,
        PATH=os.pathsep.join([str(bin_folder), os.environ.get("PATH", os.defpath)]),
        PIP_NO_INDEX="1",
        PIP_FIND_LINKS=str(wheel.parent),
        PIP_DISABLE_PIP_VERSION_CHECK="1",
        PIP_ROOT_USER_ACTION="ignore",
        LC_ALL="C.UTF-8",
    )
    made_reader = Reader(folder, variables)
    yield made_reader
    made_reader.close_second_terminal()


@pytest.mark.timeout(240)
def test_the_tutorial(reader: Reader) -> None:
    """From an empty folder to the last block, everything is as the page says."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    done = []
    for block in blocks(port):
        if block.language == "python":
            reader.save(block)
        elif block.note == "second terminal":
            reader.type_in_second_terminal(block)
        else:
            assert block.language == "console", block
            reader.type(block)
        done.append(block.language)
    assert (done.count("console"), done.count("python")) == (8, 3)


@pytest.mark.parametrize(
    ("shown", "said", "same"),
    [
        ("a\n…\nb", "a\n1\n2\nb", True),
        ("a\n…\nb", "a\nb", True),
        ("…\nb", "1\n2\nc", False),
        ("a … c", "a b c", True),
        ("a … c", "a\nc", False),
        ("a.c", "abc", False),
        ("a\nb", "a\nb\nc", False),
    ],
)
def test_the_comparison(shown: str, said: str, same: bool) -> None:
    """An ellipsis is anything, alone on a line also lines; all else is literal."""
    assert fits(shown, said) is same
