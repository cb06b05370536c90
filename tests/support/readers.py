"""Who follows a page of the documentation as it stands: saves its files, types its commands.

What differs from a reader's machine: the port and the folders that a page names are free ones,
this checkout is where the page says that it is, and a client without a base URL talks to a sandbox.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from support.installed import environment
from support.pages import ROOT, Block

PORT = "8765"  # of the text
CHECKOUT = "/path/to/whisperr"  # of the text
JOURNAL = "/var/lib/myapp/whisperr"  # of the text
TIMEOUT = 180.0  # seconds for one block
FOREIGN = ("whisperr", "pytest_", "hypothesis", "_hypothesis", "xdist", "execnet")

# With our plugin alone: a reader's pytest has none of those that this test runs under.
PYTEST = ["-m", "pytest", "-q", "-p", "whisperr.pytest_plugin"]

_FILE = re.compile(r"# ([\w.]+\.py)\n")  # a first line that names the file


class Reader:
    """A shell that keeps its variables from one block to the next, in an empty folder."""

    def __init__(self, home: Path, port: str, variables: Mapping[str, str]) -> None:
        self._folder = home / "reader"
        self._folder.mkdir()
        self._state = home / "state.sh"
        self._state.write_text("")
        self._variables = dict(variables)
        self._replaced = {PORT: port, CHECKOUT: str(ROOT), JOURNAL: str(home / "journal")}
        self._second: list[subprocess.Popen[str]] = []

    def follow(self, block: Block, later: list[Block]) -> None:
        """Do what the block says. ``later`` are the blocks behind it on the page."""
        block = Block(
            block.language,
            block.note,
            self._here(block.text),
            block.reason,
            self._here(block.setup),
            self._here(block.check),
        )
        if block.language == "python":
            self._take_program(block, later)
        elif block.note == "second terminal":
            self._type_in_second_terminal(block)
        else:
            self._type(block)

    def close_second_terminal(self) -> None:
        """As closing its window does."""
        for child in self._second:
            os.killpg(child.pid, signal.SIGTERM)
            child.communicate(timeout=TIMEOUT)

    def _here(self, text: str) -> str:
        for of_the_page, here in self._replaced.items():
            text = text.replace(of_the_page, here)
        return text

    # --- Python

    def _take_program(self, block: Block, later: list[Block]) -> None:
        """A block that names a file is that file, which the page, or the check, goes on to use."""
        named = _FILE.match(block.text)
        if named is None:
            self._run(f"{block.setup}{block.text}{block.check}")
            return
        (self._folder / named[1]).write_text(block.text[named.end() :], encoding="utf-8")
        stem = named[1].partition(".")[0]
        if block.check:
            self._run(block.setup + block.check)
        elif not any(re.search(rf"\b{stem}\b", it.text) for it in later if it.language != "python"):
            self._run(f"{block.setup}import runpy\nrunpy.run_path({named[1]!r})\n")

    def _run(self, program: str) -> None:
        """As a script, or as a test of pytest if it has one."""
        is_test = re.search(r"^ *(?:async )?def test_", program, re.MULTILINE)
        name = "test_of_the_page.py" if is_test else "of_the_page.py"
        (self._folder / name).write_text(program, encoding="utf-8")
        status, said = self._wait_for([sys.executable, *(PYTEST if is_test else []), name])
        assert status == 0, f"{program}\n{said}"

    # --- a shell

    def _type(self, block: Block) -> None:
        """What is typed must show what the page shows, and succeed, unless the page says it fails."""
        for around in (block.setup, None, block.check):
            if around is None:
                status, said = self._typed(commands(block))
                assert (status != 0) == (block.note == "fails"), said
                if shown(block):
                    assert fits(shown(block), said), said
            elif around:
                status, said = self._typed(_after_prompts(around))
                assert status == 0, said

    def _typed(self, text: str) -> tuple[int, str]:
        script = f". {self._state}\n{text}\nexport -p > {self._state}"
        return self._wait_for(["sh", "-e", "-c", script])

    def _type_in_second_terminal(self, block: Block) -> None:
        """It stays there; the page goes on when it shows what it says."""
        child = subprocess.Popen(
            ["sh", "-e", "-c", commands(block)],
            stdout=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            cwd=str(self._folder),
            env=self._variables,
            text=True,
            start_new_session=True,
        )
        self._second.append(child)
        assert child.stdout is not None
        assert child.stdout.readline().rstrip() == shown(block)

    def _wait_for(self, command: list[str]) -> tuple[int, str]:
        done = subprocess.run(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            cwd=str(self._folder),
            env=self._variables,
            text=True,
            timeout=TIMEOUT,
        )
        return done.returncode, done.stdout


def commands(block: Block) -> str:
    """What is typed: in a console the lines behind a prompt, else all."""
    return _after_prompts(block.text) if block.language == "console" else block.text


def _after_prompts(text: str) -> str:
    return "\n".join(line[2:] for line in text.splitlines() if line.startswith("$ "))


def shown(block: Block) -> str:
    """What the block says that the reader will see; commands are not echoed."""
    if block.language != "console":
        return ""
    return "\n".join(line for line in block.text.splitlines() if not line.startswith("$ "))


def fits(shown: str, said: str) -> bool:
    """Whether they are equal; … stands for anything, alone on its line for any number of lines."""
    lines = (
        "(?:.*\n)*" if line == "…" else re.escape(line).replace("…", ".*") + "\n"
        for line in shown.split("\n")
    )
    return re.fullmatch("".join(lines), said.rstrip() + "\n") is not None


def variables(home: Path, base_url: str, installs: bool) -> dict[str, str]:
    """Of a reader's shell. ``python3`` is the Python that runs this test.

    A reader who installs whisperr doesn't have it yet, but ``pip`` finds what it needs as if it
    had been downloaded. All others have what this test has.
    """
    bin_folder, site = home / "bin", home / "site"
    for folder in (bin_folder, site):
        folder.mkdir()
    for name in ("python3", "python"):
        python = bin_folder / name
        python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
        python.chmod(0o755)
    folders = [bin_folder]
    if installs:
        _link_requirements(site)
    else:
        folders.append(Path(sys.executable).parent)
    return environment(
        site,
        PATH=os.pathsep.join([*map(str, folders), os.environ.get("PATH", os.defpath)]),
        PYTEST_DISABLE_PLUGIN_AUTOLOAD="" if installs else "1",
        PIP_NO_COMPILE="1",
        PIP_NO_INDEX="1",
        PIP_NO_BUILD_ISOLATION="0",  # which pip reads as "build isolation: no"
        PIP_DISABLE_PIP_VERSION_CHECK="1",
        PIP_ROOT_USER_ACTION="ignore",
        LC_ALL="C.UTF-8",
        WHISPERR_BASE_URL=base_url,
    )


def _link_requirements(site: Path) -> None:
    site_packages = [Path(path) for path in sys.path if path.endswith("site-packages")]
    for entry in (entry for path in site_packages for entry in path.iterdir()):
        if not entry.name.lower().startswith(FOREIGN) and not (site / entry.name).exists():
            (site / entry.name).symlink_to(entry)
