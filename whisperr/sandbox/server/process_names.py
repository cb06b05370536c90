"""Which process is at the other end of a connection on this machine, as far as Linux tells."""

from __future__ import annotations

import contextlib
import os
import re
from typing import Iterable

_TABLES = ("/proc/net/tcp", "/proc/net/tcp6")
_SOCKET = re.compile(r"socket:\[([0-9]+)\]")
_INTERPRETER = re.compile(r"python[0-9.]*")


def of_ports(ports: Iterable[int]) -> dict[int, str]:
    """``{port: "<pid> <program>"}`` for those local ports whose process is known."""
    wanted = _inodes(set(ports))
    found: dict[int, str] = {}
    if not wanted:
        return found
    for pid in _listed("/proc"):
        if not pid.isdigit() or int(pid) == os.getpid():
            continue
        for descriptor in _listed(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                match = _SOCKET.fullmatch(os.readlink(f"/proc/{pid}/fd/{descriptor}"))
                if match is not None and match.group(1) in wanted:
                    found[wanted[match.group(1)]] = f"{pid} {_program(pid)}".strip()
    return found


def _inodes(ports: set[int]) -> dict[str, int]:
    """The inodes of the sockets whose local port is one of these."""
    inodes: dict[str, int] = {}
    for table in _TABLES:
        with contextlib.suppress(OSError), open(table, encoding="ascii") as lines:
            next(lines, None)
            for line in lines:
                fields = line.split()
                port = int(fields[1].rpartition(":")[2], 16)
                if port in ports and fields[9] != "0":
                    inodes[fields[9]] = port
    return inodes


def _listed(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:  # ended meanwhile, or not ours to see
        return []


def _program(pid: str) -> str:
    """What a person would call the program: the script or module of a Python, never arguments."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            words = file.read(4096).decode("utf-8", "replace").split("\0")
    except OSError:
        return ""
    name = os.path.basename(words[0])
    if _INTERPRETER.fullmatch(name):
        rest = iter(words[1:])
        for word in rest:
            if word == "-m":
                return next(rest, name)
            if word == "-c":
                return name
            if word and not word.startswith("-"):
                return os.path.basename(word)
    # A server that renames itself ("gunicorn: worker [app]") has put all into the first word.
    return words[0].strip() if ":" in words[0] else name
